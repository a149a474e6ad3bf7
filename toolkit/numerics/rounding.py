"""Rounding and sign (numerics N4), and rounding to odd: the step that makes two roundings in a row safe."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toolkit.numerics.bits import Float32, Float64, as_float32, quiet

_HALF_WAY = np.uint64(1 << 28)
_LOW_BITS = np.uint64((1 << 29) - 1)
SMALLEST_NORMAL = float(2.0**-126)


def rint_half_even(x: ArrayLike) -> Float32:
    """The nearest integer, ties to even, as float32; keeps the sign of zero. et_rint_f32."""
    with quiet():
        return np.asarray(np.rint(as_float32(x)))


def sign(x: ArrayLike) -> Float32:
    """+1 where x >= 0 (both zeros), else -1; NaN compares false, so it gives -1. et_sign_f32."""
    with quiet():
        return np.where(as_float32(x) >= 0, np.float32(1), np.float32(-1))


def add_to_odd(x: Float64, y: Float64) -> Float64:
    """x + y in float64, rounded to odd: an inexact sum gets its last bit set.

    A second rounding, to at most 51 bits, then gives what one rounding of the exact sum would have given: no tie is
    made up, none is lost. The error of the sum is Knuth's two-sum.
    """
    with quiet():
        total = np.asarray(x + y)
        y_part = total - x
        error = (x - (total - y_part)) + (y - y_part)
        bits = np.ascontiguousarray(total).view(np.int64).reshape(total.shape)
        inexact = (error != 0) & np.isfinite(total) & ((bits & 1) == 0)
        away_from_zero = np.signbit(error) == np.signbit(total)
        step = np.where(inexact, np.where(away_from_zero, 1, -1), 0)
        return np.asarray(bits + step).view(np.float64)


def may_round_twice(total: Float64, check_subnormal: bool) -> bool:
    """Whether rounding some element of a float64 sum to float32 could differ from rounding the exact sum.

    It can only where the float64 sum is a point half way between two float32: there, and nowhere else, what float64
    rounded away decides. Above 2^-126 those points end in 1 followed by 28 zeros; below, they lie elsewhere, and every
    element is suspect.

    Args:
        total: contiguous; a float64 sum, not necessarily finite.
        check_subnormal: False where the caller knows that a sum below 2^-126 is exact.
    """
    shifted = np.left_shift(total.view(np.int64), 35)
    if shifted.size == 0:
        return False
    if shifted.min() == np.iinfo(np.int64).min:
        return True
    return check_subnormal and bool(np.any((np.abs(total) < SMALLEST_NORMAL) & (total != 0)))


def suspects(total: Float64, check_subnormal: bool) -> NDArray[np.intp]:
    """The indices, in the flattened array, of the elements that `may_round_twice` is about."""
    found = (total.view(np.uint64) & _LOW_BITS) == _HALF_WAY
    if check_subnormal:
        found |= (np.abs(total) < SMALLEST_NORMAL) & (total != 0)
    return np.flatnonzero(found)
