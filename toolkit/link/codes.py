"""Values of samples as single bytes: the board keeps a table of what each stands for, and moves the bits from there.

Images, spectra and sensor readings mostly come from 8 bits, so that a data set holds at most 256 different float32
values, however they were scaled: then nothing is lost, and a sample takes a quarter of the time on the line.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
MOST = 256
_PIECE = 1 << 16


@dataclass(frozen=True)
class Codes:
    """What each code stands for.

    Attributes:
        values: float32 [up to 256]; no two have the same bits, and their bits ascend as unsigned integers.
    """

    values: Array

    @staticmethod
    def of(*arrays: Array) -> Codes | None:
        """Codes for all values of some float32 arrays, bit by bit; None where there are more than 256."""
        found = np.empty(0, np.uint32)
        for bits in map(_bits, arrays):
            # Piece by piece: data that came from floats have too many values at once, and need not be sorted.
            for start in range(0, bits.size, _PIECE):
                found = np.union1d(found, bits[start : start + _PIECE])
                if found.size > MOST:
                    return None
        return Codes(found.view(np.float32))

    @staticmethod
    def evenly(*arrays: Array) -> Codes:
        """256 values with equal distances from the least to the largest of some finite float32 arrays."""
        ends = min(float(array.min()) for array in arrays), max(float(array.max()) for array in arrays)
        found = Codes.of(np.linspace(*ends, MOST).astype(np.float32))
        assert found is not None
        return found

    def encoded(self, array: Array) -> bytes | None:
        """The codes of a float32 array, in its order; None where it holds a value that has none."""
        bits = _bits(array)
        places = np.minimum(np.searchsorted(self._bits, bits), self._bits.size - 1)
        return places.astype(np.uint8).tobytes() if np.array_equal(self._bits[places], bits) else None

    def rounded(self, array: Array) -> Array:
        """The nearest values that have codes; the lesser of two that are as near."""
        ascending = np.sort(self.values)
        above = np.clip(np.searchsorted(ascending, array), 1, max(ascending.size - 1, 1))
        lower, upper = ascending[above - 1], ascending[np.minimum(above, ascending.size - 1)]
        wide = array.astype(np.float64)
        return np.where(wide - lower <= upper - wide, lower, upper).astype(np.float32)

    @property
    def table(self) -> bytes:
        """As the board keeps it; it need not be told what no code stands for."""
        return self.values.astype("<f4").tobytes()

    @cached_property
    def _bits(self) -> Array:
        return _bits(self.values)


def _bits(array: Array) -> Array:
    return np.ascontiguousarray(array, np.float32).view(np.uint32).reshape(-1)
