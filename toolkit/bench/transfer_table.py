"""The outcomes of a transfer as a table: one row for each way of training, and which of them none other beats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev

from toolkit.bench.transfer import Outcome
from toolkit.bench.transfer_tasks import Task, row_name


@dataclass(frozen=True)
class Row:
    """A line of the table; numbers are means over the seeds.

    Attributes:
        entry: a way of training, or what auto was allowed.
        auto: whether it is one of the latter.
        ram: bytes of weights and arena, or of the arena alone where the task compares that.
        accuracy, deviation: percent; the deviation is 0 for one seed.
        chosen: what was trained; for auto of all seeds, where they differ.
        front: no other row has as much accuracy in as little memory and is better in one of the two.
        why: why the model cannot be trained so; all else is empty then.
    """

    entry: str
    auto: bool
    ram: int
    weights: int
    arena: int
    macs: int
    accuracy: float
    deviation: float
    seeds: int
    chosen: str
    front: bool
    why: str = ""


def rows(task: Task, outcomes: Sequence[Outcome]) -> list[Row]:
    """The table of a task, by memory; entries without an outcome are left out."""
    autos = [each.words for each in task.allowances]
    found = []
    for entry in [*map(row_name, task.ways), *autos]:
        own = [each for each in outcomes if each.entry == entry]
        if own:
            found.append(_row(task, entry, entry in autos, own))
    found.sort(key=lambda row: (bool(row.why), row.ram, row.accuracy))
    return [_marked(row, found) for row in found]


def _row(task: Task, entry: str, auto: bool, own: Sequence[Outcome]) -> Row:
    if own[0].why:
        return Row(entry, auto, 0, 0, 0, 0, 0.0, 0.0, len(own), "", False, own[0].why)
    weights, arena = round(mean(each.weights for each in own)), round(mean(each.arena for each in own))
    reached = [each.accuracy for each in own]
    counted = Counter(each.trained for each in sorted(own, key=lambda each: each.seed))
    chosen = "; ".join(way + (f" ({count}x)" if count > 1 < len(counted) else "") for way, count in counted.items())
    macs = round(mean(each.macs for each in own))
    return Row(
        entry, auto, arena if task.by_arena else weights + arena, weights, arena, macs, round(mean(reached), 2),
        round(stdev(reached), 2) if len(own) > 1 else 0.0, len(own), chosen, False,
    )  # fmt: skip


def _marked(row: Row, table: Sequence[Row]) -> Row:
    def beats(other: Row) -> bool:
        as_good = other.ram <= row.ram and other.accuracy >= row.accuracy
        return not other.why and as_good and (other.ram, other.accuracy) != (row.ram, row.accuracy)

    return replace(row, front=not row.why and not any(beats(other) for other in table))


def markdown(task: Task, table: Sequence[Row]) -> str:
    """The table for a page."""
    lines = [f"{task.model}: {task.summary}", ""]
    lines += ["| trained | weights, B | arena, B | test %, mean | deviation | seeds | front |"]
    lines += ["|---|--:|--:|--:|--:|--:|---|"]
    for row in table:
        if row.why:
            lines.append(f"| {row.entry} | | | | | | {row.why.partition(' (')[0]} |")
            continue
        name = f"**{row.entry}**: {row.chosen}" if row.auto else row.entry
        deviation = f"{row.deviation:.2f}" if row.seeds > 1 else ""
        cells = (name, f"{row.weights:,}", f"{row.arena:,}", f"{row.accuracy:.2f}", deviation, str(row.seeds))
        lines.append(f"| {' | '.join(cells)} | {'yes' if row.front else ''} |")
    return "\n".join(lines)
