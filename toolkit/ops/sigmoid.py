"""Sigmoid: y = 1 / (1 + exp(-x)), the function of toolkit.numerics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import sigmoid
from toolkit.ops.base import Op, Run, op
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.elementwise import import_elementwise, lower_elementwise, same_type


@op
@dataclass(frozen=True)
class Sigmoid(Op):
    """Any shape, float32."""

    onnx = ("Sigmoid",)
    elementwise = True
    smooth = True

    def infer(self, x: TensorType) -> TensorType:
        return same_type(x)

    def reference(self, run: Run, x: Array) -> Array:
        return sigmoid(x)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (back.apply(SigmoidGrad(), dy, back.output()),)

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_sigmoid_each_f32")

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        return import_elementwise(node, cls())


@op
@dataclass(frozen=True)
class SigmoidGrad(Op):
    """dx = dy * (y * (1 - y))."""

    no_gradient = "second derivatives are not used"
    elementwise = True

    def infer(self, dy: TensorType, y: TensorType) -> TensorType:
        return same_type(dy, y)

    def reference(self, run: Run, dy: Array, y: Array) -> Array:
        return dy * (y * (np.float32(1) - y))

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_sigmoid_grad_f32")
