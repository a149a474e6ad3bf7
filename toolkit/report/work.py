"""How long a function takes on a board: instructions by formulas, cycles by tables. Estimates, and called so.

The formulas are fitted to counts in the emulator by `edgetrain bench costs`, which writes costs.json. The cycles of
cores come from public documents (targets/cores); memory is taken to answer at once, so that they are a lower bound
where code runs from flash.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from codegen.board import Board, extensions
from codegen.cores import load_core
from codegen.program import Function, Step

RECORD = Path(__file__).with_name("costs.json")
# Whether a core has float instructions -> the profile of qemu-rv32 that was counted for it.
PROFILES = {True: "rv32imafc", False: "rv32imac"}


@dataclass(frozen=True)
class Estimate:
    """Of one call of a function.

    Attributes:
        instructions: of all kernels with a formula.
        unknown: kernels without one.
        error: half of the models that the formulas had not seen were off by no more than this share.
        largest: and this was the most.
        cycles: on the board's core; None where no table is known.
        milliseconds: at the board's clock; None where no table or no clock is known.
        source: of the table.
    """

    instructions: int
    unknown: tuple[str, ...]
    error: float
    largest: float
    cycles: int | None = None
    milliseconds: float | None = None
    source: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {
            "instructions": self.instructions, "kernels_without_formula": list(self.unknown),
            "median_error": self.error, "largest_error": self.largest, "cycles": self.cycles,
            "milliseconds": self.milliseconds, "source": self.source,
        }  # fmt: skip


def features(function: Function, step: Step) -> tuple[float, ...]:
    """What the formulas multiply: 1, MACs, bytes read, bytes written; each buffer counts once."""
    read, written = (sum(function.buffers[name].bytes for name in names) for names in (step.reads(), step.writes()))
    return 1.0, float(step.macs), float(read), float(written)


def estimate(function: Function, board: Board) -> Estimate | None:
    """None for cores that nothing was counted on: 64-bit ones, those with vectors, and this PC."""
    profile = _profile(board)
    known = _record()["profiles"].get(profile) if profile else None
    if known is None:
        return None
    rates: Mapping[str, float] = known["cycles"].get(board.cpu.core, {})
    instructions = cycles = 0.0
    unknown: dict[str, None] = {}
    for step in function.steps:
        factors = known["kernels"].get(step.kernel)
        if factors is None:
            unknown[step.kernel] = None
            continue
        times = 1 if step.last else function.parts
        own = times * sum(factor * value for factor, value in zip(factors, features(function, step), strict=True))
        instructions += own
        cycles += own * rates.get(step.kernel, 0.0)
    errors = known["median_error"], known["largest_error"]
    if not rates:
        return Estimate(round(instructions), tuple(unknown), *errors)
    assert board.cpu.core is not None  # there are rates of it
    clock = board.cpu.f_hz
    milliseconds = round(cycles / clock * 1000, 3) if clock else None
    source = load_core(board.cpu.core).source
    return Estimate(round(instructions), tuple(unknown), *errors, round(cycles), milliseconds, source)


def work_lines(functions: Mapping[str, Function], board: Board) -> list[str]:
    """For the page of `plan`; empty where nothing is known."""
    found = {words: estimate(functions[name], board) for name, words in _WORDS.items() if name in functions}
    each = {words: one for words, one in found.items() if one is not None}
    if not each:
        return []
    first = next(iter(each.values()))
    counts = " · ".join(f"{one.instructions:,} {words}" for words, one in each.items())
    lines = [f"       about {counts} instructions: formulas fitted to counts,"]
    lines.append(f"       off by {100 * first.error:.0f} % in the median, {100 * first.largest:.0f} % at the most")
    missing = sorted({kernel for one in each.values() for kernel in one.unknown})
    if missing:
        lines.append(f"       without {', '.join(missing)}, of which nothing was counted")
    if first.milliseconds is not None and board.cpu.f_hz:
        times = " · ".join(f"{one.milliseconds:,.1f} ms {words}" for words, one in each.items())
        lines.append(f"       about {times} at {board.cpu.f_hz / 1e6:g} MHz if no memory is waited for; cycles by")
        lines.append(f"       {first.source}")
    return lines


_WORDS = {"infer": "an inference", "train_step": "a training step"}


def _profile(board: Board) -> str | None:
    known = extensions(board.cpu.isa)
    if board.is_host or board.cpu.isa.startswith("rv64") or "v" in known:
        return None
    return PROFILES["f" in known]


@cache
def _record() -> Any:
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {"profiles": {}}
