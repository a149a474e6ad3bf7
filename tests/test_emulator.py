"""The same bits on a board: firmware in QEMU against the reference, over cores with and without float instructions."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from codegen.board import load_board
from codegen.compilers import find_riscv_compilers
from codegen.program import Array
from toolkit.errors import UserError
from toolkit.link.messages import Trapped
from toolkit.link.session import Session
from toolkit.pipeline import Compiled, Options, compile_model
from toolkit.sim import emulator
from toolkit.sim.device import DeviceBackend
from toolkit.sim.emulator import Emulator
from toolkit.sim.parity import random_samples, verify_bits
from toolkit.train.step import TrainingOptions

ROOT = Path(__file__).resolve().parent.parent

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed"),
    pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed"),
]


@cache
def digits(train: str = "all", fma: bool = True, training: TrainingOptions | None = None) -> Compiled:
    return compile_model("digits-cnn", Options(train=train, fma=fma, training=training or TrainingOptions()))


@pytest.fixture(scope="module")
def device() -> Iterator[DeviceBackend]:
    with DeviceBackend(digits(), load_board("qemu-rv32"), "rv32imafc") as backend:
        yield backend


def sample(compiled: Compiled, seed: int = 0) -> tuple[list[Array], Array]:
    inputs, label = next(random_samples(compiled, seed))
    assert label is not None
    return inputs, label


@pytest.mark.parametrize(("profile", "fma"), [("rv32imafc", True), ("rv32imac", False), ("rv32ic", False)])
def test_training_gives_the_same_bits_on_every_core(profile: str, fma: bool) -> None:
    report = verify_bits(digits(fma=fma), ["reference", "qemu-rv32"], 2, profile=profile)
    assert report.compared_bits > 100_000
    assert report.differing_bits == 0, report.first_difference


def test_a_core_without_the_instruction_fuses_all_the_same() -> None:
    report = verify_bits(digits("head", fma=True), ["reference", "qemu-rv32"], 1, profile="rv32imac")
    assert report.differing_bits == 0, report.first_difference


def test_adam_over_accumulated_batches_gives_the_same_bits() -> None:
    training = TrainingOptions(optimizer="adam", accumulate=2)
    report = verify_bits(digits("head", training=training), ["reference", "host", "qemu-rv32"], 4)
    assert report.differing_bits == 0, report.first_difference


def test_training_fits_into_16_kib_with_the_same_bits() -> None:
    report = verify_bits(digits("head", fma=False), ["reference", "hifive1"], 2)
    assert report.differing_bits == 0, report.first_difference


def test_nothing_is_touched_outside_of_the_plan(device: DeviceBackend) -> None:
    program = device.compiled.program
    device.init()
    device.infer(sample(device.compiled)[0])
    inference = device.arena_touched()
    assert program.functions["infer"].peak - 4 < inference.arena_bytes <= program.functions["infer"].peak
    device.train_step(*sample(device.compiled))
    training = device.arena_touched()
    assert training.arena_bytes == device.stats().arena_bytes == program.arena_bytes
    assert not training.outside
    assert 0 < training.stack_bytes < 2048


def test_counts_of_instructions_repeat_exactly(device: DeviceBackend) -> None:
    counts = []
    for _ in range(2):
        device.init()
        device.train_step(*sample(device.compiled))
        counts.append(device.stats().instructions)
    assert counts[0] == counts[1] > 10_000


def test_state_and_scalars_are_read_back_as_written(device: DeviceBackend) -> None:
    device.init()
    device.learning_rate, device.seed, device.step = 0.25, 7, 9
    assert (device.learning_rate, device.seed, device.step, device.failed_step) == (0.25, 7, 9, -1)
    now = device.state()
    wanted = {name: np.arange(value.size, dtype=np.float32).reshape(value.shape) for name, value in now.items()}
    device.set_state(wanted)
    found = device.state()
    assert all(np.array_equal(found[name], value) for name, value in wanted.items())


def test_a_bad_label_is_refused_and_changes_nothing(device: DeviceBackend) -> None:
    device.init()
    before = device.state()
    inputs, label = sample(device.compiled)
    status, loss = device.train_step(inputs, np.full_like(label, 10))
    assert status == "ET_BAD_LABEL" and np.isnan(loss)
    assert all(np.array_equal(before[name], value) for name, value in device.state().items())


def test_the_serial_line_gives_the_same_as_direct_memory(device: DeviceBackend) -> None:
    inputs, label = sample(device.compiled, 5)
    device.init()
    assert device._direct
    direct = (device.infer(inputs)[0], *device.train_step(inputs, label), device.state())
    device._direct = False
    try:
        device.init()
        line = (device.infer(inputs)[0], *device.train_step(inputs, label), device.state())
    finally:
        device._direct = True
    assert direct[0].tobytes() == line[0].tobytes() and direct[1:3] == line[1:3]
    assert all(direct[3][name].tobytes() == value.tobytes() for name, value in line[3].items())


def test_exit_code_reaches_the_pc(device: DeviceBackend) -> None:
    with Emulator(device.image.elf, device.target) as running:
        session = Session(running.stream, wait_ready=10)
        session.exit(7)
        assert running.wait(5) == 7


def test_a_forbidden_instruction_is_told_as_a_trap(device: DeviceBackend) -> None:
    plain = load_board("qemu-rv32").with_profile("rv32imac")
    with Emulator(device.image.elf, plain) as running:
        with pytest.raises(Trapped, match="mcause 2") as caught:
            Session(running.stream, wait_ready=10).infer()
        assert running.wait(5) == 99
    assert device.image.symbols["_start"] <= caught.value.pc


def test_a_killed_emulator_gives_a_clear_error() -> None:
    with DeviceBackend(digits("none"), load_board("qemu-rv32")) as backend:
        os.kill(backend.emulator.pid, signal.SIGKILL)
        with pytest.raises(UserError, match="SIGKILL") as caught:
            backend.infer(next(random_samples(backend.compiled, 0))[0])
        assert caught.value.hint


def test_a_hung_firmware_gives_a_clear_error(device: DeviceBackend) -> None:
    with Emulator(device.image.elf, device.target) as running:
        session = Session(running.stream, wait_ready=10, timeout=0.05, attempts=2)
        os.kill(running.pid, signal.SIGSTOP)
        with pytest.raises(UserError, match="does not answer"):
            session.scalars()
        os.kill(running.pid, signal.SIGCONT)


def test_a_killed_program_leaves_no_emulator_behind(device: DeviceBackend) -> None:
    script = (
        "import sys, os, signal; from pathlib import Path; from codegen.board import load_board\n"
        "from toolkit.sim.emulator import Emulator\n"
        f"running = Emulator(Path({str(device.image.elf)!r}), load_board('qemu-rv32'))\n"
        "print(running.pid, running._folder, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT).stdout
    pid, folder = said.split()
    end = time.monotonic() + 5
    while time.monotonic() < end and (_runs(int(pid)) or Path(folder).exists()):
        time.sleep(0.02)
    assert not _runs(int(pid)) and not Path(folder).exists()


def _runs(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().split(")")[-1].split()[0] != "Z"


def test_a_missing_emulator_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="is not installed") as caught:
        Emulator(Path("firmware.elf"), load_board("qemu-rv32"))
    assert "apt-get install" in str(caught.value.hint)


def test_an_emulator_that_refuses_is_quoted(tmp_path: Path) -> None:
    missing = tmp_path / "absent.elf"
    told = pytest.raises(UserError, match="could not load kernel")
    with told, Emulator(missing, load_board("qemu-rv32")) as running:
        Session(running.stream, wait_ready=10)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_board_that_waits_for_a_request_takes_no_time_of_this_pc(device: DeviceBackend) -> None:
    def seconds() -> float:
        fields = Path(f"/proc/{device.emulator.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    device.session.stats()
    time.sleep(0.05)
    before = seconds()
    time.sleep(0.2)
    assert seconds() == before
    assert device.session.stats().instructions >= 0


def test_closing_leaves_no_process_and_no_file(device: DeviceBackend) -> None:
    running = Emulator(device.image.elf, device.target)
    memory, folder = running._memory_file, running._folder
    assert memory is not None and memory.exists() and running.alive
    running.close()
    running.close()
    assert not running.alive and not memory.exists() and not folder.exists()


@pytest.mark.parametrize("compiler", [compiler.name for compiler in find_riscv_compilers()])
def test_every_compiler_gives_the_same_bits(compiler: str) -> None:
    report = verify_bits(digits("head"), ["reference", "qemu-rv32"], 1, compiler=compiler)
    assert report.differing_bits == 0, report.first_difference
