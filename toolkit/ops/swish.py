"""Swish: y = x * sigmoid(alpha * x); with alpha = 1 also called SiLU. NaN gives NaN, and -infinity does, by 0 * inf."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import madd, sigmoid
from toolkit.ops.base import Op, Run, op
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.elementwise import import_elementwise, lower_elementwise, same_type

_ONE = np.float32(1)


@op
@dataclass(frozen=True)
class Swish(Op):
    """Any shape, float32.

    Attributes:
        alpha: rounded to float32.
    """

    alpha: float = 1.0

    onnx = ("Swish",)
    elementwise = True
    smooth = True

    def infer(self, x: TensorType) -> TensorType:
        return same_type(x)

    def reference(self, run: Run, x: Array) -> Array:
        return x * sigmoid(np.float32(self.alpha) * x)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (back.apply(SwishGrad(self.alpha), dy, back.input(0)),)

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_swish_f32", to.real(self.alpha))

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        return import_elementwise(node, cls(float(node.attribute("alpha", 1.0))))


@op
@dataclass(frozen=True)
class SwishGrad(Op):
    """dx = dy * (s * madd(z, 1 - s, 1)), z = alpha * x, s = sigmoid(z)."""

    alpha: float

    no_gradient = "second derivatives are not used"
    elementwise = True

    def infer(self, dy: TensorType, x: TensorType) -> TensorType:
        return same_type(dy, x)

    def reference(self, run: Run, dy: Array, x: Array) -> Array:
        z = np.float32(self.alpha) * x
        s = sigmoid(z)
        return np.asarray(dy * (s * madd(z, _ONE - s, _ONE, run.fma)))

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_swish_grad_f32", to.real(self.alpha))
