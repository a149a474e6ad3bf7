"""The integer arithmetic of toolkit.ops.fixed_unit in NumPy: et_fixed_unit.h and et_fixed_scale.h bit for bit.

A scale is factor * 2^e with a factor in [1, 2), which is 1 for most tensors, and e an exponent here; None stands for a
tensor in which something was not finite.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from toolkit.numerics.bits import Float32, from_bits, quiet, to_bits
from toolkit.numerics.fixed import normal, random_units

Integers = NDArray[np.int64]

KEPT_BITS = 14
OFFSET_BITS = 29
ONE_BITS = 22
ONE = np.array(1, np.float32)
_NOT_FINITE = 128


def exponent_of(scale: Float32) -> int | None:
    """e of the scale factor * 2^e; None for NaN."""
    exponent = largest_exponent(np.atleast_1d(scale))
    return exponent


def factor_of(scale: Float32) -> Float32:
    """The factor in [1, 2) of a scale factor * 2^e."""
    return from_bits(to_bits(scale) & np.uint32(0x7FFFFF) | np.uint32(0x3F800000))


def scale_of(exponent: int | None, factor: Float32 = ONE) -> Float32:
    """factor * 2^e, e taken as at least -126; NaN for None and for what is too large."""
    if exponent is None or exponent > 127:
        return np.array(np.nan, np.float32)
    return np.array(np.float32(2.0 ** max(exponent, -126)) * np.float32(factor))


def scale_product(a: Float32, b: Float32) -> Float32:
    """The product of two scales, at least 2^-126; NaN where a factor is, and for what is too large."""
    with quiet():
        product = np.float32(a) * np.float32(b)
    return np.array(max(product, np.float32(2.0**-126)) if np.isfinite(product) else np.nan, np.float32)


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


def multipliers(a: Float32 | None, channels: int, scale: Float32) -> tuple[Integers, int | None]:
    """Mantissas of a * factor, at most 32767, and the exponent of their unit; without a, of 1 * factor by 2^14.

    Args:
        scale: whose factor it is.
    """
    factor = factor_of(scale)
    if a is None:
        return np.full(channels, min(int(units_of(factor, -14)[()]), 32767), np.int64), -14
    with quiet():
        product = np.asarray(a * factor)
    top = largest_exponent(product)
    if top is None:
        return np.zeros(channels, np.int64), None
    exponent = max(top, 15 - 127) - 14
    return np.clip(units_of(product, exponent), -32767, 32767), exponent


def in_one(t: Integers, exponent: int) -> tuple[Integers, int]:
    """Integers in units of 2^exponent, cut so that 1.0 is 2^n of theirs, n at most 22; and that n.

    Where a unit is more than 1, n is 0: whatever is positive is at least 1.
    """
    one = max(-exponent, 0)
    return t >> min(max(one - ONE_BITS, 0), 31), min(one, ONE_BITS)


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


def largest_magnitude(values: Integers) -> int:
    """Of all values; 1 for zeros."""
    return int(np.abs(values).max(initial=1))


def odd_codes(values: Integers, levels: int, draw: Draw) -> tuple[NDArray[np.int8], int]:
    """Odd integers in [-levels, levels], and the largest magnitude m: code * m / levels is the value on average.

        place = floor(value * levels * 2^15 / m), a little less where the quotient levels * 2^15 / m was cut to 32 bits
        code  = 2 * ((place + levels * 2^15 + h) >> 16) - levels        h: half i % 2 of random number i / 2

    Source: DoReFa-Net (arXiv 1606.06160), section 2.4, with one m for the tensor.
    """
    largest = largest_magnitude(values)
    left = 31 - largest.bit_length()
    factor = (levels << 47) // (largest << left)
    place = ((values << left) * factor) >> 32
    half = random_units(16, *draw, values.size).reshape(values.shape).astype(np.int64)
    return (2 * ((place + (levels << 15) + half) >> 16) - levels).astype(np.int8), largest
