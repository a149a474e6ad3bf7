"""HalfOuterSgd: plain SGD of a dense layer on one sample, on weights that are stored in binary16.

Every weight has one product, w[i][j] -= rate * x[i] * dy[j]. It is the factors that are rounded stochastically, to
integers, where there are I + J of them: steps are whole multiples of one quantum, which is no smaller than the last
place of nearly every weight, and what has a factor of 0 is not touched. (Ye et al., arXiv 1908.00173, prune
small gradients at random in this way.)

    p[i] = rate * x[i], rate = learning_rate * (1 / scale)      float32
    P, Y    the least exponents with |p[i]| < 2^P and |dy[j]| < 2^Y for all i, j
    Q       that of the last place of the largest of the weights 0, 61, 122, ...; at least -24
    A = min(floor((P + Y - Q) / 2) - 1, 10),  B = min(P + Y - Q - A, 10),  U = P + Y - A - B
    n[i] = (rate * 2^(A - P)) * x[i], rounded stochastically    random number i of (seed, step, stream)
    m[j] = dy[j] * 2^(B - Y), rounded stochastically            random number I + j
    v = w - n[i] * 2^U * m[j]
    stored' = v rounded to the nearest, if that is below 2^(U + 11); else madd(-n[i] * 2^U, m[j], w), float32, rounded
              stochastically                                    random number I + J + i * J + j

t is rounded to the sign of t times floor(|t| + u), in float32, u = (upper 24 bits of its random number) / 2^24. Weights
with n[i] = 0 or m[j] = 0 stay as they are.

The factors draw apart, so the step is n * 2^U * m on average what it should be, and its variance is that of rounding to
multiples of 2^U while both factors are below 1. Rounding to the nearest only takes what a weight has below the quantum,
and once that is gone nothing is left to round; weights with a coarser last place are rounded stochastically. So Q does
not bias a step, it only chooses how noisy and how fast it is.

A factor that is not finite in binary16 (p of 2^16 and more, dy that is none) leaves its row or column as it was, and
the step ends with ET_NONFINITE_GRADIENT (N8). 0 is finite whatever the rate is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import madd
from toolkit.numerics.bits import Float32, quiet, to_bits
from toolkit.numerics.half import from_half, half_products, to_half
from toolkit.numerics.random import Key, random_at, random_key
from toolkit.numerics.stored import StoredFormat
from toolkit.ops.base import Arrays, Op, Run, StepAborted, op, require
from toolkit.ops.contexts import Lowering

_EACH = 61  # of so many weights one is looked at
_SPARSE = 1  # rows round to fewer levels than columns: a row of zeros costs nothing
_LEVELS = 10  # at most 2^10 of them, so that products of two are exact in float32
_STORED = StoredFormat("fp16")


@op
@dataclass(frozen=True)
class HalfOuterSgd(Op):
    """(x uint16 of I, dy uint16 of J, stored uint16 [..., J] of I * J, learning_rate, seed, step scalars) -> stored'.

    Attributes:
        scale: what dy comes multiplied by, a power of two.
        stream: tells the parameters of a model apart.
    """

    scale: float = 1.0
    stream: int = 0

    no_gradient = "it is the optimizer"

    def infer(
        self, x: TensorType, dy: TensorType, stored: TensorType, rate: TensorType, seed: TensorType, step: TensorType
    ) -> TensorType:
        require(x.dtype == dy.dtype == stored.dtype == "uint16", f"{x}, {dy} and {stored} are not all in binary16")
        require(stored.size == x.size * dy.size, f"{x} and {dy} do not fit {stored}")
        require(rate == TensorType(()), "the learning rate is a float32 scalar")
        require(seed == step == TensorType((), "uint32"), "seed and step are uint32 scalars")
        return stored

    def reference(
        self, run: Run, x: Array, dy: Array, stored: Array, rate: Array, seed: Array, step: Array
    ) -> Arrays:
        factor = rate * np.float32(1 / self.scale)
        with quiet():
            values, lost_rows = _finite(from_half(x.ravel(), "fp16"), factor)
            gradients, lost_columns = _finite(from_half(dy.ravel(), "fp16"), np.float32(1))
            kept = factor if np.isfinite(factor) else np.float32(0)
        key = random_key(int(seed), int(step), self.stream)
        updated = self._updated(run, values, kept, gradients, stored, key)
        if lost_rows or lost_columns:
            raise StepAborted("ET_NONFINITE_GRADIENT", (updated,))
        return updated

    def _updated(self, run: Run, x: Float32, rate: Any, dy: Float32, stored: Array, key: Key) -> Array:
        if not ((rate * x).any() and dy.any()):
            return stored
        rows, columns = len(x), len(dy)
        row_bits, column_bits = _exponent(rate * x), _exponent(dy)
        quantum = max(int((stored.ravel()[::_EACH] & 0x7FFF).max() >> 10), 1) - 25
        levels = row_bits + column_bits - quantum
        row_levels = min((levels >> 1) - _SPARSE, _LEVELS)
        column_levels = min(levels - row_levels, _LEVELS)
        n = _levels(x, rate * np.float32(2.0 ** (row_levels - row_bits)), random_at(key, np.arange(rows)))
        scale = np.float32(2.0 ** (column_levels - column_bits))
        m = _levels(dy, scale, random_at(key, rows + np.arange(columns)))
        unit = np.float32(2.0 ** (row_bits + column_bits - row_levels - column_levels))
        w = stored.reshape(rows, columns)
        step, values = -n[:, None] * unit, _STORED.decode(w)
        nearest = half_products(values, step[None], m[None, None])
        random = random_at(key, rows + columns + np.arange(w.size).reshape(w.shape))
        drawn = _STORED.encode(madd(step, m, values, run.fma), random)
        below = np.abs(nearest) < np.minimum(unit, np.float32(32)) * np.float32(2048)
        touched = (n[:, None] != 0) & (m != 0)
        return np.where(touched, np.where(below, to_half(nearest, "fp16"), drawn), w).reshape(stored.shape)

    def lower(self, to: Lowering) -> None:
        sizes = (to.size(to.input_type(0).size), to.size(to.input_type(1).size))
        unscale, stream = to.real(1 / self.scale), to.constant(f"{self.stream}u", "uint32_t")
        draw = (to.read(3), to.read(4), to.read(5), stream)
        to.call("et_half_outer_sgd", *sizes, unscale, *draw, to.read(0), to.read(1), to.write(0, in_place=(2,)))

    def macs(self, x: TensorType, dy: TensorType, stored: TensorType, *others: TensorType) -> int:
        return stored.size


def _finite(values: Float32, factor: Any) -> tuple[Float32, bool]:
    """The values, 0 where factor times value is not finite in binary16, and whether it is so anywhere."""
    finite = (values == 0) | (np.abs(factor * values) < np.float32(65536))
    return np.where(finite, values, np.float32(0)), not finite.all()


def _exponent(values: Float32) -> int:
    """The least e from -126 on with |value| < 2^e for all values."""
    return int(to_bits(np.abs(values).max()) >> np.uint32(23)) - 126


def _levels(values: Float32, scale: Any, random: Array) -> Float32:
    """scale * values rounded stochastically to integers."""
    t = scale * values
    draw = (random >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    return np.asarray(np.copysign(np.floor(np.abs(t) + draw), t))
