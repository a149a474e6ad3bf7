"""Float32 arrays and their bits: what the other files of this package, and every parity test, share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
UInt32 = NDArray[np.uint32]
UInt64 = NDArray[np.uint64]

SIGN_BIT = np.uint32(0x80000000)
MAGNITUDE_BITS = np.uint32(0x7FFFFFFF)
INFINITY_BITS = np.uint32(0x7F800000)


def quiet() -> np.errstate:
    """No warnings: overflow, underflow and NaN are results like any other here."""
    return np.errstate(all="ignore")


def as_float32(x: ArrayLike) -> Float32:
    """`x` as a float32 array; no copy where it is one. Raises TypeError where float32 would lose something silently."""
    array: NDArray[Any] = np.asarray(x)
    if array.dtype == np.float64 and isinstance(x, np.ndarray):
        raise TypeError("a float64 array where float32 is specified: round it on purpose, with .astype(np.float32)")
    return np.asarray(array, dtype=np.float32)


def to_bits(x: ArrayLike) -> UInt32:
    """float32 [...] -> uint32 [...], the same 32 bits each."""
    return np.ascontiguousarray(as_float32(x)).view(np.uint32).reshape(np.shape(x))


def from_bits(bits: ArrayLike) -> Float32:
    """uint32 [...] -> float32 [...], the same 32 bits each."""
    return np.ascontiguousarray(np.asarray(bits, dtype=np.uint32)).view(np.float32).reshape(np.shape(bits))


def same_bits(x: ArrayLike, y: ArrayLike) -> Bool:
    """Element by element: equal bits, or NaN on both sides (payloads are outside the contract, N8)."""
    first, second = as_float32(x), as_float32(y)
    both_nan: Bool = np.isnan(first) & np.isnan(second)
    return np.asarray((to_bits(first) == to_bits(second)) | both_nan)


def all_finite(x: ArrayLike) -> bool:
    """Whether no element is infinite or NaN: et_check_finite_f32."""
    return bool(np.all((to_bits(x) & INFINITY_BITS) != INFINITY_BITS))
