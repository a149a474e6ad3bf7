"""Time on this PC: edgetrain's C beside others on the same model files, in one process, round by round.

A round runs every contestant for a while, each time beginning with another one, so that what else the machine does
meets all of them. Before anything is timed, all must have computed the same.
"""

from __future__ import annotations

import gc
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np

from toolkit.bench.contestants import OWN, Phase, Race, race
from toolkit.errors import UserError
from toolkit.zoo import build

MODELS = ("mlp", "cnn", "ds-cnn", "resnet8", "mobilenetv1-0.25")
PHASES: tuple[tuple[Phase, int], ...] = (("infer", 1), ("train", 1), ("train", 32))
# Sums in another order: of what is largest in the answer. Wrong formulas are off by far more.
TOLERANCE = 2e-3
Answers = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class HostRow:
    """One contestant in one phase of one model.

    Attributes:
        phase: "infer" or "train", one step of plain gradient descent.
        median_us, minimum_us: of a round, in microseconds of wall clock per sample.
        spread_percent: half of the rounds lie within so much of the median (the distance of the quartiles).
        cpu_us: median time of the processor per sample, all threads together.
        times_edgetrain: median over the rounds of this contestant's wall clock by edgetrain's in the same round.
        cpu_times_edgetrain: the same of the processor's time, for machines that have other things to do.
        rounds, calls: so many rounds of so many calls.
    """

    model: str
    phase: str
    batch: int
    threads: int
    contestant: str
    version: str
    how: str
    median_us: float
    minimum_us: float
    spread_percent: float
    cpu_us: float
    times_edgetrain: float
    cpu_times_edgetrain: float
    rounds: int
    calls: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class HostResult:
    """All rows, and who was left out: (model, contestant) -> why."""

    rows: tuple[HostRow, ...]
    left_out: Mapping[tuple[str, str], str]


