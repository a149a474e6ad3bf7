"""Every update scheme with every codec of saved tensors: the same bits in the reference, on this PC and on RISC-V.

The whole product for a small model; for each of the others as many pairs as a seed draws.
"""

from __future__ import annotations

import random
import shutil

import pytest

from codegen.board import load_board
from codegen.compilers import find_riscv_compilers
from toolkit.errors import UserError
from toolkit.fit.candidates import schemes
from toolkit.ir import Graph
from toolkit.pipeline import Compiled, Options, compile_graph, load
from toolkit.sim.parity import verify_bits
from toolkit.train.codecs import parse_save
from toolkit.train.codecs.codec import codecs
from toolkit.train.step import TrainingOptions
from toolkit.zoo import zoo_names

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed"),
    pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed"),
]

WHOLE = ("digits-cnn",)
# Of its ReLUs, which lie in front of max pools, nothing is kept: what is said of ReLUs goes to this one.
WITH_RELUS = "lenet"
PAIRS = 2
# What --save may say; "*=" asks for a codec where the general form would leave a tensor to an exact mask. A codec that
# has no word here fails the test below.
SAVES = (
    "", "*=fp32", "fp16", "*=fp16", "bf16", "int8", "*=int8", "recompute", "*=recompute", "mask", "mask:1", "mask:2",
    "mask:3", "mask:4", "mask:approx", "*elu*=mask:helu", "fp16,*elu*=recompute",
)  # fmt: skip


def compiled(model: str, graph: Graph, scheme: str, save: str, profile: str) -> Compiled | None:
    """The model as asked for; None where it has no tensor that the codec keeps."""
    board = load_board("qemu-rv32").with_profile(profile)
    training = TrainingOptions(loss="mse" if model == "autoencoder" else "cross-entropy")
    options = Options(scheme, training, fma=board.fma, isa=board.cpu.isa, save=parse_save(save))
    try:
        return compile_graph(graph, options, model)
    except UserError as refusal:
        assert save and refusal.where is not None and refusal.where.startswith("--save"), (scheme, save)
        return None


def assert_same_everywhere(each: Compiled, profile: str) -> None:
    """One inference and one training step."""
    report = verify_bits(each, ["reference", "host", "qemu-rv32"], steps=1, profile=profile)
    assert report.compared_bits > 0
    assert report.differing_bits == 0, (each.options.train, each.options.save.text, report.first_difference)


def test_every_codec_has_its_turn() -> None:
    words = {part.rpartition("=")[2] for save in SAVES for part in save.split(",")}
    assert {word.removesuffix(f":{bits}") for word in words for bits in (1, 2, 3, 4)} >= set(codecs())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "save"), [(WITH_RELUS if "elu" in save else model, save) for model in WHOLE for save in SAVES]
)
def test_the_whole_product_of_a_small_model(model: str, save: str) -> None:
    graph = load(model, Options())
    every = ["head", *schemes(graph)]
    found = [compiled(model, graph, scheme, save, "rv32imafc") for scheme in every]
    for each in found:
        if each is not None:
            assert_same_everywhere(each, "rv32imafc")
    assert save in ("mask:approx",) or any(found)


@pytest.mark.slow
@pytest.mark.parametrize("model", [model for model in zoo_names() if model not in WHOLE and not model.endswith("-96")])
def test_pairs_that_a_seed_draws(model: str) -> None:
    draw = random.Random(model)
    graph = load(model, Options())
    every = schemes(graph)
    met = 0
    while met < PAIRS:
        profile = "rv32imafc" if met < PAIRS - 1 else "rv32imac"
        each = compiled(model, graph, draw.choice(every), draw.choice(SAVES), profile)
        if each is not None:
            assert_same_everywhere(each, profile)
            met += 1
