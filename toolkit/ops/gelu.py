"""Gelu: y = x * 0.5 * (erf(x * sqrt(1/2)) + 1), or the same with a tanh (Hendrycks and Gimpel, arXiv 1606.08415).

Products from the left, each rounded; constants rounded to float32. With the tanh, in place of the erf stands
tanh(x * madd(0.044715 * c, x * x, c)), c = sqrt(2 / pi). NaN gives NaN, and -infinity does, which meets a 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import erf, exp, madd, tanh
from toolkit.ops.base import Op, Run, UnsupportedError, op
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.elementwise import import_elementwise, lower_elementwise, same_type

_ONE, _HALF = np.float32(1), np.float32(0.5)
_ROOT_HALF = np.float32(0.70710678)
_DENSITY_AT_0 = np.float32(0.39894228)
_SLOPE_AT_0 = np.float32(0.79788456)
_CUBIC, _CUBIC_SLOPE = np.float32(0.035677408), np.float32(0.107032225)


def _tanh_of_cubic(x: Array, fma: bool) -> Array:
    return tanh(x * madd(_CUBIC, x * x, _SLOPE_AT_0, fma))


@op
@dataclass(frozen=True)
class Gelu(Op):
    """Any shape, float32.

    Attributes:
        with_tanh: the approximation.
    """

    with_tanh: bool = False

    onnx = ("Gelu",)
    elementwise = True
    smooth = True

    def infer(self, x: TensorType) -> TensorType:
        return same_type(x)

    def reference(self, run: Run, x: Array) -> Array:
        share = _tanh_of_cubic(x, run.fma) if self.with_tanh else erf(x * _ROOT_HALF)
        return x * _HALF * (share + _ONE)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (back.apply(GeluGrad(self.with_tanh), dy, back.input(0)),)

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_gelu_tanh_f32" if self.with_tanh else "et_gelu_f32")

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        approximate = node.attribute("approximate", "none")
        if approximate not in ("none", "tanh"):
            raise UnsupportedError(f"approximate {approximate} is unknown")
        return import_elementwise(node, cls(approximate == "tanh"))


@op
@dataclass(frozen=True)
class GeluGrad(Op):
    """dx = dy * madd(x, density, 0.5 * (erf(x * sqrt(1/2)) + 1)); density = exp(x * x * -0.5) / sqrt(2 pi).

    With the tanh t: dy * madd(x * 0.5 * madd(-t, t, 1), madd(3 * 0.044715 * c, x * x, c), 0.5 * (t + 1)).
    """

    with_tanh: bool = False

    no_gradient = "second derivatives are not used"
    elementwise = True

    def infer(self, dy: TensorType, x: TensorType) -> TensorType:
        return same_type(dy, x)

    def reference(self, run: Run, dy: Array, x: Array) -> Array:
        square = x * x
        if self.with_tanh:
            t = _tanh_of_cubic(x, run.fma)
            slope = x * _HALF * madd(-t, t, _ONE, run.fma)
            return dy * madd(slope, madd(_CUBIC_SLOPE, square, _SLOPE_AT_0, run.fma), _HALF * (t + _ONE), run.fma)
        density = exp(square * -_HALF) * _DENSITY_AT_0
        return dy * madd(x, density, _HALF * (erf(x * _ROOT_HALF) + _ONE), run.fma)

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_gelu_tanh_grad_f32" if self.with_tanh else "et_gelu_grad_f32")
