"""Relu: y = x where x > 0, else 0. NaN compares false, so it gives 0 (numerics N4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codegen.program import Zeros
from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.elementwise import import_elementwise, lower_elementwise, same_type


@op
@dataclass(frozen=True)
class Relu(Op):
    """y = max(x, 0), any shape, float32."""

    onnx = ("Relu",)
    elementwise = True

    def infer(self, x: TensorType) -> TensorType:
        return same_type(x)

    def reference(self, run: Run, x: Array) -> Array:
        return np.where(x > 0, x, np.float32(0))

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        # The output has the same sign pattern as the input and is kept anyway where the next layer is trained.
        return (back.apply(ReluGrad(), dy, back.output()),)

    def zeros(self) -> Zeros:
        return "half"

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_relu_f32")

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        return import_elementwise(node, cls())


@op
@dataclass(frozen=True)
class ReluGrad(Op):
    """dx = dy where y > 0, else 0."""

    no_gradient = "second derivatives are not used"
    elementwise = True

    def infer(self, dy: TensorType, y: TensorType) -> TensorType:
        return same_type(dy, y)

    def reference(self, run: Run, dy: Array, y: Array) -> Array:
        return np.where(y > 0, dy, np.float32(0))

    def zeros(self) -> Zeros:
        return "gated"

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_relu_grad_f32")
