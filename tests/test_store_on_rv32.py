"""The flash store in firmware: states outlive a reset, a cut of power in the middle of a save, and the emulator."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from codegen.board import load_board
from codegen.compilers import find_riscv_compilers
from codegen.program import Array
from toolkit.errors import UserError
from toolkit.link.messages import BoardReset
from toolkit.link.session import Session
from toolkit.pipeline import Options, compile_model
from toolkit.sim.device import DeviceBackend
from toolkit.sim.emulator import Emulator
from toolkit.sim.parity import random_samples

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed"),
    pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed"),
]


@pytest.fixture(scope="module")
def device() -> Iterator[DeviceBackend]:
    compiled = compile_model("digits-cnn", Options(train="all"))
    with DeviceBackend(compiled, load_board("qemu-rv32"), direct=False) as backend:
        yield backend


def trained(device: DeviceBackend, seed: int) -> dict[str, Array]:
    """The state after one more step."""
    inputs, label = next(random_samples(device.compiled, seed))
    assert label is not None
    assert device.train_step(inputs, label)[0] == "ET_OK"
    return device.state()


def same(first: dict[str, Array], second: dict[str, Array]) -> bool:
    return all(np.array_equal(value, second[name]) for name, value in first.items())


def test_a_state_outlives_a_reset(device: DeviceBackend) -> None:
    device.learning_rate, device.seed = 0.125, 77
    old = trained(device, 1)
    assert device.session.save(mark=5).status == 0
    assert not same(old, trained(device, 2))
    device.session.reset()
    assert same(old, device.state())
    assert (device.learning_rate, device.seed, device.step) == (0.125, 77, 1)


@pytest.mark.parametrize("cut", [1, 1000, 4097, 4200, 8300, 9000, 1 << 20])
def test_power_that_goes_in_a_save_leaves_the_old_state_or_the_new(device: DeviceBackend, cut: int) -> None:
    session = device.session
    device.init()
    states = [trained(device, 1)]
    session.save(mark=0)
    states.append(trained(device, 2))
    device.emulator.poke(device.image.symbols["et_flash_power"], cut.to_bytes(4, "little"))
    try:
        finished = session.save(mark=1).status == 0
    except BoardReset:
        finished = False
        session.reopen()
    assert finished == (cut == 1 << 20)
    found = session.load()
    assert found.mark == finished
    assert same(states[found.mark], device.state())
    device.emulator.poke(device.image.symbols["et_flash_power"], bytes(4))


def test_evaluation_agrees_with_the_outputs(device: DeviceBackend) -> None:
    device.init()
    for seed in range(8):
        inputs, label = next(random_samples(device.compiled, seed))
        assert label is not None
        right = int(device.infer(inputs)[0].argmax()) == int(label[0])
        device.put_sample(inputs, label)
        counted = device.session.evaluate()
        assert (counted.status, counted.samples, counted.correct) == (0, 1, right)


def test_a_flash_kept_in_a_file_outlives_the_emulator(device: DeviceBackend, tmp_path: Path) -> None:
    flash = tmp_path / "flash.bin"
    with Emulator(device.image.elf, device.target, flash) as first:
        session = Session(first.stream, wait_ready=20)
        session.set_scalars(step=1234)
        assert session.save(mark=9).status == 0
    assert flash.stat().st_size == 1 << 20
    with Emulator(device.image.elf, device.target, flash) as second:
        session = Session(second.stream, wait_ready=20)
        assert session.scalars().step == 1234
        assert session.load().mark == 9


def test_a_flash_file_of_another_size_is_refused(device: DeviceBackend, tmp_path: Path) -> None:
    flash = tmp_path / "flash.bin"
    flash.write_bytes(bytes(100))
    with pytest.raises(UserError, match="100 bytes"), Emulator(device.image.elf, device.target, flash):
        pass
    assert flash.stat().st_size == 100
