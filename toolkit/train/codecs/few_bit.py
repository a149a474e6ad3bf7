"""The step functions that come nearest to a derivative: Few-Bit backward (arXiv 2202.00441), solved by us.

Of all functions of 2^k constant pieces, the one with the least integral of (f'(x) - q(x))^2 over |x| <= RANGE. A piece
from a to b has the mean of f' there for its level, (f(b) - f(a)) / (b - a), so what is left to choose are the borders:
those with the largest sum of (f(b) - f(a))^2 / (b - a). Dynamic programming finds them on a grid, and once more on a
finer grid around what it found. An even derivative is folded: the pieces are chosen for |x|, which halves their work.

Computed in float64 when compiling; borders are multiples of FINE and levels are rounded to 6 decimals, so that the last
bits of a machine's own functions do not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray

RANGE = 10.0
COARSE, FINE = 0.01, 0.0001
_DECIMALS = 6

Real = NDArray[np.float64]


@dataclass(frozen=True)
class Pieces:
    """A step function.

    Attributes:
        borders: ascending.
        levels: one more; level i belongs to borders[i - 1] < x <= borders[i].
    """

    borders: tuple[float, ...]
    levels: tuple[float, ...]


def _hard_swish(x: Real) -> Real:
    return x * np.clip(x / 6 + 0.5, 0, 1)


def _sigmoid(x: Real) -> Real:
    return np.asarray(1 / (1 + np.exp(-x)))


def _silu(x: Real) -> Real:
    return x * _sigmoid(x)


def _gelu(x: Real) -> Real:
    return np.asarray(x * (1 + np.vectorize(erf)(x / sqrt(2))) / 2)


FUNCTIONS: dict[str, Callable[[Real], Real]] = {
    "hard-swish": _hard_swish, "silu": _silu, "gelu": _gelu, "sigmoid": _sigmoid, "tanh": np.tanh,
}  # fmt: skip
EVEN = ("sigmoid", "tanh")  # their derivatives do not change with the sign of x


@lru_cache(maxsize=64)
def nearest_pieces(name: str, bits: int) -> Pieces:
    """The nearest step function of 2^bits pieces; of an even derivative as a function of |x|.

    Args:
        name: of FUNCTIONS.
        bits: 1 to 4.
    """
    f = FUNCTIONS[name]
    first = 0.0 if name in EVEN else -RANGE
    inner: Real = first + COARSE * np.arange(1, round((RANGE - first) / COARSE), dtype=np.float64)
    count = (1 << bits) - 1
    coarse = _best_borders(f, first, [inner] * count)
    near: Real = FINE * np.arange(-100, 101, dtype=np.float64)
    around: list[Real] = [FINE * np.round((border + near) / FINE) for border in coarse]
    fine = _best_borders(f, first, around)
    edges = np.array([first, *fine, RANGE])
    levels = np.diff(f(edges)) / np.diff(edges)
    return Pieces(tuple(np.round(fine, 4).tolist()), tuple((np.round(levels, _DECIMALS) + 0.0).tolist()))


def _best_borders(f: Callable[[Real], Real], first: float, candidates: Sequence[Real]) -> list[float]:
    """The best border among each of the candidates, all of them ascending."""
    edges: list[Real] = [np.array([first]), *candidates, np.array([RANGE])]
    value = np.zeros(1)
    chosen: list[NDArray[np.intp]] = []
    for before, after in pairwise(edges):
        width = after[None, :] - before[:, None]
        rise = f(after)[None, :] - f(before)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = np.where(width > FINE / 2, rise * rise / width, -np.inf)
        total = value[:, None] + gain
        chosen.append(total.argmax(axis=0))
        value = total.max(axis=0)
    index, borders = 0, []
    for step in range(len(candidates), 0, -1):
        index = int(chosen[step][index])
        borders.append(float(candidates[step - 1][index]))
    return borders[::-1]
