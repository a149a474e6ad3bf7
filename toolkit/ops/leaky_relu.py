"""LeakyRelu: y = x where x > 0, else alpha * x (so NaN stays NaN); one rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.elementwise import import_elementwise, lower_elementwise, same_type


@op
@dataclass(frozen=True)
class LeakyRelu(Op):
    """Any shape, float32.

    Attributes:
        alpha: slope of the negative side.
    """

    alpha: float = 0.01

    onnx = ("LeakyRelu",)
    elementwise = True

    def infer(self, x: TensorType) -> TensorType:
        return same_type(x)

    def reference(self, run: Run, x: Array) -> Array:
        return np.where(x > 0, x, np.float32(self.alpha) * x)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        # With a positive slope the output has the sign of the input and is kept anyway for the next layer.
        kept = back.output() if self.alpha > 0 else back.input(0)
        return (back.apply(LeakyReluGrad(self.alpha), dy, kept),)

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_leaky_relu_f32", to.real(self.alpha))

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        return import_elementwise(node, cls(float(node.attribute("alpha", 0.01))))


@op
@dataclass(frozen=True)
class LeakyReluGrad(Op):
    """dx = dy where sign_source > 0, else alpha * dy."""

    alpha: float

    no_gradient = "second derivatives are not used"
    elementwise = True

    def infer(self, dy: TensorType, sign_source: TensorType) -> TensorType:
        return same_type(dy, sign_source)

    def reference(self, run: Run, dy: Array, sign_source: Array) -> Array:
        return np.where(sign_source > 0, dy, np.float32(self.alpha) * dy)

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_leaky_relu_grad_f32", to.real(self.alpha))
