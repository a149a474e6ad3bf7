"""Three emulated boards, each with a third of the samples, learn as much together as one board that has them all.

That one is run on this PC, with the bits of a board (tests/test_parity_on_rv32.py): it takes seconds, not minutes.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from codegen.compilers import find_riscv_compilers
from tests.data_folder import NEEDS_DATA
from tests.test_finetune_interrupted import state_without_interruption
from tests.test_finetune_real_data import Images, mnist
from toolkit.cli import finetune, main
from toolkit.pipeline import Options, compile_model
from toolkit.sim.backend import open_backend
from toolkit.sim.device import DeviceBackend
from toolkit.sim.finetune import Plan
from toolkit.sim.trainer import accuracy

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed"),
    pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed"),
    *NEEDS_DATA,
]
EPOCHS, RATE = 5, 0.02


def through_memory(request: Any, compiled: Any, port: None, name: str, *rest: Any) -> DeviceBackend:
    """Samples and weights go through the emulator's memory, not its line: that changes no bit, and saves minutes."""
    return DeviceBackend(compiled, request.board())


def test_within_one_point(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune, "_connect", through_memory)
    images = mnist()
    lesson, test = Images(images.x[:2400], images.y[:2400]), Images(images.x[5000:7000], images.y[5000:7000])
    compiled = compile_model("cnn", Options(train="all", batch=1))
    alone = state_without_interruption(compiled, Plan(lesson.x, lesson.y, EPOCHS, RATE, "linear"))
    with open_backend(compiled) as host:
        host.set_state(alone)
        one = accuracy(host, test.x, test.y)

    words = ["finetune", "cnn", "--train", "all", "--batch", "1", "--boards", "3", "--average-every", "50"]
    words += ["--epochs", str(EPOCHS), "--lr", str(RATE), "--schedule", "linear", "--save-every", "100000", "--json"]
    words += ["--data", lesson.save(tmp_path / "lesson.npz"), "--eval", test.save(tmp_path / "test.npz")]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    print(f"one board {one:.2%}, three boards {told['accuracy']:.2%}")
    assert told["steps"] == EPOCHS * len(lesson.x) and not any(told["lost"].values())
    assert one > 0.93 and told["accuracy"] >= one - 0.01
