"""Axes as ONNX nodes give them: an attribute in old opsets, an input in new ones, negative if counted from behind."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.ops.base import require
from toolkit.ops.contexts import Import


def given_axes(node: Import) -> list[int] | None:
    """The attribute `axes` or input 1, as it is; None where there is neither.

    Raises:
        UnsupportedError: the input is computed.
    """
    axes = node.value(1, "axes").reshape(-1) if node.has(1) else node.attribute("axes")
    return None if axes is None else [int(axis) for axis in axes]


def from_front(axes: Sequence[int], rank: int) -> list[int]:
    """The axes of a tensor of this rank, none of them negative. Raises ShapeError where one is missing or twice."""
    require(all(-rank <= axis < rank for axis in axes), f"axes {list(axes)} of an input of rank {rank}")
    found = [axis % rank for axis in axes]
    require(len(set(found)) == len(found), f"axes {list(axes)} are not all different")
    return found
