"""Where picked output channels of a parameter lie in memory: the table that the kernels of et_channels.h walk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codegen.program import Argument, Layout, Table
from toolkit.ir import Array, GraphError
from toolkit.ops.contexts import Lowering

Shape = tuple[int, ...]


def positions(shape: Shape, layout: Layout | None) -> Array:
    """int64 [rows, channels]: where each element of a tensor [..., channels] lies in a memory order."""
    size = int(np.prod(shape))
    where = np.arange(size) if layout is None else np.argsort(layout.permutation)
    return np.asarray(where.reshape(-1, shape[-1]))


def runs_struct(to: Lowering, channels: Sequence[int], whole: Array, part: Array) -> Argument:
    """A pointer to the et_channels struct.

    Args:
        channels: the picked ones, ascending.
        whole: int64 [rows, C], positions in the tensor with all channels.
        part: int64 [rows, len(channels)], positions in the one with the picked channels.
    """
    rows: list[list[int]] = []
    for index, channel in enumerate(channels):
        start = [*_line(whole[:, channel]), *_line(part[:, index])]
        if rows and _follows(rows[-1], start):
            rows[-1][4] += 1
        else:
            rows.append([*start, 1])
    fields: dict[str, int | float | Table] = {
        "rows": len(whole),
        "runs": len(rows),
        "run": Table("et_channel_run", tuple(tuple(row) for row in rows)),
    }
    return to.struct("et_channels", fields, "channels")


def _line(places: Array) -> tuple[int, int]:
    """First place and distance of places that are evenly spaced."""
    step = int(places[1] - places[0]) if len(places) > 1 else 0
    if not np.array_equal(places, places[0] + step * np.arange(len(places))):
        raise GraphError("the rows of a channel are not evenly spaced in memory")
    return int(places[0]), step


def _follows(run: list[int], start: list[int]) -> bool:
    """Whether a channel lies right behind a run of channels, in both tensors and in every row."""
    whole, whole_step, part, part_step, count = run
    return start == [whole + count, whole_step, part + count, part_step]
