"""Ranges of the real values that int8 codes shall cover, found by running a model on samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from toolkit.ir import Array, Graph
from toolkit.ops.base import Op, Run

Range = tuple[float, float]

_KEPT = 1 << 20  # values of one tensor that are looked at, at most
_OUTSIDE = 1e-4  # of the values, at each end, for the percentiles
_CANDIDATES = 60  # ranges that are tried for the least error


def min_max(values: Array) -> Range:
    """The least and the largest value."""
    return float(values.min()), float(values.max())


def percentile(values: Array) -> Range:
    """All but one value of ten thousand at each end. They are values that occur, never something between two."""
    ordered = np.sort(values)
    skipped = int(ordered.size * _OUTSIDE)
    return float(ordered[skipped]), float(ordered[ordered.size - 1 - skipped])


def least_error(values: Array) -> Range:
    """The range, a part of that between the least and the largest value, whose codes have the least squared error."""
    low, high = (min(0.0, float(values.min())), max(0.0, float(values.max())))
    wide = values.astype(np.float64)
    best, least = (low, high), np.inf
    for part in np.linspace(1.0, 0.2, _CANDIDATES):
        scale = (high - low) * part / 255 or 1.0
        codes = np.clip(np.rint(wide / scale), np.rint(low * part / scale), np.rint(high * part / scale))
        error = float(np.sum((codes * scale - wide) ** 2))
        if error < least:
            best, least = (low * float(part), high * float(part)), error
    return best


CALIBRATIONS: Mapping[str, Callable[[Array], Range]] = {
    "minmax": min_max,
    "percentile": percentile,
    "mse": least_error,
}


def find_ranges(
    graph: Graph, names: Iterable[str], samples: Array, range_of: Callable[[Array], Range], fma: bool
) -> dict[str, Range]:
    """The range of each tensor, 0 always within.

    Args:
        graph: of inference, in float32, with one input.
        names: the tensors.
        samples: float32, whole batches of the graph's input one after the other.
        fma: whether multiply-adds round once.
    """
    (source,) = graph.inputs
    wanted = list(names)
    batch = graph.type(source).shape[0]
    share = max(1, _KEPT // (len(samples) // batch))
    seen: dict[str, list[Array]] = {name: [] for name in wanted}
    for start in range(0, len(samples), batch):
        values: dict[str, Array] = {**graph.data, source: samples[start : start + batch]}
        for node in graph.nodes:
            assert isinstance(node.op, Op)
            results = node.op.run(Run(fma), *(None if name is None else values[name] for name in node.inputs))
            values.update(zip(node.outputs, results, strict=True))
        for name in wanted:
            flat = values[name].reshape(-1)
            ends_tell = range_of is min_max
            seen[name].append(np.array(min_max(flat)) if ends_tell else flat[:: -(-flat.size // share)].copy())
    found = {}
    for name in wanted:
        low, high = range_of(np.concatenate(seen[name]))
        found[name] = (min(0.0, low), max(0.0, high))
    return found
