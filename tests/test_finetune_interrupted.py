"""Ctrl-C while a board learns: the command ends well, and once more leads to the weights of a run without it."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegen.compilers import find_riscv_compilers
from toolkit.data.digits import load_digits
from toolkit.frontend.export import export_model
from toolkit.ir import Array
from toolkit.pipeline import Options, compile_model
from toolkit.sim.backend import open_backend
from toolkit.sim.finetune import Plan
from toolkit.sim.trainer import Schedule, inward, label

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed"),
    pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed"),
]
SAMPLES, EPOCHS, RATE, SEED = 300, 2, 0.02, 3
_SECONDS = 400


@dataclass(frozen=True)
class Ended:
    """How a command in a terminal ended."""

    code: int
    told: dict[str, Any]
    shown: str


def typed(words: list[str], presses: int) -> Ended:
    """Runs `edgetrain finetune` in a terminal; as soon as it trains, Ctrl-C goes to all of its processes."""
    terminal, its = pty.openpty()
    command = [sys.executable, "-m", "toolkit.cli", "finetune", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=its, start_new_session=True, text=True)
    os.close(its)
    shown = bytearray()

    def press() -> None:
        for _ in range(presses):
            time.sleep(0.1)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)

    def watch() -> None:
        pressed = presses == 0
        while True:
            try:
                shown.extend(os.read(terminal, 4096))
            except OSError:  # the other end is closed
                return
            if not pressed and b"instructions per step" in shown:
                pressed = True
                threading.Thread(target=press).start()

    watcher = threading.Thread(target=watch)
    watcher.start()
    stdout, _ = process.communicate(timeout=_SECONDS)
    watcher.join()
    os.close(terminal)
    return Ended(process.returncode, json.loads(stdout or "{}"), shown.decode(errors="replace"))


def state_without_interruption(compiled: Any, plan: Plan) -> dict[str, Array]:
    """On this PC: bit for bit that of a board."""
    with open_backend(compiled) as host:
        host.seed = plan.seed
        total = plan.epochs * len(plan.x)
        rates = Schedule(plan.schedule, plan.learning_rate, total)
        for step in range(total):
            epoch, within = divmod(step, len(plan.x))
            chosen = plan.order(epoch)[within : within + 1]
            host.learning_rate = rates.rate(step)
            host.train_step([inward(host, plan.x[chosen])], label(host, plan.y[chosen]))
        return host.state()


@pytest.mark.parametrize("presses", [1, 2])
def test_the_same_command_goes_on_to_the_same_weights(presses: int, tmp_path: Path) -> None:
    data, out, wanted = load_digits(), tmp_path / "tuned.onnx", tmp_path / "wanted.onnx"
    np.savez(tmp_path / "data.npz", x=data.x[:SAMPLES], y=data.y[:SAMPLES])
    words = ["digits-cnn", "--train", "head", "--batch", "1", "--lr", str(RATE), "--schedule", "linear"]
    words += ["--seed", str(SEED), "--epochs", str(EPOCHS), "--save-every", "20", "--pull", str(out), "--json"]
    words += ["--data", str(tmp_path / "data.npz"), "--flash", str(tmp_path / "flash.bin")]

    first = typed(words, presses)
    assert first.code != 0 and "saving a state on the board" in first.shown
    if presses == 1:
        assert first.code == 1 and "Traceback" not in first.shown
        assert first.told["interrupted"] and 0 < first.told["steps"] < EPOCHS * SAMPLES
    out.unlink(missing_ok=True)

    again = typed(words, 0)
    assert again.code == 0 and again.told["steps"] == EPOCHS * SAMPLES and not again.told["interrupted"]
    # The second Ctrl-C may have come before that state was whole: then an older one is gone on from.
    assert presses == 2 or again.told["resumed_at"] == first.told["steps"]

    compiled = compile_model("digits-cnn", Options(train="head", batch=1))
    state = state_without_interruption(compiled, Plan(data.x[:SAMPLES], data.y[:SAMPLES], EPOCHS, RATE, "linear", SEED))
    export_model("digits-cnn", compiled.model, state, wanted)
    assert out.read_bytes() == wanted.read_bytes()
