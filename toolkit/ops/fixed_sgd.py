"""FixedSgd: plain SGD on int16 weights from an integer gradient, on integers; FixedOuterSgd: of one outer product.

    rate = (learning_rate * factor) * 2^(e - exponent) = M / 2^k    factor * 2^e the scale, M of 16 bits, k in [1, 30]
    stored' = stored - floor((sum * M + r) / 2^k)             r uniform below 2^k; clamped to [-32767, 32767]

Half i % 4 of random number i / 4 of (seed, step, stream) gives r of element i, row-major (random_halves).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics.bits import to_bits
from toolkit.numerics.fixed import random_halves
from toolkit.numerics.fixed_unit import exponent_of, factor_of, scale_product
from toolkit.ops.base import Op, Run, StepAborted, op, require
from toolkit.ops.contexts import Lowering

SCALAR = TensorType(())
DRAW = TensorType((), "uint32")
LARGEST = 32767
MOST_K = 30


def rate_of(learning_rate: Array, exponent: int) -> tuple[int, int]:
    """M and k of learning_rate * 2^exponent."""
    word = int(to_bits(learning_rate))
    biased = (word >> 23) & 0xFF
    factor = ((word & 0x7FFFFF | 0x800000) + 128) >> 8 if biased else 0
    k = 142 - biased - exponent
    if k > MOST_K:
        drop = k - MOST_K
        factor, k = (0 if drop > 17 else (factor + (1 << (drop - 1))) >> drop), MOST_K
    elif k < 1:
        factor, k = (65535 if biased else 0), 1
    return (-factor if word >> 31 else factor), k


def updated(
    stored: Array, sums: Array, scale: Array, learning_rate: Array, exponent: int, draw: tuple[int, int, int]
) -> Array:
    """The next stored weights; raises StepAborted where a scale or the learning rate is not finite."""
    unit, rate = exponent_of(scale), learning_rate * factor_of(scale)
    if unit is None or not np.isfinite(rate):
        raise StepAborted("ET_NONFINITE_GRADIENT")
    factor, k = rate_of(rate, unit - exponent)
    half = random_halves(*draw, stored.size).reshape(stored.shape)
    r = ((half >> max(16 - k, 0)) << max(k - 16, 0)) + (1 << (k - 17) if k > 16 else 0)
    t = (sums.astype(np.int64).reshape(stored.shape) * factor + r) >> k
    return np.asarray(np.clip(stored - t, -LARGEST, LARGEST).astype(np.int16))


@op
@dataclass(frozen=True)
class FixedSgd(Op):
    """(stored int16, sums int32 of as many elements, scale, learning_rate, seed, step) -> stored', in place.

    Attributes:
        exponent: of the resolution of the stored weights.
        stream: tells the parameters of a model apart.
    """

    exponent: int = -14
    stream: int = 0

    no_gradient = "it is the optimizer"

    def infer(
        self,
        stored: TensorType,
        sums: TensorType,
        scale: TensorType,
        rate: TensorType,
        seed: TensorType,
        step: TensorType,
    ) -> TensorType:
        require(stored.dtype == "int16" and sums.dtype == "int32", f"{stored} cannot be updated by {sums}")
        require(stored.size == sums.size, f"the gradient {sums} does not fit {stored}")
        require(scale == rate == SCALAR and seed == step == DRAW, "scale, rate, seed and step are scalars")
        return stored

    def reference(
        self, run: Run, stored: Array, sums: Array, scale: Array, rate: Array, seed: Array, step: Array
    ) -> Array:
        return updated(stored, sums, scale, rate, self.exponent, (int(seed), int(step), self.stream))

    def lower(self, to: Lowering) -> None:
        exponent, stream = to.constant(self.exponent, "int32_t"), to.constant(f"{self.stream}u", "uint32_t")
        count = to.size(to.input_type(0).size)
        draw = (to.read(3), to.read(4), to.read(5), stream)
        to.call(
            "et_fixed_sgd_i16", count, exponent, *draw, to.read(1), to.read(2), to.read(0), to.write(0, in_place=(0,))
        )


@op
@dataclass(frozen=True)
class FixedOuterSgd(Op):
    """(stored int16 [..., K, M], x int8 of K, g int8 of M, x_scale, g_scale, learning_rate, seed, step) -> stored'.

    What FixedSgd gives for the sums x[k] * g[m], without memory for them.
    """

    exponent: int = -14
    stream: int = 0

    no_gradient = "it is the optimizer"

    def infer(self, stored: TensorType, x: TensorType, g: TensorType, *scalars: TensorType) -> TensorType:
        require(stored.dtype == "int16" and x.dtype == g.dtype == "int8", f"{stored} cannot be updated by {x} and {g}")
        require(stored.size == x.size * g.size and stored.shape[-1] == g.size, f"{x} and {g} do not fit {stored}")
        require(scalars == (SCALAR, SCALAR, SCALAR, DRAW, DRAW), "scales, rate, seed and step are scalars")
        return stored

    def reference(
        self,
        run: Run,
        stored: Array,
        x: Array,
        g: Array,
        x_scale: Array,
        g_scale: Array,
        rate: Array,
        seed: Array,
        step: Array,
    ) -> Array:
        sums = np.outer(x.astype(np.int64), g.astype(np.int64))
        scale = scale_product(x_scale, g_scale)
        return updated(stored, sums, scale, rate, self.exponent, (int(seed), int(step), self.stream))

    def lower(self, to: Lowering) -> None:
        exponent, stream = to.constant(self.exponent, "int32_t"), to.constant(f"{self.stream}u", "uint32_t")
        sizes = (to.size(to.input_type(1).size), to.size(to.input_type(2).size))
        draw = (to.read(5), to.read(6), to.read(7), stream)
        factors = (to.read(index) for index in (1, 2, 3, 4))
        to.call(
            "et_fixed_outer_sgd_i16", *sizes, exponent, *draw, *factors, to.read(0), to.write(0, in_place=(0,))
        )

    def macs(self, stored: TensorType, *others: TensorType) -> int:
        return stored.size
