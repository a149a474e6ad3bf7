"""AffineQuantize: int8 codes of real values, which stand for (code - zero) * scale; one scale and zero for a tensor.

    t = x * inverse, one rounding; t = t > low - zero ? t : low - zero; t = t < high - zero ? t : high - zero;
    code = rint(t) + zero, ties to even; low is -128 and high 127

NaN compares false, so it becomes the code -128 (numerics N4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import rint_half_even
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Lowering

LOWEST, HIGHEST = -128, 127


@op
@dataclass(frozen=True)
class AffineQuantize(Op):
    """x float32, any shape -> codes int8.

    Attributes:
        inverse: 1 / scale, rounded to float32.
        zero: the code of 0.
    """

    inverse: float
    zero: int

    no_gradient = "inference only: it is made where nothing is trained"

    def __post_init__(self) -> None:
        require(LOWEST <= self.zero <= HIGHEST, f"a zero of {self.zero} is not int8")

    def infer(self, x: TensorType) -> TensorType:
        require(x.dtype == "float32", f"float32 is needed, not {x}")
        return TensorType(x.shape, "int8")

    def reference(self, run: Run, x: Array) -> Array:
        low, high = np.float32(LOWEST - self.zero), np.float32(HIGHEST - self.zero)
        t = x * np.float32(self.inverse)
        t = np.where(t > low, t, low)
        t = np.where(t < high, t, high)
        return (rint_half_even(t).astype(np.int32) + self.zero).astype(np.int8)

    def lower(self, to: Lowering) -> None:
        count = to.size(to.input_type(0).size)
        to.call("et_affine_quantize_i8", count, to.real(self.inverse), to.size(self.zero), to.read(0), to.write(0))

