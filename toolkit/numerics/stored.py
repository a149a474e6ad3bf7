"""Weights that train in 16 bits: what a stored number stands for, and how a new value is rounded as it is stored.

    fixed   int16 s       s * 2^exponent; s in [-32767, 32767], the same on both sides of 0
    fp16    uint16        IEEE binary16, subnormals kept
    bf16    uint16        the upper half of a binary32

Beyond the range is stored as its end.

Rounding is stochastic: a value between two neighbours goes up with a probability that is its distance from the lower
one, so that updates far below the resolution still add up on average (Gupta et al., arXiv 1502.02551, section 3).
et_stored.h is the same in C, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.numerics.bits import Float32, UInt32, from_bits, quiet, to_bits

LARGEST_FIXED = 32767
_LARGEST_FP16 = 0x7BFF
_LARGEST_BF16 = 0x7F7F
_INFINITY = 0x7F800000

Stored = NDArray[Any]  # int16 or uint16


@dataclass(frozen=True)
class StoredFormat:
    """A storage format of 16 bits.

    Attributes:
        name: "fixed", "fp16" or "bf16".
        exponent: of the resolution of "fixed"; in [-126, 111], so that every stored number is exact in float32.
    """

    name: str = "fixed"
    exponent: int = -14

    def __post_init__(self) -> None:
        if self.name not in ("fixed", "fp16", "bf16") or not -126 <= self.exponent <= 111:
            raise ValueError(f"there is no storage format {self.name} with exponent {self.exponent}")

    @property
    def dtype(self) -> str:
        """Element type of the stored numbers."""
        return "int16" if self.name == "fixed" else "uint16"

    @property
    def kernel(self) -> str:
        """How kernels are named after it."""
        return "fixed16" if self.name == "fixed" else self.name

    @property
    def step(self) -> float:
        """The resolution of fixed point."""
        return float(2.0**self.exponent)

    def decode(self, stored: Stored) -> Float32:
        """The float32 values, exact."""
        if self.name == "fixed":
            return np.asarray(stored.astype(np.float32) * np.float32(self.step))
        if self.name == "fp16":
            return np.asarray(stored.view(np.float16).astype(np.float32))
        return from_bits(stored.astype(np.uint32) << np.uint32(16))

    def encode(self, values: Float32, random: UInt32) -> Stored:
        """Values rounded stochastically to the format; et_store_fixed16, et_store_fp16, et_store_bf16.

        fixed: with t = value / 2^exponent, floor(t), plus 1 where u < t - floor(t), u = (upper 24 bits of `random`) /
        2^24; NaN gives the upper end. fp16, bf16: the magnitude's bits plus as many of the upper bits of `random` as
        are dropped (24 for subnormals of fp16 that drop more), cut off; NaN stays NaN.

        Args:
            random: 32 bits for each value.
        """
        with quiet():
            return self._encode_fixed(values, random) if self.name == "fixed" else self._encode_half(values, random)

    def nearest(self, values: Float32) -> Stored:
        """Values rounded to the nearest, ties to even: how initial weights are stored."""
        with quiet():
            if self.name == "fixed":
                t = np.rint(values.astype(np.float64) / self.step)
                return np.asarray(np.clip(t, -LARGEST_FIXED, LARGEST_FIXED).astype(np.int16))
            if self.name == "fp16":
                return np.asarray(np.clip(values, -65504, 65504).astype(np.float16).view(np.uint16))
            bits = to_bits(values).astype(np.int64)
            magnitude = bits & 0x7FFFFFFF
            rounded = np.minimum((magnitude + 0x7FFF + ((magnitude >> 16) & 1)) >> 16, _LARGEST_BF16)
            return np.asarray((rounded | bits >> 16 & 0x8000).astype(np.uint16))

    def _encode_fixed(self, values: Float32, random: UInt32) -> Stored:
        t = values / np.float32(self.step)
        inside = np.where(np.abs(t) < LARGEST_FIXED, t, np.float32(0))
        whole = np.floor(inside)
        fraction = inside - whole
        unit = (random >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
        rounded = whole.astype(np.int32) + (unit < fraction)
        end = np.where(t <= -LARGEST_FIXED, -LARGEST_FIXED, LARGEST_FIXED)
        return np.asarray(np.where(np.abs(t) < LARGEST_FIXED, rounded, end).astype(np.int16))

    def _encode_half(self, values: Float32, random: UInt32) -> Stored:
        bits, draw = to_bits(values).astype(np.int64), random.astype(np.int64)
        magnitude, sign = bits & 0x7FFFFFFF, bits >> 16 & 0x8000
        if self.name == "bf16":
            rounded = np.minimum((magnitude + (draw >> 16)) >> 16, _LARGEST_BF16)
            return np.asarray((np.where(magnitude > _INFINITY, 0x7FC0, rounded) | sign).astype(np.uint16))
        exponent = magnitude >> 23
        normal = (magnitude - (112 << 23) + (draw >> 19)) >> 13
        shift = np.clip(126 - exponent, 14, 24)
        mantissa = (magnitude & 0x7FFFFF | 0x800000) >> np.clip(126 - exponent - 24, 0, 31)
        subnormal = np.where(exponent == 0, 0, (mantissa + (draw >> (32 - shift))) >> shift)
        rounded = np.minimum(np.where(exponent >= 113, normal, subnormal), _LARGEST_FP16)
        return np.asarray((np.where(magnitude > _INFINITY, 0x7E00, rounded) | sign).astype(np.uint16))


def fixed_format_for(values: Float32, headroom: int = 2) -> StoredFormat:
    """Fixed point for values up to 2^headroom times the power of two above the largest magnitude given."""
    largest = float(np.abs(values).max(initial=0.0))
    exponent = int(np.floor(np.log2(largest))) + 1 if largest > 0 else 0
    return StoredFormat("fixed", max(exponent + headroom - 15, -126))
