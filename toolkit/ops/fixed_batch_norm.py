"""Batch normalization with the statistics of the batch, on integer sums; and its gradient.

FixedBatchAffine takes the statistics of the sums of a convolution, each as z = (sum + half) >> s of at most 14 bits,
exactly; rows is everything but the channels, share = 1 / rows:

    mean = (float32(sum of z) * share) * unit
    variance = ((float32(rows * sum of z^2 - (sum of z)^2) * share) * share * unit) * unit
    inverse = 1 / sqrt(variance + epsilon),  a = gamma * inverse,  b = madd(-mean, a, beta)

FixedBatchUnit is FixedUnit with these a and b. Its gradient counts the statistics in, as BatchNormBatchGrad does:

    dgamma = inverse * madd(-mean, db, da),  dbeta = db              da, db as FixedUnitGrad has them
    slope = -(a * ((dgamma * inverse) * share)),  shift = madd(-mean, slope, -(a * (db * share)))
    g = slope * sum + shift everywhere, plus a * d where a winner was

slope becomes int16 mantissas like a, shift an integer; both products are shifted to the coarsest of the three units and
added, then rounded stochastically to 7 bits of the largest, with and without what reaches the winners.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from codegen.program import Zeros
from toolkit.ir import Array, TensorType
from toolkit.numerics import madd, rsqrt
from toolkit.numerics.fixed_unit import (
    KEPT_BITS,
    dropped,
    exponent_of,
    factor_of,
    largest_exponent,
    multipliers,
    scale_of,
    shifted,
    units_of,
)
from toolkit.ops.base import Arrays, Op, Run, Types, op, require
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.fixed_real import scaled_gradient
from toolkit.ops.fixed_unit import MOST_PIXELS, SCALAR, STOPPED, FixedUnit, FixedUnitGrad, image_of

_SHIFT_BITS = 28
_MOST_SHIFT = 31
ONE = np.float32(1)


@op
@dataclass(frozen=True)
class FixedBatchAffine(Op):
    """(sums int32 [..., C], scale, gamma, beta [C]) -> a, b, mean, inverse, unbiased variance [C]; scale of z."""

    epsilon: float = 1e-5

    no_gradient = "FixedBatchUnit counts it in"

    def infer(self, sums: TensorType, scale: TensorType, gamma: TensorType, beta: TensorType) -> Types:
        rows = sums.size // sums.shape[-1]
        require(sums.dtype == "int32" and scale == SCALAR, f"sums and a scale, not {sums}")
        require(gamma == beta == TensorType(sums.shape[-1:]), f"{gamma} does not fit the channels of {sums}")
        require(1 < rows <= MOST_PIXELS, f"{rows} rows in {sums}; 2 to {MOST_PIXELS} are supported")
        return (gamma,) * 5 + (SCALAR,)

    def reference(self, run: Run, sums: Array, scale: Array, gamma: Array, beta: Array) -> Arrays:
        exponent = exponent_of(scale)
        rows = sums.reshape(-1, sums.shape[-1]).astype(np.int64)
        drop = dropped(rows, KEPT_BITS)
        unit = scale_of(None if exponent is None else exponent + drop, factor_of(scale))
        z, count = shifted(rows, drop), len(rows)
        share = ONE / np.float32(count)
        total, squares = z.sum(axis=0), (z * z).sum(axis=0)
        mean = (total.astype(np.float32) * share) * unit
        variance = ((count * squares - total * total).astype(np.float32) * share) * share * unit * unit
        inverse = rsqrt(variance + np.float32(self.epsilon))
        a = gamma * inverse
        unbiased = variance * (np.float32(count) / np.float32(count - 1))
        return a, madd(-mean, a, beta, run.fma), mean, inverse, unbiased, unit

    def lower(self, to: Lowering) -> None:
        sums = to.input_type(0)
        sizes = (to.size(sums.size // sums.shape[-1]), to.size(sums.shape[-1]))
        inputs = (to.read(index) for index in range(4))
        to.call("et_fixed_batch_affine", *sizes, to.real(self.epsilon), *inputs, *(to.write(i) for i in range(6)))


@op
@dataclass(frozen=True)
class FixedBatchUnit(FixedUnit):
    """FixedUnit in training; its inputs, then gamma, beta, mean, inverse [C] and the scale of z, for the gradient."""

    def infer(self, *inputs: TensorType | None) -> Types:
        return super().infer(*inputs[:6])  # type: ignore[arg-type]

    def reference(self, run: Run, *inputs: Array | None) -> Arrays:
        return super().reference(run, *inputs[:6])  # type: ignore[arg-type]

    def gradient(self, back: Backward, dcodes: str | None, *others: str | None) -> Sequence[str | None]:
        assert dcodes is not None
        d, d_scale = scaled_gradient(back, dcodes)
        sums, scale, a = (back.input(index) for index in range(3))
        mean, inverse, z_scale = (back.input(index) for index in (8, 9, 10))
        stream = crc32(f"{back.node.name}.gradient".encode())
        shape = back.type(sums).shape
        op = FixedBatchUnitGrad(self.relu, self.window, stream, self.levels, self.gradient_levels, shape)
        kept = (back.output(3), back.output(4))
        draws = (back.runtime(name, "uint32") for name in ("seed", "step"))
        made = back.apply_all(op, d, d_scale, back.output(2), a, *kept, *draws, sums, scale, z_scale, mean, inverse)
        gamma, beta = made[3] if back.needs(6) else None, made[2] if back.needs(7) else None
        return (made[0], None, None, None, None, None, gamma, beta, None, None, None)


@op
@dataclass(frozen=True)
class FixedBatchUnitGrad(FixedUnitGrad):
    """FixedUnitGrad's inputs, then sums, their scale, that of z, mean, inverse -> g, scale, dbeta, dgamma."""

    def infer(self, *inputs: TensorType) -> Types:  # type: ignore[override]
        return super().infer(*inputs[:8])

    def reference(self, run: Run, *inputs: Array) -> Arrays:  # type: ignore[override]
        d, d_scale, place, a, kept, kept_scale, seed, step, sums, sums_scale, z_scale, mean, inverse = inputs
        _, _, db, da = FixedUnitGrad.reference(self, run, d, d_scale, place, a, kept, kept_scale, seed, step)
        rows = sums.size // sums.shape[-1]
        share = ONE / np.float32(rows)
        dgamma = inverse * madd(-mean, db, da, run.fma)
        slope = -(a * ((dgamma * inverse) * share))
        shift = madd(-mean, slope, -(a * (db * share)), run.fma)
        m, scale_a = multipliers(a, len(a), d_scale)
        k, scale_k = multipliers(slope, len(a), z_scale)
        scale_d, scale_s, scale_z = exponent_of(d_scale), exponent_of(sums_scale), exponent_of(z_scale)
        top = largest_exponent(shift)
        if scale_a is None or scale_k is None or scale_d is None or scale_s is None or scale_z is None or top is None:
            unknown = np.full(len(a), np.nan, np.float32)
            return np.zeros(self.shape, np.int8), scale_of(None), unknown, unknown
        passed = np.where(place != STOPPED, d, 0).astype(np.int64)
        drop = dropped(passed, KEPT_BITS)
        sparse, dense = scale_d + drop + scale_a, scale_z + scale_k
        exponent = max(sparse, dense, top - _SHIFT_BITS)
        z = shifted(sums.astype(np.int64), scale_z - scale_s)
        t = ((z * k) >> min(exponent - dense, _MOST_SHIFT)) + units_of(shift, exponent)
        winners = np.where(place != STOPPED, (shifted(passed, drop) * m) >> min(exponent - sparse, _MOST_SHIFT), 0)
        dense_alone = t.copy()
        self._add(t, winners, place)
        codes, g_scale = self.codes_of_gradient(t, exponent, seed, step, dense_alone)
        return codes, g_scale, db, dgamma

    def _add(self, t: Array, winners: Array, place: Array) -> None:
        image, values, where = (x.reshape(image_of(x.shape)) for x in (t, winners, place))
        if self.window is None:
            image += values
            return
        for tap in self.window.planar().each_tap(image.shape[1:3]):
            image[tap.input] += np.where(where[tap.output] == tap.index, values[tap.output], 0)

    def zeros(self) -> Zeros:
        return "none"  # every element has its part in the means

    def lower(self, to: Lowering) -> None:
        d = to.input_type(0)
        shape = to.struct("et_fixed_unit", self.fields(TensorType(self.shape), d), "unit")
        inputs = (to.read(index) for index in (0, 1, 3, 2, 4, 5, 8, 9, 10, 11, 12))
        scratch = to.scratch(4 * (TensorType(self.shape).size + 5 * d.shape[-1]))
        outputs = (to.write(index) for index in range(4))
        to.call("et_fixed_batch_unit_grad_i8", shape, to.read(6), to.read(7), *inputs, scratch, *outputs)
