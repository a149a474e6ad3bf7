"""Unsqueeze: adds axes of size one; `axes` count in the output."""

from __future__ import annotations

from toolkit.ops.axes import from_front, given_axes
from toolkit.ops.base import ViewOp, op
from toolkit.ops.contexts import Import
from toolkit.ops.reshape import seen_in_shape
from toolkit.ops.views import View


@op
class Unsqueeze(ViewOp):
    """The input with more axes of size one."""

    onnx = ("Unsqueeze",)

    @classmethod
    def seen_as(cls, node: Import) -> View:
        shape = list(node.shape(0))
        given = given_axes(node) or []
        for axis in sorted(from_front(given, len(shape) + len(given))):
            shape.insert(axis, 1)
        return seen_in_shape(node, shape)
