"""AddCodes: the sum of two tensors of int8 codes as int8 codes, in integers alone.

A code stands for (code - zero) * scale. With multipliers that are the ratios of the scales to that of the sum, times
2^shift:

    t = a_multiplier * (a - a_zero) + b_multiplier * (b - b_zero)
    y = clamp(zero + rint(t / 2^shift), low, high)

rint is exact, ties to even. Multipliers are 0 ... 2^21, so t stays within 2 * 255 * 2^21 < 2^31 (numerics N7).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import frexp

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Lowering

MOST_MULTIPLIER_BITS, MOST_SHIFT = 21, 30


@op
@dataclass(frozen=True)
class AddCodes(Op):
    """a, b int8 of one shape -> y int8, which may be a or b.

    Attributes:
        a_zero, b_zero, zero: the codes of 0 in a, b and y.
        a_multiplier, b_multiplier, shift: as above; see `multipliers`.
        low, high: the least and the largest code of y: an activation that clips is a clamp of codes.
    """

    a_zero: int
    a_multiplier: int
    b_zero: int
    b_multiplier: int
    shift: int
    zero: int
    low: int = -128
    high: int = 127

    no_gradient = "inference only: it is made where nothing is trained"
    elementwise = True

    def __post_init__(self) -> None:
        zeros = (self.a_zero, self.b_zero, self.zero)
        require(all(-128 <= zero <= 127 for zero in zeros), f"zeros of {zeros} are not int8")
        require(-128 <= self.low <= self.high <= 127, f"codes from {self.low} to {self.high} are not int8")
        factors = (self.a_multiplier, self.b_multiplier)
        require(all(0 <= factor <= 1 << MOST_MULTIPLIER_BITS for factor in factors), f"multipliers of {factors}")
        require(1 <= self.shift <= MOST_SHIFT, f"a shift of {self.shift}")

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        require(a == b and a.dtype == "int8", f"int8 codes of one shape are needed, not {a} and {b}")
        return a

    def reference(self, run: Run, a: Array, b: Array) -> Array:
        left, right = (a.astype(np.int64) - self.a_zero, b.astype(np.int64) - self.b_zero)
        t = self.a_multiplier * left + self.b_multiplier * right
        up = ((1 << (self.shift - 1)) - 1) + ((t >> self.shift) & 1)  # ties go to the even neighbour
        codes = ((t + up) >> self.shift) + self.zero
        clamped: Array = np.clip(codes, self.low, self.high).astype(np.int8)
        return clamped

    def lower(self, to: Lowering) -> None:
        fields = ("a_zero", "a_multiplier", "b_zero", "b_multiplier", "shift", "zero", "low", "high")
        how = to.struct("et_add_codes", {name: getattr(self, name) for name in fields}, "sum")
        count = to.size(to.input_type(0).size)
        to.call("et_add_codes_i8", count, how, to.read(0), to.read(1), to.write(0, in_place=(0, 1)))


def multipliers(a_ratio: float, b_ratio: float) -> tuple[int, int, int] | None:
    """(a_multiplier, b_multiplier, shift) for the ratios of both scales to that of the sum; None where none fits."""
    exponent = frexp(max(a_ratio, b_ratio))[1]  # the larger one is below 2^exponent
    shift = min(MOST_MULTIPLIER_BITS - exponent, MOST_SHIFT)
    if shift < 1:
        return None
    return round(a_ratio * 2.0**shift), round(b_ratio * 2.0**shift), shift
