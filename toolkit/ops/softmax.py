"""Softmax: y = e / s with e = exp(x - max) and s the sum of e, ascending from 0, by plain additions; an IEEE division.

The maximum is the first of equals. A NaN or +inf among the elements makes all of them NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from codegen.program import Argument
from toolkit.ir import Array, TensorType
from toolkit.numerics import exp, madd
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.elementwise import same_type


@dataclass(frozen=True)
class OverAxes(Op):
    """Base of the ops that normalise over one axis, or over neighbouring axes taken as one. Float32, any rank >= 1.

    Attributes:
        axis: the first axis, >= 0.
        axes: how many axes.
    """

    axis: int
    axes: int = 1

    def is_per_sample(self) -> bool:
        return self.axis > 0

    def check(self, x: TensorType, *others: TensorType) -> TensorType:
        """The type of all operands. Raises ShapeError where the axes do not exist."""
        require(
            self.axis >= 0 and self.axes >= 1 and self.axis + self.axes <= len(x.shape),
            f"{self.name} over axes {self.axis} to {self.axis + self.axes - 1} of {x}",
        )
        return same_type(x, *others)

    def split(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """The shape as (outer, length, inner)."""
        end = self.axis + self.axes
        return prod(shape[: self.axis]), prod(shape[self.axis : end]), prod(shape[end:])

    def sizes(self, to: Lowering) -> tuple[Argument, ...]:
        """`split` as arguments of a kernel."""
        return tuple(to.size(n) for n in self.split(to.input_type(0).shape))


@op
@dataclass(frozen=True)
class Softmax(OverAxes):
    """y[o][j][i] = exp(x[o][j][i] - max over j) / (sum over j)."""

    onnx = ("Softmax",)
    smooth = True

    def infer(self, x: TensorType) -> TensorType:
        return self.check(x)

    def reference(self, run: Run, x: Array) -> Array:
        grouped = x.reshape(self.split(x.shape))
        e = exp(less_maximum(grouped))
        return (e / sum_ascending(e)).reshape(x.shape)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (back.apply(SoftmaxGrad(self.axis, self.axes), dy, back.output()),)

    def lower(self, to: Lowering) -> None:
        to.call("et_softmax_f32", *self.sizes(to), to.read(0), to.write(0, in_place=(0,)))

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        return import_over_axes(node, cls)


@op
@dataclass(frozen=True)
class SoftmaxGrad(OverAxes):
    """dx = (dy - d) * y with d = the sum over j of dy * y: multiply-adds, ascending, from 0."""

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType, y: TensorType) -> TensorType:
        return self.check(dy, y)

    def reference(self, run: Run, dy: Array, y: Array) -> Array:
        shape = self.split(y.shape)
        grouped_dy, grouped_y = dy.reshape(shape), y.reshape(shape)
        d = np.zeros((shape[0], 1, shape[2]), np.float32)
        for j in range(shape[1]):
            d = madd(grouped_dy[:, j : j + 1], grouped_y[:, j : j + 1], d, run.fma)
        return ((grouped_dy - d) * grouped_y).reshape(y.shape)

    def lower(self, to: Lowering) -> None:
        to.call("et_softmax_grad_f32", *self.sizes(to), to.read(0), to.read(1), to.write(0, in_place=(0, 1)))


def less_maximum(x: Array) -> Array:
    """x[o][j][i] - (the maximum over j); the first of equals counts, which decides the sign of zero."""
    first = np.argmax(x, axis=1)[:, None, :]
    maximum: Array = np.take_along_axis(x, first, axis=1)
    return x - maximum


def sum_ascending(x: Array) -> Array:
    """[outer][length][inner] -> [outer][1][inner]: plain additions in ascending order from +0."""
    running: Array = np.add.accumulate(x, axis=1)  # strictly one after the other, unlike np.sum
    total: Array = running[:, -1:] + np.float32(0)  # a sum of nothing but -0 is +0 when started from +0
    return total


def import_over_axes(node: Import, cls: type[OverAxes]) -> Sequence[str]:
    """Softmax and LogSoftmax: one axis from opset 13 on; before, all axes from `axis` on, taken as one."""
    rank = len(node.shape(0))
    together = node.opset < 13
    axis = int(node.attribute("axis", 1 if together else -1)) % rank
    if together and axis < rank - 1 and any(n > 1 for n in node.shape(0)[axis + 1 :]):
        return (node.emit(0, node.apply(cls(axis, rank - axis), node.plain(0))[0]),)
    x, order = node.stored(0)
    return (node.emit(0, node.apply(cls(tuple(order).index(axis)), x)[0], order),)
