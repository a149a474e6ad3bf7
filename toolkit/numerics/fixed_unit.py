"""The integer arithmetic of toolkit.ops.fixed_unit in NumPy: et_fixed_unit.h and et_fixed_scale.h bit for bit.

Scales are powers of two, kept as exponents here; None stands for a tensor in which something was not finite.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from toolkit.numerics.bits import Float32, to_bits
from toolkit.numerics.fixed import normal, random_units

Integers = NDArray[np.int64]

KEPT_BITS = 14
OFFSET_BITS = 29
_NOT_FINITE = 128


def exponent_of(scale: Float32) -> int | None:
    """e of the scale 2^e; None for NaN."""
    exponent = largest_exponent(np.atleast_1d(scale))
    return exponent


def scale_of(exponent: int | None) -> Float32:
    """2^e, at least 2^-126; NaN for None and for what is too large."""
    if exponent is None or exponent > 127:
        return np.array(np.nan, np.float32)
    return np.array(2.0 ** max(exponent, -126), np.float32)


def largest_exponent(x: Float32 | None) -> int | None:
    """Of all elements, -127 for zeros and no tensor; None where one is not finite."""
    if x is None:
        return -127
    exponent = int(((to_bits(x) << np.uint32(1)) >> np.uint32(24)).max(initial=0)) - 127
    return None if exponent == _NOT_FINITE else exponent


def units_of(x: Float32, exponent: int) -> Integers:
    """x / 2^exponent to the nearest integer, ties to even."""
    return np.asarray(np.rint(np.ldexp(normal(x).astype(np.float64), -exponent)).astype(np.int64))


def bits_of(values: Integers) -> int:
    """The bit length that all magnitudes need (of -n, as of n - 1)."""
    return int(np.bitwise_or.reduce((values ^ (values >> 63)).reshape(-1), initial=0)).bit_length()


def dropped(values: Integers, bits: int) -> int:
    """How many low bits are too many for `bits` bits."""
    return max(bits_of(values) - bits, 0)


def shifted(values: Integers, drop: int) -> Integers:
    """(values + half) >> drop."""
    return np.asarray((values + ((1 << drop) >> 1)) >> drop)


def multipliers(a: Float32 | None, channels: int) -> tuple[Integers, int | None]:
    """Mantissas of a, at most 32767, and the exponent of their scale; 2^14 for 1 without a."""
    if a is None:
        return np.full(channels, 1 << 14, np.int64), -14
    top = largest_exponent(a)
    if top is None:
        return np.zeros(channels, np.int64), None
    exponent = max(top, 15 - 127) - 14
    return np.clip(units_of(a, exponent), -32767, 32767), exponent


class Draw(NamedTuple):
    """Where random numbers come from."""

    seed: int
    step: int
    stream: int


def rounded_to_7_bits(
    values: Integers, draw: Draw | None, others: Integers | None = None
) -> tuple[NDArray[np.int8], int]:
    """Mantissas of at most 127 and the shift that made them; stochastic with a draw, else to the nearest.

    Args:
        others: values that count too when the shift is chosen.
    """
    drop = max(dropped(values, 7), 0 if others is None else dropped(others, 7))
    added: Integers = np.zeros_like(values)
    if draw is not None:
        byte = random_units(8, *draw, values.size).reshape(values.shape)
        half = 1 << (drop - 9) if drop > 8 else 0
        added = ((byte >> max(8 - drop, 0)) << max(drop - 8, 0)) + half
    elif drop > 0:
        added = ((1 << (drop - 1)) - 1) + ((values >> drop) & 1)
    return np.clip((values + added) >> drop, -127, 127).astype(np.int8), drop
