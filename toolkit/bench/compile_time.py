"""How long `edgetrain` takes on this PC, as a user waits for it: from the start of the process to its end."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from toolkit.bench.rv32 import LOSS
from toolkit.errors import UserError


@dataclass(frozen=True)
class CompileRow:
    """A command, several times.

    Attributes:
        command: what was timed.
        seconds: median.
        minimum: the shortest time, in seconds.
        rounds: how often.
    """

    command: str
    seconds: float
    minimum: float
    rounds: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def time_help(rounds: int) -> CompileRow:
    """`edgetrain --help`, which imports what every command does."""
    return _row("edgetrain --help", [_timed(_edgetrain("--help"), "edgetrain --help") for _ in range(rounds)])


def time_compile(model: str, options: Sequence[str], rounds: int, make: bool = False) -> list[CompileRow]:
    """`edgetrain compile` of a model of the zoo, and if asked for, `make` of what it wrote.

    Args:
        options: of the command, --output and --loss aside.

    Raises:
        UserError: one of them fails.
    """
    words = ["compile", model, *options]
    if model in LOSS:
        words += ["--loss", LOSS[model]]
    command = f"edgetrain {' '.join(words)}"
    compiled, made = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="edgetrain-") as place:
            folder = Path(place) / "model"
            compiled.append(_timed([*_edgetrain(*words), "--output", str(folder)], command))
            if make:
                made.append(_timed(["make", "-C", str(folder)], f"make after {command}"))
    return [_row(command, compiled), *([_row("make of that", made)] if make else [])]


def compile_markdown(rows: Sequence[CompileRow]) -> str:
    """A table."""
    lines = ["| command | seconds |", "|---|--:|"]
    lines += [f"| `{row.command}` | {row.seconds:.2f} ({row.minimum:.2f}) |" for row in rows]
    rounds = " to ".join(str(each) for each in sorted({row.rounds for row in rows}))
    return "\n".join([*lines, "", f"Processes from start to end: median (minimum), rounds: {rounds}."])


def _row(command: str, seconds: Sequence[float]) -> CompileRow:
    return CompileRow(command, round(median(seconds), 3), round(min(seconds), 3), len(seconds))


def _edgetrain(*words: str) -> list[str]:
    return [sys.executable, "-m", "toolkit.cli", *words]


def _timed(command: Sequence[str], named: str) -> float:
    start = time.perf_counter()
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UserError(f"{command[0]} cannot be started: {error.strerror}", where=named) from None
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise UserError(f"it failed: {said or f'exit {done.returncode}'}", where=named, hint="nothing was timed")
    return seconds
