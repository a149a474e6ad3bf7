"""Arena offsets: first fit in five orders, stop at the lower bound, else a local search over orders.

The search is seeded by constants: same Program, same offsets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from codegen.program import Function
from codegen.schedule import Lifetime, lifetimes, live_bytes, lower_bound

SEARCH_PLACEMENTS = 12_000  # of single storages, from each order: a second or two for the largest programs
_NONE = 1 << 62  # more than any peak

# (bytes alive in the busiest step of its life, its life) -> what to sort by.
_ORDERS: tuple[Callable[[int, Lifetime], tuple[int, ...]], ...] = (
    lambda busiest, span: (-span.bytes, span.first),
    lambda busiest, span: (-span.bytes * (span.last - span.first + 1), span.first),
    lambda busiest, span: (span.first - span.last, -span.bytes, span.first),
    lambda busiest, span: (span.first, -span.bytes),
    # As a stack: what waits longest for the backward pass lies lowest, and what is alive at the peak before all else.
    lambda busiest, span: (-busiest, -span.last, -span.bytes),
)


def plan(function: Function) -> Function:
    """The scheduled function with an offset for every arena storage, its peak and its lower bound."""
    spans = lifetimes(function)
    bound = lower_bound(spans)
    live = live_bytes(spans)
    busiest = [max(live[span.first : span.last + 1]) for span in spans]
    orders = [sorted(range(len(spans)), key=lambda i: key(busiest[i], spans[i])) for key in _ORDERS]
    fit = _FirstFit(spans)
    best_peak, best = _NONE, []
    for order in orders:
        fit.start(order)
        if fit.place(best_peak) < best_peak:
            best_peak, best = fit.peak, fit.offsets.tolist()
        if best_peak <= bound:
            break
    if best_peak > bound:
        best_peak, best = _search(fit, orders, best_peak, best, bound)
    offsets = {span.name: offset for span, offset in zip(spans, best, strict=True)}
    return replace(function, offsets=offsets, peak=best_peak, lower_bound=bound)


class _FirstFit:
    """Each storage in turn at the lowest offset free during its whole life.

    After a change of the order only what comes behind the change is placed again, and no more than it takes to know
    that an order is no better than one before.

    Attributes:
        order: numbers of the storages, in the order in which they are placed.
        offsets: by number; _NONE of what is not placed.
        peak: of what has been placed.
        placements: how many there were.
    """

    def __init__(self, spans: Sequence[Lifetime]) -> None:
        self.placements = 0
        self._sizes = [span.bytes for span in spans]
        first, last = (np.array([getattr(span, end) for span in spans]) for end in ("first", "last"))
        self._near = [np.flatnonzero((first <= span.last) & (last >= span.first)) for span in spans]
        sizes = np.array(self._sizes, np.int64)
        self._near_sizes = [sizes[near] for near in self._near]
        self.start(range(len(spans)))

    def start(self, order: Iterable[int]) -> None:
        """Begins with an order."""
        self.order = list(order)
        self.offsets = np.full(len(self.order), _NONE, np.int64)
        self.peak = 0
        self._peaks = [0] * (len(self.order) + 1)  # of the first so many of the order
        self._placed = 0

    def move(self, source: int, target: int) -> None:
        """Brings one forward in the order."""
        self.offsets[self.order[target : self._placed]] = _NONE
        self.order.insert(target, self.order.pop(source))
        self._placed = min(self._placed, target)

    def place(self, enough: int) -> int:
        """Places all, or as many as it takes to reach a peak; gives the peak."""
        order, sizes, peaks = self.order, self._sizes, self._peaks
        self.peak = peaks[self._placed]
        for turn in range(self._placed, len(order)):
            if self.peak >= enough:
                break
            index = order[turn]
            self.offsets[index] = offset = self._lowest(index)
            self.placements += 1
            self.peak = max(self.peak, offset + sizes[index])
            self._placed = turn + 1
            peaks[turn + 1] = self.peak
        return self.peak

    def _lowest(self, index: int) -> int:
        """The lowest offset where one fits between what is placed and lives at the same time."""
        starts, size = self.offsets[self._near[index]], self._sizes[index]
        upward = starts.argsort()  # at the end those that are not placed, itself at least
        starts = starts[upward]
        if starts[0] >= size:
            return 0
        tops = np.maximum.accumulate(starts + self._near_sizes[index][upward])
        return int(tops[(starts[1:] - tops[:-1] >= size).argmax()])

    def first_above(self, bound: int) -> int:
        """The first turn that ends above a bound. There is one."""
        return next(turn for turn in range(self._placed) if self._peaks[turn + 1] > bound)


def _search(
    fit: _FirstFit, orders: Sequence[Sequence[int]], peak: int, offsets: list[int], bound: int
) -> tuple[int, list[int]]:
    """From each order: whatever ends above the bound is placed earlier, at a place that a counter chooses."""
    state = 0x2545F491
    for order in orders:
        fit.start(order)
        fit.placements = 0
        while fit.placements < SEARCH_PLACEMENTS:
            if fit.place(peak) < peak:
                peak, offsets = fit.peak, fit.offsets.tolist()
            if peak <= bound:
                return peak, offsets
            late = fit.first_above(bound)
            state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
            fit.move(late, (state >> 8) % max(late, 1))
    return peak, offsets
