"""exp, log, tanh, sigmoid, erf, sqrt and rsqrt on float32 arrays (numerics N3): et_math.c in NumPy, bit for bit.

Every line that calculates is one IEEE float32 operation for each element, in the order of the C. None of the functions
uses the multiply-add, so their bits are the same for Programs with and without it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from toolkit.numerics.bits import MAGNITUDE_BITS, SIGN_BIT, Float32, UInt32, as_float32, from_bits, quiet, to_bits

_ONE = np.float32(1)
_INFINITY = np.float32(np.inf)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_LOG2_E = np.float32(float.fromhex("0x1.715476p+0"))
_INTEGER_SHIFT = np.float32(12582912.0)
_ROOT_HALF_BITS = np.uint32(0x3F3504F3)


def _coefficients(*hexadecimal: str) -> tuple[np.float32, ...]:
    return tuple(np.float32(float.fromhex(text)) for text in hexadecimal)


# Highest power first, as in et_math.c.
_EXP = _coefficients("0x1.6a4d60p-10", "0x1.12398ep-7", "0x1.5558b0p-5", "0x1.555492p-3", "0x1.fffffcp-2")
_LOG = _coefficients(
    "-0x1.38c9dep-4", "0x1.055ec6p-3", "-0x1.0d8242p-3", "0x1.22d92ep-3",
    "-0x1.54728ap-3", "0x1.99a01cp-3", "-0x1.000226p-2", "0x1.555554p-2",
)  # fmt: skip
_TANH = _coefficients("-0x1.750ce4p-8", "0x1.51f8cep-6", "-0x1.b835a4p-5", "0x1.1106f6p-3", "-0x1.555532p-2")
_ERF = _coefficients(
    "0x1.4f8e58p-14", "-0x1.a6126ep-11", "0x1.544aa8p-8", "-0x1.b80120p-6",
    "0x1.ce2d64p-4", "-0x1.812740p-2", "0x1.06eba8p-3",
)  # fmt: skip
_LOG_ERFC = _coefficients(
    "0x1.967b12p-13", "-0x1.8c2cacp-9", "0x1.6ad2d8p-6", "-0x1.a902f2p-4",
    "-0x1.4655d6p-1", "-0x1.20a7f4p+0", "-0x1.d339a0p-13",
)  # fmt: skip


def _horner(coefficients: tuple[np.float32, ...], x: Float32) -> Float32:
    """Each step rounds the product, then the sum."""
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = np.asarray(total * x)
        total = np.asarray(total + coefficient)
    return total


def _with_sign(magnitude: Float32, sign_bits: UInt32) -> Float32:
    return from_bits(to_bits(magnitude) | sign_bits)


def sqrt(x: ArrayLike) -> Float32:
    """Square root, correctly rounded; NaN below 0, sqrt(-0) = -0. et_sqrt_f32."""
    with quiet():
        return np.asarray(np.sqrt(as_float32(x)))


def rsqrt(x: ArrayLike) -> Float32:
    """1 / sqrt(x), each correctly rounded. et_rsqrt_f32."""
    with quiet():
        return np.asarray(_ONE / np.sqrt(as_float32(x)))


def exp(x: ArrayLike) -> Float32:
    """e^x. et_exp_f32."""
    value = as_float32(x)
    with quiet():
        shifted = value * _LOG2_E
        shifted = np.asarray(shifted + _INTEGER_SHIFT)
        n = (to_bits(shifted) - to_bits(_INTEGER_SHIFT)).view(np.int32)
        whole = shifted - _INTEGER_SHIFT
        partly = value - whole * _LN2_HIGH
        r = np.asarray(partly - whole * _LN2_LOW)
        square = r * r
        tail = square * _horner(_EXP, r)
        tail = tail + r
        y = tail + _ONE
        # Two powers of two, so that only the last product rounds; both are exact where the result is normal.
        n = np.clip(n, -151, 151)
        first = (n + 256) // 2 - 128
        scaled = y * _power_of_two(first)
        scaled = scaled * _power_of_two(n - first)
        scaled = np.where(value > np.float32(104), _INFINITY, scaled)
        scaled = np.where(value < np.float32(-104), np.float32(0), scaled)
        return np.asarray(np.where(np.isnan(value), value, scaled))


def _power_of_two(exponent: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> Float32:
    return from_bits((exponent + 127).astype(np.uint32) << np.uint32(23))


def log(x: ArrayLike) -> Float32:
    """Natural logarithm; -inf at 0, NaN below. et_log_f32."""
    value = as_float32(x)
    with quiet():
        subnormal = to_bits(value) < np.uint32(0x00800000)
        scaled = np.where(subnormal, value * np.float32(8388608.0), value)
        offset = to_bits(scaled) - _ROOT_HALF_BITS
        exponent = ((offset + np.uint32(0x40000000)) >> np.uint32(23)).astype(np.int32) - 128
        n = np.asarray(exponent - np.where(subnormal, 23, 0)).astype(np.float32)
        f = np.asarray(from_bits((offset & np.uint32(0x007FFFFF)) + _ROOT_HALF_BITS) - _ONE)
        square = f * f
        cube = square * f
        half = square * np.float32(0.5)
        y = cube * _horner(_LOG, f)
        y = y + n * _LN2_LOW
        y = y - half
        y = f + y
        y = y + n * _LN2_HIGH
        y = np.where(value == 0, -_INFINITY, y)
        y = np.where(value == _INFINITY, _INFINITY, y)
        return np.asarray(np.where((value < 0) | np.isnan(value), np.float32(np.nan), y))


def tanh(x: ArrayLike) -> Float32:
    """Hyperbolic tangent; odd, exactly +-1 from 9.25 on. et_tanh_f32."""
    value = as_float32(x)
    size = from_bits(to_bits(value) & MAGNITUDE_BITS)
    with quiet():
        z = np.asarray(value * value)
        tail = (z * value) * _horner(_TANH, z)
        near = np.where(value == 0, value, value + tail)
        rest = np.float32(2) / (exp(size + size) + _ONE)
        far = np.where(size >= np.float32(9.25), _ONE, _ONE - rest)
        y = np.where(size < np.float32(0.625), near, _with_sign(far, to_bits(value) & SIGN_BIT))
        return np.asarray(np.where(np.isnan(value), value, y))


def sigmoid(x: ArrayLike) -> Float32:
    """1 / (1 + e^-x). et_sigmoid_f32."""
    value = as_float32(x)
    with quiet():
        power = exp(from_bits(to_bits(value) | SIGN_BIT))
        total = power + _ONE
        lost = power - (total - _ONE)
        quotient = power / total
        below = quotient - quotient * lost
        y = np.where(to_bits(value) & SIGN_BIT, below, _ONE / total)
        return np.asarray(np.where(np.isnan(value), value, y))


def erf(x: ArrayLike) -> Float32:
    """Error function; odd, exactly +-1 from 3.9375 on. et_erf_f32."""
    value = as_float32(x)
    size = from_bits(to_bits(value) & MAGNITUDE_BITS)
    with quiet():
        tail = value * _horner(_ERF, np.asarray(value * value))
        near = np.where(value == 0, value, value + tail)
        far = _ONE - exp(_horner(_LOG_ERFC, size))
        far = np.where(size >= np.float32(3.9375), _ONE, far)
        y = np.where(size < np.float32(0.9375), near, _with_sign(far, to_bits(value) & SIGN_BIT))
        return np.asarray(np.where(np.isnan(value), value, y))
