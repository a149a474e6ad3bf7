"""The Pareto front: candidates that none other beats in memory and in what it learns at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from toolkit.fit.candidates import Candidate
from toolkit.fit.probe import Measured
from toolkit.report.tables import table


@dataclass(frozen=True)
class Tried:
    """A candidate with what it costs and, where it was probed, what it gave.

    Attributes:
        ram, flash: bytes, all in.
        macs: of one training step.
        arena: bytes, beside its lower bound.
        fits: the budget.
        trains: numbers that are trained.
        instructions: of one training step, estimated; None where nothing is known of the core.
        why: why it was not probed; "" where it was.
        final: of the best, measured on all samples.
    """

    candidate: Candidate
    ram: int
    flash: int
    macs: int
    arena: int
    bound: int
    fits: bool
    measured: Measured | None = None
    why: str = ""
    final: Measured | None = None
    trains: int = 0
    instructions: int | None = None

    @property
    def gain(self) -> float:
        """By how much the loss fell; 0 where it was not measured."""
        return self.measured.gain if self.measured else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        found: dict[str, Any] = {
            "options": self.candidate.words, "ram": self.ram, "flash": self.flash, "macs": self.macs,
            "arena": self.arena, "arena_lower_bound": self.bound, "fits": self.fits, "why": self.why,
            "trained_parameters": self.trains, "instructions": self.instructions,
        }  # fmt: skip
        if self.measured:
            found |= {
                "loss_before": self.measured.before,
                "loss_after": self.measured.after,
                "rate": self.measured.rate,
                "gain_per_kib": self.gain / (self.ram / 1024),
                "gain_per_million_macs": self.gain / (self.macs / 1e6),
            }
        if self.final:
            found |= {"final_loss": self.final.after, "final_rate": self.final.rate}
        return found


def pareto(tried: list[Tried]) -> list[Tried]:
    """Of those that were probed: less RAM, or a lower loss, than any other; by RAM."""
    found: list[Tried] = []
    for each in sorted((t for t in tried if t.measured), key=_cheapest_first):
        if each.gain > (found[-1].gain if found else 0.0):
            found.append(each)
    return found


def best(tried: list[Tried]) -> Tried | None:
    """What learns most of all that fits; of equals the cheapest. None where nothing that fits learns.

    Where some were measured on all samples, that counts, and one of them is taken.
    """
    finals = [(each.final.gain, -each.ram, each) for each in tried if each.fits and each.final]
    if finals:
        gain, _, found = max(finals, key=lambda final: final[:2])
        return found if gain > 0 else None
    fitting = [each for each in pareto([t for t in tried if t.fits]) if each.gain > 0]
    return max(fitting, key=lambda each: each.gain, default=None)


def most(tried: list[Tried]) -> Tried | None:
    """What trains most parameters of all that fits, in the most exact form, for want of a measurement."""
    fitting = [each for each in tried if each.fits]
    return max(fitting, key=lambda each: (each.trains, -each.candidate.loss, -each.ram), default=None)


def front_table(tried: list[Tried]) -> str:
    """All that was probed, by RAM; the front is marked. Where nothing was, all that fits."""
    if not any(each.measured for each in tried):
        chosen = most(tried)
        fitting = sorted((each for each in tried if each.fits), key=_cheapest_first)
        return table(
            ("options", "RAM", "MACs a step", "instructions", "trained parameters", ""),
            [
                (e.candidate.words, e.ram, e.macs, _about(e.instructions), e.trains, "most" if e is chosen else "")
                for e in fitting
            ],
        )
    front = pareto(tried)
    chosen = best(tried)
    heads = ["options", "RAM", "MACs a step", "instructions", "loss", "fell by", "per KiB", "per million MACs"]
    if finals := any(each.final for each in tried):
        heads.append("loss, all samples")
    rows = []
    for each in sorted((t for t in tried if t.measured), key=_cheapest_first):
        assert each.measured is not None
        mark = "best" if each is chosen else "front" if each in front else ""
        row = [
            each.candidate.words, each.ram, each.macs, _about(each.instructions), f"{each.measured.after:.4f}",
            f"{each.gain:.4f}",
            f"{each.gain / (each.ram / 1024):.5f}", f"{each.gain / (each.macs / 1e6):.4f}",
        ]  # fmt: skip
        if finals:
            row.append(f"{each.final.after:.4f}" if each.final else "")
        rows.append((*row, mark))
    return table((*heads, ""), rows)


def _cheapest_first(each: Tried) -> tuple[int, float, str]:
    return each.ram, -each.gain, each.candidate.words


def _about(instructions: int | None) -> str:
    """An estimate, to two digits."""
    return "" if instructions is None else f"{float(f'{instructions:.2g}'):,.0f}"
