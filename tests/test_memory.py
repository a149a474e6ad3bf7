"""Planned bytes are what the linker places and what the firmware touches, to the byte, for every model of the zoo."""

from __future__ import annotations

import shutil

import pytest

from codegen.board import load_board
from codegen.compilers import find_riscv_compilers
from codegen.program import aligned
from toolkit.bench.memory import measure_memory
from toolkit.cli import main
from toolkit.fit.candidates import schemes
from toolkit.pipeline import Options, compile_model, load
from toolkit.sim.device import DeviceBackend
from toolkit.sim.parity import random_samples
from toolkit.train.step import TrainingOptions
from toolkit.zoo import zoo_names

# Of the models with 96x96 inputs, which take minutes each, the schemes are left to `edgetrain bench memory`.
SMALL = [model for model in zoo_names() if not model.endswith("-96")]

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed"),
    pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed"),
]


@pytest.mark.parametrize("model", zoo_names())
def test_planned_linked_and_touched_are_the_same_bytes(model: str) -> None:
    loss = "mse" if model == "autoencoder" else "cross-entropy"
    compiled = compile_model(model, Options(train="all", training=TrainingOptions(loss=loss)))
    program = compiled.program
    inputs, label = next(random_samples(compiled, 0))
    assert label is not None
    with DeviceBackend(compiled, load_board("qemu-rv32")) as device:
        device.infer(inputs)
        assert device.train_step(inputs, label)[0] == "ET_OK"
        touched = device.arena_touched()
        # A mask of bits at the top may end before the alignment does.
        assert device.image.sizes["arena"] == aligned(touched.arena_bytes) == program.arena_bytes == program.lower_bound
        assert device.image.sizes["params"] == program.params_bytes
        counted = device.image.sizes["stack_counted"]
        assert touched.stack_bytes <= counted <= device.image.sizes["stack"]
        # Of the longest path not every part is taken: the pointers of the link, and the last tile of a layer.
        assert counted - touched.stack_bytes <= 512
        assert not touched.outside


@pytest.mark.slow
@pytest.mark.parametrize("model", SMALL)
def test_every_scheme_of_a_model_is_exact(model: str) -> None:
    rows = [measure_memory(model, scheme, "rv32imafc") for scheme in ("none", *schemes(load(model, Options())))]
    assert not [row for row in rows if not row.exact]
    assert not [row for row in rows if not row.stack_counted]


@pytest.mark.slow
def test_nine_of_ten_plans_are_at_their_bound() -> None:
    programs = []
    for model in SMALL:
        training = TrainingOptions(loss="mse" if model == "autoencoder" else "cross-entropy")
        for scheme in ("none", *schemes(load(model, Options()))):
            programs.append(compile_model(model, Options(train=scheme, training=training)).program)
    at_bound = sum(program.arena_bytes == program.lower_bound for program in programs)
    assert at_bound >= 0.9 * len(programs)


def test_the_table_of_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "memory", "digits-cnn", "--train", "none", "--train", "last:1"]) == 0
    assert "2 of 2 exact, 2 at the lower bound (100 %)" in capsys.readouterr().out
