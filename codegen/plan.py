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
    best_peak, best = sum(span.bytes for span in spans) + 1, []
    for order in orders:
        fit.start(order)
        if fit.place(best_peak) < best_peak:
            best_peak, best = fit.peak, fit.offsets()
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
        peak: of what has been placed.
        placements: how many there were.
    """

    def __init__(self, spans: Sequence[Lifetime]) -> None:
        self.placements = 0
        self._sizes = [span.bytes for span in spans]
        first, last = (np.array([getattr(span, end) for span in spans]) for end in ("first", "last"))
        self._near = [np.flatnonzero((first <= span.last) & (last >= span.first)) for span in spans]
        # Offset and size of what is placed are one number, by which it is sorted: so sizes need not be brought after.
        self._bits = max(self._sizes, default=0).bit_length()
        self._unplaced = 1 << (sum(self._sizes) << self._bits).bit_length()
        self._dtype = np.int64 if self._unplaced < 1 << 63 else object
        self.start(range(len(spans)))

    def start(self, order: Iterable[int]) -> None:
        """Begins with an order."""
        self.order = list(order)
        self._keys = np.full(len(self.order), self._unplaced, self._dtype)
        self.peak = 0
        self._peaks = [0] * (len(self.order) + 1)  # of the first so many of the order
        self._placed = 0

    def offsets(self) -> list[int]:
        """Those of all storages, which are placed, by number."""
        found: list[int] = (self._keys >> self._bits).tolist()
        return found

    def move(self, source: int, target: int) -> None:
        """Brings one forward in the order."""
        self._keys[self.order[target : self._placed]] = self._unplaced
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
            offset = self._lowest(index)
            self._keys[index] = offset << self._bits | sizes[index]
            self.placements += 1
            self.peak = max(self.peak, offset + sizes[index])
            self._placed = turn + 1
            peaks[turn + 1] = self.peak
        return self.peak

    def _lowest(self, index: int) -> int:
        """The lowest offset where one fits between what is placed and lives at the same time."""
        keys, size, bits = self._keys[self._near[index]], self._sizes[index], self._bits
        keys.sort()  # at the end those that are not placed, itself at least
        starts = keys >> bits
        if starts[0] >= size:
            return 0
        tops = np.maximum.accumulate(starts + (keys & ((1 << bits) - 1)))
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
                peak, offsets = fit.peak, fit.offsets()
            if peak <= bound:
                return peak, offsets
            late = fit.first_above(bound)
            state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
            fit.move(late, (state >> 8) % max(late, 1))
    return peak, offsets
