"""Tanh: the function of toolkit.numerics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import madd, tanh
from toolkit.ops.base import Op, Run, op
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.elementwise import import_elementwise, lower_elementwise, same_type


@op
@dataclass(frozen=True)
class Tanh(Op):
    """Any shape, float32."""

    onnx = ("Tanh",)
    elementwise = True
    smooth = True

    def infer(self, x: TensorType) -> TensorType:
        return same_type(x)

    def reference(self, run: Run, x: Array) -> Array:
        return tanh(x)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (back.apply(TanhGrad(), dy, back.output()),)

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_tanh_each_f32")

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        return import_elementwise(node, cls())


@op
@dataclass(frozen=True)
class TanhGrad(Op):
    """dx = dy * madd(-y, y, 1)."""

    no_gradient = "second derivatives are not used"
    elementwise = True

    def infer(self, dy: TensorType, y: TensorType) -> TensorType:
        return same_type(dy, y)

    def reference(self, run: Run, dy: Array, y: Array) -> Array:
        return dy * madd(-y, y, np.float32(1), run.fma)

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_tanh_grad_f32")
