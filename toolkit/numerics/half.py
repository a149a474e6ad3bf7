"""binary16 and bfloat16 (numerics N6): rounding to them, their values, and the multiply-add of binary16.

    fp16   IEEE binary16: 5 bits of exponent, 10 of fraction, subnormals kept
    bf16   bfloat16, the upper half of a binary32

Rounding is to the nearest, ties to even; what is too large becomes infinite; every NaN becomes the one positive quiet
NaN without payload, as the fcvt instructions have it. et_half.h is the same in C, bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.numerics.bits import Float32, from_bits, quiet, to_bits

FORMATS = ("fp16", "bf16")
Half = NDArray[np.uint16]
INFINITY = {"fp16": 0x7C00, "bf16": 0x7F80}
_NAN = {"fp16": np.uint16(0x7E00), "bf16": np.uint16(0x7FC0)}


def to_half(values: Float32, format: str) -> Half:
    """float32 [...] -> the bits of the nearest numbers of a format, uint16 [...]."""
    with quiet():
        if format == "fp16":
            rounded = np.ascontiguousarray(values.astype(np.float16)).view(np.uint16).reshape(values.shape)
        else:
            bits = to_bits(values).astype(np.int64)
            rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return np.asarray(np.where(np.isnan(values), _NAN[format], rounded))


def from_half(bits: Half, format: str) -> Float32:
    """uint16 [...] -> float32 [...], exact."""
    if format == "fp16":
        with quiet():  # a signalling NaN raises a flag
            return np.asarray(np.ascontiguousarray(bits).view(np.float16).astype(np.float32)).reshape(bits.shape)
    return from_bits(bits.astype(np.uint32) << np.uint32(16))


def round_half(values: Float32, format: str) -> Float32:
    """The nearest numbers of a format as float32."""
    return from_half(to_half(values, format), format)


def half_products(start: Any, a: NDArray[Any], b: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> Float32:
    """s = a[k] * b[k] + s rounded once to binary16, for k = 0, 1, ..., from s = start; et_madd_fp16.

    In float64 a product is exact. So is every sum that lies half way between two numbers of binary16, which is all that
    a second rounding could get wrong: a factor that float64 drops is too small to reach a tie.

    Args:
        start: values of binary16 in any float type, [...].
        a, b: values of binary16, [K, ...] broadcast to start behind the first axis.
        mask: [K, ...]; False leaves a product out.

    Returns:
        float32 [...].
    """
    s = np.array(start, np.float64)
    with quiet():
        for k in range(len(a)):
            following = (a[k].astype(np.float64) * b[k].astype(np.float64) + s).astype(np.float16)
            s = np.where(mask[k], following, s) if mask is not None else following.astype(np.float64)
        return np.asarray(s.astype(np.float32))
