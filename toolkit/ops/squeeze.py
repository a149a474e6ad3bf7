"""Squeeze: takes away axes of size one, the given ones or all."""

from __future__ import annotations

from toolkit.ops.axes import from_front, given_axes
from toolkit.ops.base import ViewOp, op, require
from toolkit.ops.contexts import Import
from toolkit.ops.reshape import seen_in_shape
from toolkit.ops.views import View


@op
class Squeeze(ViewOp):
    """The input without some axes of size one."""

    onnx = ("Squeeze",)

    @classmethod
    def seen_as(cls, node: Import) -> View:
        shape = node.shape(0)
        given = given_axes(node)
        units = [axis for axis, size in enumerate(shape) if size == 1]
        gone = units if given is None else from_front(given, len(shape))
        require(set(gone) <= set(units), f"axes {gone} of {list(shape)} are not all of size 1")
        return seen_in_shape(node, [size for axis, size in enumerate(shape) if axis not in gone])
