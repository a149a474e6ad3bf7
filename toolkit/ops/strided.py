"""What ops that move values without changing them share: walks over memory with up to six strides."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.ops.base import require

MOST_AXES = 6


def row_major_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Distance in elements between neighbours along each axis."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return tuple(strides)


def walk_fields(sizes: Sequence[int], strides: Sequence[int], offset: int = 0) -> dict[str, int]:
    """The fields of et_walk, in order: one side of a copy is dense and row-major, this is the other one.

    Axes that can be walked as one are merged; the rest is filled up with leading axes of size one.

    Args:
        sizes: of the dense side.
        strides: elements on the other side between neighbours along each axis; may be negative.
        offset: element of the other side that belongs to the first one of the dense side.

    Raises:
        ShapeError: more than six axes are left.
    """
    merged: list[tuple[int, int]] = []
    for size, stride in zip(sizes, strides, strict=True):
        if size == 1:
            continue
        if merged and merged[-1][1] == stride * size:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    require(len(merged) <= MOST_AXES, f"{len(merged)} axes move apart; at most {MOST_AXES} are supported")
    merged = [(1, 0)] * (MOST_AXES - len(merged)) + merged
    fields = {f"size{axis}": size for axis, (size, _) in enumerate(merged)}
    fields.update({f"stride{axis}": stride for axis, (_, stride) in enumerate(merged)})
    return {**fields, "offset": offset}