def measure_host(
    model: str, rounds: int = 15, seconds: float = 0.03, threads: int = 1, compiler: str | None = None
) -> HostResult:
    """Inference at batch 1, and training steps at batch 1 and 32.

    Args:
        seconds: that a contestant runs in a round, at least.
        threads: for each contestant.

    Raises:
        UserError: a contestant computes something else.
    """
    rows: list[HostRow] = []
    left_out: dict[tuple[str, str], str] = {}
    with tempfile.TemporaryDirectory(prefix="edgetrain-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(build(model).SerializeToString())
        for phase, batch in PHASES:
            with race(model, path, phase, batch, Path(folder), compiler, threads) as run:
                check_answers(run)
                rows += time_race(run, rounds, seconds, threads)
                left_out.update({(model, name): why for name, why in run.left_out.items()})
    return HostResult(tuple(rows), left_out)


def check_answers(run: Race) -> None:
    """Raises UserError unless every contestant computes what edgetrain does."""
    own = run.contestants[0]
    for other in run.contestants[1:]:
        if set(other.answer) != set(own.answer):
            raise AssertionError(f"{other.name} answers {sorted(other.answer)}, not {sorted(own.answer)}")
        for name, value in other.answer.items():
            mine = own.answer[name]
            largest = float(np.abs(mine).max())
            difference = float(np.abs(value.reshape(mine.shape) - mine).max())
            if not difference <= TOLERANCE * largest:
                what = f"{other.name} computes another {name} than {own.name}: {difference:.3g} of {largest:.3g}"
                raise UserError(what, where=f"{run.model}, {run.phase}", hint="nothing was timed")


def time_race(run: Race, rounds: int, seconds: float, threads: int) -> Iterator[HostRow]:
    """A row for each contestant, edgetrain first."""
    calls = [_calls_of(each.call, seconds) for each in run.contestants]
    wall: list[list[float]] = [[] for _ in run.contestants]
    cpu: list[list[float]] = [[] for _ in run.contestants]
    collects = gc.isenabled()
    gc.disable()
    try:
        for number in range(rounds):
            order = [(number + k) % len(calls) for k in range(len(calls))]
            for each in order:
                # Untimed: caches, and threads of the contestant before, which look for work a while longer.
                run.contestants[each].call()
                real, used = _timed(run.contestants[each].call, calls[each])
                wall[each].append(real / run.batch)
                cpu[each].append(used / run.batch)
    finally:
        if collects:
            gc.enable()
    for each, contestant in enumerate(run.contestants):
        middle = median(wall[each])
        quarters = quantiles(wall[each], n=4) if rounds > 1 else [middle] * 3
        yield HostRow(
            run.model, run.phase, run.batch, threads, contestant.name, contestant.version, contestant.how,
            round(middle, 3), round(min(wall[each]), 3), round(100 * (quarters[2] - quarters[0]) / middle, 1),
            round(median(cpu[each]), 3), _ratio(wall[each], wall[0]), _ratio(cpu[each], cpu[0]), rounds, calls[each],
        )  # fmt: skip


def _ratio(theirs: list[float], ours: list[float]) -> float:
    return round(median(a / b for a, b in zip(theirs, ours, strict=True)), 3)


def _calls_of(call: Callable[[], object], seconds: float) -> int:
    """So many calls take at least so long."""
    call()
    calls = 1
    while True:
        microseconds, _ = _timed(call, calls)
        if microseconds * calls >= 1e6 * seconds:
            return calls
        calls = max(calls + 1, min(10 * calls, int(1.1e6 * seconds / max(microseconds, 1e-3))))


def _timed(call: Callable[[], object], calls: int) -> tuple[float, float]:
    """Microseconds of wall clock and of the processor per call."""
    cpu, start = time.process_time_ns(), time.perf_counter_ns()
    for _ in range(calls):
        call()
    end, cpu_end = time.perf_counter_ns(), time.process_time_ns()
    return (end - start) / 1e3 / calls, (cpu_end - cpu) / 1e3 / calls


def machine() -> str:
    """Processor, cores, system, and how much else it does, as a line."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.startswith("flags")), "").split()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
        name += next((f" with {each.upper()}" for each in ("avx512f", "avx2") if each in flags), "")
    except OSError:
        pass
    busy = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{name}, {os.cpu_count()} logical cores, {platform.system()} {platform.release().partition('-')[0]}{busy}"


def host_markdown(result: HostResult) -> str:
    """A table with a line for each phase of each model, what the contestants are, and who is left out."""
    names: dict[str, HostRow] = {}
    for row in result.rows:
        names.setdefault(row.contestant, row)
    others = [name for name in names if name != OWN]
    lines = [f"| model | phase | batch | {OWN} us | {' | '.join(f'{name} us' for name in others)} |"]
    lines.append("|---|---|--:" + "|--:" * (1 + len(others)) + "|")
    for own in (row for row in result.rows if row.contestant == OWN):
        same = {
            row.contestant: row
            for row in result.rows
            if (row.model, row.phase, row.batch) == (own.model, own.phase, own.batch)
        }
        cells = [_time(own)]
        cells += [f"{_time(same[n])}, {same[n].times_edgetrain:.2f}x" if n in same else "" for n in others]
        lines.append(f"| {own.model} | {own.phase} | {own.batch} | {' | '.join(cells)} |")
    first = result.rows[0]
    where = f"Threads: {first.threads}. {machine()}; Python {platform.python_version()}."
    what = f"median (minimum, distance of the quartiles) of {first.rounds} rounds, and how many times as long as {OWN}"
    lines += ["", f"Microseconds per sample: {what}. {where}", ""]
    lines += [f"- {row.contestant} {row.version}: {_hows(result.rows, row.contestant)}" for row in names.values()]
    lines += [f"- left out, {model}: {name}: {why}" for (model, name), why in _once(result.left_out).items()]
    return "\n".join(lines)


def _time(row: HostRow) -> str:
    return f"{_figures(row.median_us)} ({_figures(row.minimum_us)}, {row.spread_percent:.0f} %)"


def _figures(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _hows(rows: Sequence[HostRow], contestant: str) -> str:
    return "; ".join(dict.fromkeys(row.how for row in rows if row.contestant == contestant))


def _once(left_out: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """One line for all models where the reason is the same."""
    models: dict[tuple[str, str], list[str]] = {}
    for (model, name), why in left_out.items():
        models.setdefault((name, why), []).append(model)
    return {(", ".join(found), name): why for (name, why), found in models.items()}
