"""What `edgetrain finetune` shows and asks of boards, with boards that only pretend: how often it averages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import toolkit.cli.finetune as finetune
from toolkit.link.exchange import Traffic
from toolkit.link.messages import Counted, Stats

SAMPLES = 13


class Pretended:
    """Does as a board without a flash would, but learns nothing."""

    def __init__(self, compiled: Any, name: str) -> None:
        self.compiled, self.name = compiled, name
        self.session = SimpleNamespace(board=SimpleNamespace(stores=False), traffic=Traffic())
        self.learning_rate, self.seed, self.step = 0.0, 0, 0
        self.trained, self.given = 0, 0
        self.values = {buffer.name: np.zeros(buffer.shape, buffer.dtype) for buffer in compiled.program.params}

    def init(self) -> None:
        self.step = 0

    def train_step(self, inputs: Any, label: Any) -> tuple[str, np.float32]:
        self.trained += 1
        return "ET_OK", np.float32(0.25)

    def evaluate(self, inputs: Any, label: Any) -> Counted:
        return Counted(0, -1, 1, self.trained % 2)

    def stats(self) -> Stats:
        return Stats(4321, 100, 200)

    def state(self) -> dict[str, Any]:
        return dict(self.values)

    def set_state(self, values: Any) -> None:
        self.given += 1

    def close(self) -> None:
        return

    def __enter__(self) -> Pretended:
        return self

    def __exit__(self, *error: object) -> None:
        return


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command: what it tells, the boards, and what the bar was given."""
    boards: list[Pretended] = []
    shown: list[tuple[str, int, int | None, str]] = []

    def connect(request: Any, compiled: Any, port: Any, name: str, *rest: Any) -> Pretended:
        boards.append(Pretended(compiled, name))
        return boards[-1]

    @contextmanager
    def progress() -> Iterator[Any]:
        yield lambda name, done, total, detail="": shown.append((name, done, total, detail))

    monkeypatch.setattr(finetune, "_connect", connect)
    monkeypatch.setattr(finetune, "progress", progress)
    np.savez(tmp_path / "data.npz", x=np.ones((SAMPLES, 1, 8, 8), np.float32), y=np.arange(SAMPLES) % 10)

    def go(*words: str) -> tuple[dict[str, Any], list[Pretended], list[tuple[str, int, int | None, str]]]:
        data = str(tmp_path / "data.npz")
        line = ["digits-cnn", "--train", "head", "--batch", "1", "--data", data, "--json", *words]
        done = CliRunner().invoke(finetune.command, line, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout), boards, shown

    go.data = str(tmp_path / "data.npz")  # type: ignore[attr-defined]
    return go


def test_the_bar_tells_steps_loss_accuracy_pace_and_instructions(run: Any) -> None:
    told, boards, shown = run("--epochs", "3", "--eval", run.data, "--eval-every", "1")
    steps = [(done, total, detail) for name, done, total, detail in shown if name == "training on the board"]
    assert [done for done, _, _ in steps] == list(range(1, 3 * SAMPLES + 1)) and {total for _, total, _ in steps} == {
        39
    }
    assert steps[0][2].startswith("loss 0.2500, ") and steps[0][2].endswith(" ms, 4,321 instructions per step")
    assert "accuracy 100.00%, " in steps[SAMPLES][2] and "accuracy 0.00%, " in steps[-1][2]
    assert told["accuracies"] == [1.0, 0.0, 1.0] and told["accuracy"] == 1.0
    assert (told["instructions_per_step"], told["steps"], boards[0].trained) == (4321, 39, 39)


def test_accuracy_is_measured_once_where_nothing_else_is_asked_for(run: Any) -> None:
    assert run("--epochs", "2", "--eval", run.data)[0]["accuracies"] == [0.0]
    assert run("--epochs", "2")[0]["accuracy"] is None


@pytest.mark.parametrize(("every", "rounds"), [(4, 4), (7, 2), (100, 1)])
def test_boards_are_averaged_as_often_as_asked(run: Any, every: int, rounds: int) -> None:
    told, boards, shown = run("--boards", "2", "--epochs", "2", "--average-every", str(every))
    boards.sort(key=lambda board: board.name)  # they are opened side by side: either may be the first
    assert [board.trained for board in boards] == [14, 12] and told["steps"] == 26
    assert [done for name, done, _, _ in shown if name == "rounds of training"] == list(range(1, rounds + 1))
    # The first round begins with the weights of the compilation, the end with those that were averaged last.
    assert {board.given for board in boards} == {rounds}
