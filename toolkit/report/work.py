"""How long a function takes on a board: instructions by formulas, cycles by tables. Estimates, and called so.

The formulas are fitted to counts in the emulator by `edgetrain bench costs`, which writes costs.json. The cycles of
cores come from public documents (targets/cores); memory is taken to answer at once, so that they are a lower bound
where code runs from flash.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from codegen.board import Board, extensions
from codegen.compilers import find
from codegen.cores import load_core
from codegen.errors import BackendError
from codegen.program import Function, Program
from toolkit.report.terms import ANY, NAMES, terms, way

RECORD = Path(__file__).with_name("costs.json")
# The profiles of qemu-rv32 that were counted, and their extensions; a core goes by the first of which it has all.
PROFILES: Mapping[str, frozenset[str]] = {
    "rv32imafc_zfh": frozenset({"f", "zfh"}), "rv32imafc": frozenset({"f"}), "rv32imac": frozenset(),
}  # fmt: skip
_Known = tuple[Mapping[str, Any], tuple[float, float], Mapping[str, Any]]


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


def estimate(
    function: Function, board: Board, forms: Collection[str] | None = None, compiler: str | None = None
) -> Estimate | None:
    """None for cores that nothing was counted on: 64-bit ones, those with vectors, and this PC.

    Args:
        forms: macros of the forms of inner loops that are compiled in; None for all that the steps would use.
        compiler: by name; None for the board's first that is installed.
    """
    known = _known(board, compiler)
    if known is None:
        return None
    kernels, errors, cycles_of = known
    rates: Mapping[str, float] = cycles_of.get(board.cpu.core or "", {})
    instructions = cycles = 0.0
    unknown: dict[str, None] = {}
    for step, features in zip(function.steps, terms(function), strict=True):
        ways = kernels.get(step.kernel)
        if ways is None:
            unknown[step.kernel] = None
            continue
        factors = ways.get(way(step, forms), ways[ANY])
        own = sum(factors.get(name, 0.0) * value for name, value in zip(NAMES, features, strict=True))
        own *= 1 if step.last else function.parts
        instructions += own
        cycles += own * rates.get(step.kernel, 0.0)
    if not rates:
        return Estimate(round(instructions), tuple(unknown), *errors)
    assert board.cpu.core is not None  # there are rates of it
    clock = board.cpu.f_hz
    milliseconds = round(cycles / clock * 1000, 3) if clock else None
    source = load_core(board.cpu.core).source
    return Estimate(round(instructions), tuple(unknown), *errors, round(cycles), milliseconds, source)


def work_lines(program: Program, board: Board, compiler: str | None = None) -> list[str]:
    """For the page of `plan`; empty where nothing is known."""
    functions, forms = program.functions, program.forms
    found = {
        words: estimate(functions[name], board, forms, compiler) for name, words in _WORDS.items() if name in functions
    }
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


def _known(board: Board, compiler: str | None) -> _Known | None:
    """Formulas, their errors, cycles per instruction; of kernels that were not counted with halves, those without."""
    has = set(extensions(board.cpu.isa))
    if board.is_host or board.cpu.isa.startswith("rv64") or "v" in has:
        return None
    fitting = [name for name, needed in PROFILES.items() if needed <= has]
    counted = _record().get(_family(board, compiler, "f" in has), {}).get("profiles", {})
    found = [counted[name] for name in fitting if name in counted and PROFILES[name] >= (has & {"f"})]
    if not found:
        return None
    kernels = {kernel: ways for each in reversed(found) for kernel, ways in each["kernels"].items()}
    return kernels, (found[0]["median_error"], found[0]["largest_error"]), found[0]["cycles"]


def _family(board: Board, compiler: str | None, floats: bool) -> str:
    """Whose formulas stand for a compiler's: clang takes its float arithmetic from gcc, and all else is zig's."""
    try:
        family = find(compiler, "riscv", board.toolchain.compilers).family
    except BackendError:
        family = "zig"
    return ("zig" if floats else "gcc") if family == "clang" else family


@cache
def _record() -> Any:
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
