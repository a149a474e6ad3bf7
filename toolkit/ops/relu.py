"""Relu: y = x where x > 0, else 0. NaN compares false, so it gives 0 (numerics N4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op
from toolkit.ops.contexts import Backward, Import, Lowering


@op
@dataclass(frozen=True)
class Relu(Op):
    """y = max(x, 0), any shape, float32."""

    onnx = ("Relu",)
    elementwise = True

    def infer(self, x: TensorType) -> TensorType:
        return x

    def reference(self, run: Run, x: Array) -> Array:
        return np.where(x > 0, x, np.float32(0))

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        # The output has the same sign pattern as the input and is kept anyway where the next layer is trained.
        return (back.apply(ReluGrad(), dy, back.output()),)

    def lower(self, to: Lowering) -> None:
        layout = to.layout(0)
        to.call("et_relu_f32", to.size(to.input_type(0).size), to.read(0, layout), to.write(0, layout, in_place=(0,)))

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        x, order = node.stored(0)
        return (node.emit(0, node.apply(cls(), x)[0], order),)


@op
@dataclass(frozen=True)
class ReluGrad(Op):
    """dx = dy where y > 0, else 0."""

    no_gradient = "second derivatives are not used"
    elementwise = True

    def infer(self, dy: TensorType, y: TensorType) -> TensorType:
        return dy

    def reference(self, run: Run, dy: Array, y: Array) -> Array:
        return np.where(y > 0, dy, np.float32(0))

    def lower(self, to: Lowering) -> None:
        to.call(
            "et_relu_grad_f32",
            to.size(to.input_type(0).size), to.read(0), to.read(1), to.write(0, in_place=(0,)),
        )
