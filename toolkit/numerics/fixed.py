"""Dynamic fixed point in NumPy: et_fixed.h bit for bit.

    value = mantissa * scale, mantissas in [-(2^(bits-1) - 1), 2^(bits-1) - 1], bits 8 or 16
    scale = 2^e, e = floor(log2(largest magnitude)) + 1 - (bits - 1), but at least 2^-126

Magnitudes are rounded, then the sign is put back. Magnitudes below 2^-126 count as 0; a tensor of zeros has the scale
2^-126. If an element is not finite, the scale is NaN and all mantissas are 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.numerics.bits import Float32, from_bits, to_bits
from toolkit.numerics.random import random_at, random_key

_NOT_FINITE = 255
DTYPES = {8: "int8", 16: "int16"}


def largest_mantissa(bits: int) -> int:
    """The largest magnitude of a mantissa."""
    return (1 << (bits - 1)) - 1


def shared_exponent(x: Float32, bits: int) -> tuple[int | None, Float32]:
    """Biased exponent that a tensor shares, None where an element is not finite; and the scale."""
    top = int(((to_bits(x) << np.uint32(1)) >> np.uint32(24)).max(initial=0))
    if top == _NOT_FINITE:
        return None, np.array(np.nan, np.float32)
    top = max(top, bits - 1)
    return top, from_bits(np.array((top - (bits - 2)) << 23, np.uint32))


def fixed_nearest(x: Float32, bits: int) -> tuple[NDArray[Any], Float32]:
    """Mantissas rounded to the nearest, ties to even, and the scale."""
    top, scale = shared_exponent(x, bits)
    if top is None:
        return np.zeros(x.shape, DTYPES[bits]), scale
    rounded = np.rint(normal(x).astype(np.float64) / np.float64(scale))
    largest = largest_mantissa(bits)
    return np.clip(rounded, -largest, largest).astype(DTYPES[bits]), scale


def fixed_random(x: Float32, bits: int, seed: int, step: int, stream: int) -> tuple[NDArray[Any], Float32]:
    """Mantissas rounded stochastically, and the scale.

    floor(magnitude / scale + u), magnitudes cut to 31 bits below the shared exponent. 8 bits: u = (2 b + 1) / 512 with
    b byte i % 4 of random number i / 4; 16 bits: u = h / 65536 with h half i % 2 of random number i / 2.
    """
    top, scale = shared_exponent(x, bits)
    if top is None:
        return np.zeros(x.shape, DTYPES[bits]), scale
    word = to_bits(x).reshape(-1).astype(np.int64)
    exponent = (word >> 23) & 0xFF
    shift = np.minimum(top - exponent, 32)
    aligned = np.where(exponent == 0, 0, ((word & 0x7FFFFF | 0x800000) << 7) >> shift)
    units = random_units(bits, seed, step, stream, word.size)
    added = (units << 16) + 0x8000 if bits == 8 else units
    rounded = np.minimum((aligned + added) >> (32 - bits), largest_mantissa(bits))
    return np.where(word >> 31 != 0, -rounded, rounded).reshape(x.shape).astype(DTYPES[bits]), scale


def random_units(bits: int, seed: int, step: int, stream: int, count: int) -> NDArray[np.int64]:
    """Lanes of random words, int64 [count]: bytes, four to a word, for 8 bits; halves, two to a word, for 16."""
    lanes = 32 // bits
    index = np.arange(count, dtype=np.int64)
    words = random_at(random_key(seed, step, stream), index // lanes).astype(np.int64)
    return np.asarray((words >> (index % lanes * bits)) & ((1 << bits) - 1))


def random_halves(seed: int, step: int, stream: int, count: int) -> NDArray[np.int64]:
    """16 random bits each, int64 [count], four to a random number: its halves, lowest first, and those of more of it.

    More of r: with x = r * 0x9E3779B1 of 32 bits, x ^ x >> 16.
    """
    index = np.arange(count, dtype=np.int64)
    words = random_at(random_key(seed, step, stream), index >> 2).astype(np.uint32)
    product = words * np.uint32(0x9E3779B1)
    chosen = np.where(index & 2, product ^ product >> np.uint32(16), words).astype(np.int64)
    return np.asarray((chosen >> (index % 2 * 16)) & 0xFFFF)


def upper_mantissa(master: NDArray[np.int16]) -> NDArray[np.int8]:
    """int8 mantissas of int16 masters: (master + 128) >> 8, at most 127; scale 256 times that of the master."""
    return np.asarray(np.minimum((master.astype(np.int32) + 128) >> 8, 127).astype(np.int8))


def normal(x: Float32) -> Float32:
    """x, with 0 for magnitudes below 2^-126."""
    return np.where(np.abs(x) < np.float32(2.0**-126), np.float32(0), x)
