"""Counter-based random numbers (numerics N5): et_random.h in NumPy, bit for bit.

value = hash(seed, step, stream, index): no state, so any order, any core and any interruption gives the same numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toolkit.numerics.bits import Float32, UInt32

_WORD = 0xFFFFFFFF


class Key(NamedTuple):
    """What seed, step and stream come to: et_random_key_t."""

    before: int
    within: int


def _mix(x: int) -> int:
    x ^= x >> 16
    x = x * 0x21F0AAAD & _WORD
    x ^= x >> 15
    x = x * 0xD35A2D97 & _WORD
    return x ^ x >> 15


def random_key(seed: int, step: int, stream: int) -> Key:
    """The key of one draw of a tensor. Each argument counts modulo 2^32. et_random_key."""
    seed, step, stream = seed & _WORD, step & _WORD, stream & _WORD
    a = _mix((seed + 0x9E3779B9) & _WORD)
    b = _mix(((a ^ step) + 0x7F4A7C15) & _WORD)
    c = _mix((stream + 0xC2B2AE35) & _WORD)
    d = _mix(((c ^ step) + 0x27D4EB2F) & _WORD)
    return Key(_mix(((b ^ stream) + 0x85EBCA6B) & _WORD), _mix(((d ^ seed) + 0x165667B1) & _WORD))


def random_at(key: Key, index: ArrayLike) -> UInt32:
    """32 random bits for each index, modulo 2^32: int [...] -> uint32 [...]. et_random_at."""
    given: NDArray[Any] = np.asarray(index)
    if given.dtype.kind not in "iu":
        raise TypeError(f"an index must be an integer, not {given.dtype}")
    x = np.atleast_1d(given).astype(np.uint32)  # an array also of one, so that products wrap around silently
    x += np.uint32(key.before)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x21F0AAAD)
    x ^= x >> np.uint32(15)
    x += np.uint32(key.within)
    x *= np.uint32(0xD35A2D97)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x9E3779B1)
    x ^= x >> np.uint32(16)
    return x.reshape(given.shape)


def random_u32(seed: int, step: int, stream: int, index: ArrayLike) -> UInt32:
    """32 random bits for each index: int [...] -> uint32 [...]. et_random_u32."""
    return random_at(random_key(seed, step, stream), index)


def random_unit(seed: int, step: int, stream: int, index: ArrayLike) -> Float32:
    """Uniform in [0, 1), multiples of 2^-24: int [...] -> float32 [...]. et_random_unit_f32."""
    upper = random_u32(seed, step, stream, index) >> np.uint32(8)
    return np.asarray(upper.astype(np.float32) * np.float32(2.0**-24))
