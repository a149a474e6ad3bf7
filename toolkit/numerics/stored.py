"""Weights that train in 16 bits: what a stored number stands for, and how a new value is rounded as it is stored.

    fixed   int16 s       s * 2^exponent; s in [-32767, 32767], the same on both sides of 0

Rounding is stochastic: a value between two neighbours goes up with a probability that is its distance from the lower
one, so that updates far below the resolution still add up on average (Gupta et al., arXiv 1502.02551, section 3).
et_stored.h is the same in C, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.numerics.bits import Float32, UInt32, quiet

LARGEST_FIXED = 32767


@dataclass(frozen=True)
class StoredFormat:
    """A storage format of 16 bits.

    Attributes:
        name: "fixed".
        exponent: of the resolution of "fixed"; in [-126, 111], so that every stored number is exact in float32.
    """

    name: str = "fixed"
    exponent: int = -14

    def __post_init__(self) -> None:
        if self.name != "fixed" or not -126 <= self.exponent <= 111:
            raise ValueError(f"there is no storage format {self.name} with exponent {self.exponent}")

    @property
    def dtype(self) -> str:
        """Element type of the stored numbers."""
        return "int16"

    @property
    def step(self) -> float:
        """The resolution of fixed point."""
        return float(2.0**self.exponent)

    def decode(self, stored: NDArray[np.int16]) -> Float32:
        """The float32 values, exact."""
        return np.asarray(stored.astype(np.float32) * np.float32(self.step))

    def encode(self, values: Float32, random: UInt32) -> NDArray[np.int16]:
        """Values rounded stochastically to the format; et_store_fixed16.

        With t = value / 2^exponent: floor(t), plus 1 where u < t - floor(t), u = (upper 24 bits of `random`) / 2^24.
        Beyond the range, the nearest end of it; NaN gives the upper end.

        Args:
            random: 32 bits for each value.
        """
        with quiet():
            t = values / np.float32(self.step)
            inside = np.where(np.abs(t) < LARGEST_FIXED, t, np.float32(0))
            whole = np.floor(inside)
            fraction = inside - whole
            unit = (random >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
            rounded = whole.astype(np.int32) + (unit < fraction)
            end = np.where(t <= -LARGEST_FIXED, -LARGEST_FIXED, LARGEST_FIXED)
            stored: NDArray[np.int16] = np.where(np.abs(t) < LARGEST_FIXED, rounded, end).astype(np.int16)
        return stored

    def nearest(self, values: Float32) -> NDArray[np.int16]:
        """Values rounded to the nearest, ties to even: how initial weights are stored."""
        with quiet():
            t = np.rint(values.astype(np.float64) / self.step)
            stored: NDArray[np.int16] = np.clip(t, -LARGEST_FIXED, LARGEST_FIXED).astype(np.int16)
        return stored


def fixed_format_for(values: Float32, headroom: int = 2) -> StoredFormat:
    """Fixed point for values up to 2^headroom times the power of two above the largest magnitude given."""
    largest = float(np.abs(values).max(initial=0.0))
    exponent = int(np.floor(np.log2(largest))) + 1 if largest > 0 else 0
    return StoredFormat("fixed", max(exponent + headroom - 15, -126))
