"""Every method trains with one set of bits: reference, generated C on this PC, firmware with and without an FPU."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

from codegen.board import load_board
from codegen.compilers import find_riscv_compilers
from tests.quantized import METHODS, TRAINABLE, samples
from toolkit.pipeline import Compiled, Options, compile_model
from toolkit.quant import parse_plan
from toolkit.sim.parity import verify_bits

needs_emulator = [
    pytest.mark.emulator,
    pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed"),
    pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed"),
]


def _compiled(
    model: str, method: str, train: str = "all", profile: str = "rv32imafc", batch: int | None = None
) -> Compiled:
    board = load_board("qemu-rv32").with_profile(profile)
    plan = parse_plan(method)
    options = Options(train, fma=board.fma, quant=plan, samples=samples, isa=board.cpu.isa, batch=batch)
    return compile_model(model, options)


@pytest.mark.parametrize("method", TRAINABLE)
def test_training_is_the_same_to_the_bit_on_host(method: str) -> None:
    report = verify_bits(_compiled("lenet", method), ["reference", "host"], steps=3)
    assert report.differing_bits == 0, report.first_difference
    assert report.compared_bits > 1_000_000


@pytest.mark.parametrize("method", TRAINABLE)
def test_training_in_batches_with_batch_norm_is_the_same_to_the_bit_on_host(method: str) -> None:
    report = verify_bits(_compiled("small-resnet", f"{method}", batch=3), ["reference", "host"], steps=2)
    assert report.differing_bits == 0, report.first_difference


@pytest.mark.parametrize("method", METHODS)
def test_inference_is_the_same_to_the_bit_on_host(method: str) -> None:
    for model in ("lenet", "small-resnet"):
        report = verify_bits(_compiled(model, method, "none"), ["reference", "host"], steps=2)
        assert report.differing_bits == 0, (model, report.first_difference)


@pytest.mark.parametrize("method", TRAINABLE)
def test_training_changes_the_weights_and_the_outputs(method: str) -> None:
    """A step that does nothing would pass every comparison."""
    from toolkit.sim.backend import open_backend
    from toolkit.sim.parity import random_samples

    compiled = _compiled("lenet", method)
    inputs, label = next(random_samples(compiled, 0))
    assert label is not None
    with open_backend(compiled, "host") as backend:
        backend.learning_rate = 0.05
        before, output = backend.state(), backend.infer(inputs)[0].copy()
        for _ in range(5):
            assert backend.train_step(inputs, label)[0] == "ET_OK"
        after, outcome = backend.state(), backend.infer(inputs)[0]
    weights = [name for name in compiled.trained if "weight" in name]
    changed = [name for name in weights if not np.array_equal(before[name], after[name])]
    assert changed == weights
    assert not np.array_equal(output, outcome)


# With float instructions, where there is little time: one of each kind.
QUICK_WITH_FLOATS = ("dorefa:w1a1g6", "binaryconnect:det", "ab-bnn", "fp16", "fp16:accumulate=native", "fixed8")


def _methods_and_profiles() -> list[Any]:
    slow = pytest.mark.slow
    floats = [pytest.param(m, "rv32imafc", marks=() if m in QUICK_WITH_FLOATS else slow) for m in TRAINABLE]
    return [*floats, *((method, "rv32imac") for method in TRAINABLE)]


class TestOnRv32:
    pytestmark = needs_emulator

    @pytest.mark.parametrize(("method", "profile"), _methods_and_profiles())
    def test_training_is_the_same_to_the_bit(self, method: str, profile: str) -> None:
        compiled = _compiled("digits-cnn", method, profile=profile)
        report = verify_bits(compiled, ["reference", "qemu-rv32"], 2, profile=profile)
        assert report.differing_bits == 0, report.first_difference

    @pytest.mark.parametrize("method", METHODS)
    def test_inference_is_the_same_to_the_bit(self, method: str) -> None:
        compiled = _compiled("digits-cnn", method, "none", "rv32imac")
        report = verify_bits(compiled, ["reference", "qemu-rv32"], 2, profile="rv32imac")
        assert report.differing_bits == 0, report.first_difference

    @pytest.mark.slow
    @pytest.mark.parametrize("method", TRAINABLE)
    def test_fifty_steps_of_lenet(self, method: str) -> None:
        report = verify_bits(_compiled("lenet", method), ["reference", "host", "qemu-rv32"], steps=50)
        assert report.differing_bits == 0, report.first_difference
