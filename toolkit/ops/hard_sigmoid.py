"""HardSigmoid: y = clip(madd(alpha, x, beta), 0, 1). NaN gives 0, as in Clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import madd
from toolkit.ops.base import Op, Run, op
from toolkit.ops.clip import clip
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.elementwise import import_elementwise, lower_elementwise, same_type


@op
@dataclass(frozen=True)
class HardSigmoid(Op):
    """Any shape, float32.

    Attributes:
        alpha, beta: slope and offset, rounded to float32.
    """

    alpha: float = 0.2
    beta: float = 0.5

    onnx = ("HardSigmoid",)
    elementwise = True

    def infer(self, x: TensorType) -> TensorType:
        return same_type(x)

    def reference(self, run: Run, x: Array) -> Array:
        return clip(madd(np.float32(self.alpha), x, np.float32(self.beta), run.fma), 0.0, 1.0)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (back.apply(HardSigmoidGrad(self.alpha), dy, back.output()),)

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_hard_sigmoid_f32", to.real(self.alpha), to.real(self.beta))

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        return import_elementwise(node, cls(float(node.attribute("alpha", 0.2)), float(node.attribute("beta", 0.5))))


@op
@dataclass(frozen=True)
class HardSigmoidGrad(Op):
    """dx = alpha * dy where 0 < y < 1, else 0."""

    alpha: float

    no_gradient = "second derivatives are not used"
    elementwise = True

    def infer(self, dy: TensorType, y: TensorType) -> TensorType:
        return same_type(dy, y)

    def reference(self, run: Run, dy: Array, y: Array) -> Array:
        return np.where((y > 0) & (y < 1), np.float32(self.alpha) * dy, np.float32(0))

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_hard_sigmoid_grad_f32", to.real(self.alpha))
