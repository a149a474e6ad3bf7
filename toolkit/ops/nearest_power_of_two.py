"""NearestPowerOfTwo: y = 2^k with k = rint(log2(x)), found without a logarithm.

log2 of a float32 m * 2^e, 1 <= m < 2, rounds up where m > sqrt(2); sqrt(2) itself is no float32, so there is no tie.
Below 2^-27 (1e-8, rounded), and for 0, negative numbers and NaN, y is 2^-27; infinity gives 2^127.
The gradient goes straight through the rounding: dx = dy * (y / x), and 0 where x is below 2^-27 or NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import from_bits, to_bits
from toolkit.ops.base import Op, Run, op
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.elementwise import lower_elementwise, same_type

LOWEST = np.float32(2.0**-27)
HIGHEST_BITS = np.uint32(0x7F000000)  # 2^127
# What is added carries into the exponent for every fraction above that of sqrt(2), 0x3504F3 cut off.
UP = np.uint32(0x00800000 - 0x003504F4)


def nearest(x: Array) -> Array:
    """float32 powers of two."""
    usable = np.where(x >= LOWEST, x, LOWEST)
    bits = (to_bits(usable) + UP) & np.uint32(0xFF800000)
    return from_bits(np.minimum(bits, HIGHEST_BITS))


@op
@dataclass(frozen=True)
class NearestPowerOfTwo(Op):
    """x float32 of any shape -> y of the same shape."""

    elementwise = True

    def infer(self, x: TensorType) -> TensorType:
        return same_type(x)

    def reference(self, run: Run, x: Array) -> Array:
        return nearest(x)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (back.apply(NearestPowerOfTwoGrad(), dy, back.input(0)),)

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_nearest_power_of_two_f32")


@op
@dataclass(frozen=True)
class NearestPowerOfTwoGrad(Op):
    """dy, x float32 of one shape -> dx, which may be either."""

    no_gradient = "second derivatives are not used"
    elementwise = True

    def infer(self, dy: TensorType, x: TensorType) -> TensorType:
        return same_type(dy, x)

    def reference(self, run: Run, dy: Array, x: Array) -> Array:
        return np.where(x >= LOWEST, dy * (nearest(x) / x), np.float32(0))

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_nearest_power_of_two_grad_f32")
