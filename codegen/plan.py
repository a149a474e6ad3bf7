"""Arena offsets: first fit in four orders, stop at the lower bound, else a local search over orders.

The search is seeded by constants: same Program, same offsets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from codegen.program import Function
from codegen.schedule import Lifetime, lifetimes, lower_bound

SEARCH_ROUNDS = 250

_ORDERS: tuple[Callable[[Lifetime], tuple[int, ...]], ...] = (
    lambda span: (-span.bytes, span.first),
    lambda span: (-span.bytes * (span.last - span.first + 1), span.first),
    lambda span: (span.first - span.last, -span.bytes, span.first),
    lambda span: (span.first, -span.bytes),
)


def plan(function: Function) -> Function:
    """The scheduled function with an offset for every arena storage, its peak and its lower bound."""
    spans = lifetimes(function)
    bound = lower_bound(spans)
    best_peak, best = -1, {}
    for key in _ORDERS:
        peak, offsets = _first_fit(sorted(spans, key=key))
        if best_peak < 0 or peak < best_peak:
            best_peak, best = peak, offsets
        if best_peak <= bound:
            break
    if best_peak > bound:
        best_peak, best = _search(list(spans), best_peak, best, bound)
    return replace(function, offsets=best, peak=max(best_peak, 0), lower_bound=bound)


def _first_fit(spans: Sequence[Lifetime]) -> tuple[int, dict[str, int]]:
    """Each in turn at the lowest offset free during its whole life."""
    placed: list[tuple[int, Lifetime]] = []
    offsets: dict[str, int] = {}
    peak = 0
    for span in spans:
        offset = 0
        for start, other in placed:  # kept in order of offset
            if other.last < span.first or span.last < other.first:
                continue
            if start - offset >= span.bytes:
                break
            offset = max(offset, start + other.bytes)
        offsets[span.name] = offset
        placed.append((offset, span))
        placed.sort(key=lambda item: item[0])
        peak = max(peak, offset + span.bytes)
    return peak, offsets


def _search(
    spans: list[Lifetime], peak: int, offsets: dict[str, int], bound: int
) -> tuple[int, dict[str, int]]:
    """From each order: whatever ends above the bound is placed earlier, at a place that a counter chooses."""
    state = 0x2545F491
    for key in _ORDERS:
        order = sorted(spans, key=key)
        for _ in range(SEARCH_ROUNDS):
            tried, tried_offsets = _first_fit(order)
            if tried < peak:
                peak, offsets = tried, tried_offsets
            if peak <= bound:
                return peak, offsets
            late = next(i for i, span in enumerate(order) if tried_offsets[span.name] + span.bytes > bound)
            state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
            order.insert((state >> 8) % max(late, 1), order.pop(late))
    return peak, offsets
