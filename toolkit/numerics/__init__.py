"""The numerics contract in NumPy: docs/numerics.md and runtime_c/et_math.h, et_random.h say the same.

float32 arrays in, float32 arrays out, equal to the C bit for bit (NaN payloads excepted).
"""

from __future__ import annotations

from toolkit.numerics.bits import all_finite, as_float32, from_bits, same_bits, to_bits
from toolkit.numerics.fma import Accumulator, Operand, accumulate_matmul, madd
from toolkit.numerics.functions import erf, exp, log, rsqrt, sigmoid, sqrt, tanh
from toolkit.numerics.random import Key, random_at, random_key, random_u32, random_unit
from toolkit.numerics.rounding import rint_half_even, sign

__all__ = [
    "Accumulator",
    "Key",
    "Operand",
    "accumulate_matmul",
    "all_finite",
    "as_float32",
    "erf",
    "exp",
    "from_bits",
    "log",
    "madd",
    "random_at",
    "random_key",
    "random_u32",
    "random_unit",
    "rint_half_even",
    "rsqrt",
    "same_bits",
    "sigmoid",
    "sign",
    "sqrt",
    "tanh",
    "to_bits",
]
