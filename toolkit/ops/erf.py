"""Erf: y = erf(x), the function of toolkit.numerics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import erf, exp
from toolkit.ops.base import Op, Run, op
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.elementwise import import_elementwise, lower_elementwise, same_type

_TWO_BY_ROOT_PI = np.float32(1.1283792)


@op
@dataclass(frozen=True)
class Erf(Op):
    """Any shape, float32."""

    onnx = ("Erf",)
    elementwise = True
    smooth = True

    def infer(self, x: TensorType) -> TensorType:
        return same_type(x)

    def reference(self, run: Run, x: Array) -> Array:
        return erf(x)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (back.apply(ErfGrad(), dy, back.input(0)),)

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_erf_each_f32")

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        return import_elementwise(node, cls())


@op
@dataclass(frozen=True)
class ErfGrad(Op):
    """dx = dy * (exp(-(x * x)) * 2/sqrt(pi))."""

    no_gradient = "second derivatives are not used"
    elementwise = True

    def infer(self, dy: TensorType, x: TensorType) -> TensorType:
        return same_type(dy, x)

    def reference(self, run: Run, dy: Array, x: Array) -> Array:
        return np.asarray(dy * (exp(-(x * x)) * _TWO_BY_ROOT_PI))

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_erf_grad_f32")
