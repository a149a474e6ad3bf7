"""Planned bytes are what the linker places and what the firmware touches, to the byte, for every model of the zoo."""

from __future__ import annotations

import shutil

import pytest

from codegen.board import load_board
from codegen.compilers import find_riscv_compilers
from toolkit.pipeline import Options, compile_model
from toolkit.sim.device import DeviceBackend
from toolkit.sim.parity import random_samples
from toolkit.train.step import TrainingOptions
from toolkit.zoo import zoo_names

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
        assert device.image.sizes["arena"] == touched.arena_bytes == program.arena_bytes == program.lower_bound
        assert device.image.sizes["params"] == program.params_bytes
        counted = device.image.sizes["stack_counted"]
        assert touched.stack_bytes <= counted <= device.image.sizes["stack"]
        # Of the longest path not every part is taken: the pointers of the link, and the last tile of a layer.
        assert counted - touched.stack_bytes <= 512
        assert not touched.outside
