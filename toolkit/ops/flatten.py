"""Flatten: all axes before `axis` become one, all others another."""

from __future__ import annotations

from math import prod

from toolkit.ops.base import ViewOp, op, require
from toolkit.ops.contexts import Import
from toolkit.ops.reshape import seen_in_shape
from toolkit.ops.views import View


@op
class Flatten(ViewOp):
    """[d0, d1, ...] -> [d0 * ... * d(axis-1), d(axis) * ...]."""

    onnx = ("Flatten",)

    @classmethod
    def seen_as(cls, node: Import) -> View:
        shape = node.shape(0)
        axis, rank = int(node.attribute("axis", 1)), len(shape)
        require(-rank <= axis <= rank, f"axis {axis} of an input of rank {rank}")
        # -1 is the last axis but rank itself is past it, so a plain modulo would not do.
        axis = axis + rank if axis < 0 else axis
        return seen_in_shape(node, (prod(shape[:axis]), prod(shape[axis:])))
