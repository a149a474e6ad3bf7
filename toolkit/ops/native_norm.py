"""NativeBatchNorm: batch normalization of binary16, statistics in float32, results by multiply-adds of binary16.

h() rounds to binary16; fma16(a, b, c) = a * b + c rounded once to binary16. Rows are everything but the channels,
ascending; sums are of float32 and start from 0. `scale` is that of the gradients.

    inference   gain = gamma / sqrt(var + epsilon);  y = fma16(x, h(gain), h(madd(-mean, gain, beta)))
    training    mean = sum(x) * (1 / rows);  squares = sum of madd(x, x, ...)
                biased = madd(-mean, mean, squares * (1 / rows)), 0 unless it is greater
                inverse = 1 / sqrt(biased + epsilon);  variance = biased * (rows / (rows - 1))
                gain = gamma * inverse;  y as above
    gradients   dbeta = sum(dy) / scale;  dgamma = (madd(-mean, sum(dy), sum of madd(dy, x, ...)) * inverse) / scale
                a = gamma * inverse
                running statistics   dx = h(dy * h(a))
                of the batch         slope = -(a * (((dgamma * inverse) * (1 / rows)) * scale))
                                     shift = madd(-slope, mean, -(a * ((dbeta * (1 / rows)) * scale)))
                                     dx = fma16(dy, h(a), fma16(x, h(slope), h(shift)))

One pass finds both statistics: squares of binary16 are exact in float32, and what the difference of two sums loses is
less than what x had lost when it was rounded. When the statistics of the batch count, and what they are kept for:
toolkit.ops.batch_normalization.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import madd, rsqrt, sqrt
from toolkit.numerics.half import from_half, half_products, round_half, to_half
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.batch_normalization import ONE, OPTION, InverseDeviation, RunningStatistic
from toolkit.ops.contexts import Backward, Lowering, Training
from toolkit.ops.native_maps import FORMAT, NativeSumRows, require_halves, rows_of, summed_rows


def _check(x: TensorType, *vectors: TensorType) -> TensorType:
    for vector in vectors:
        require(vector == TensorType(x.shape[-1:]), f"{vector} does not fit the channels of {x}")
    return require_halves(x)


def _values(x: Array) -> Array:
    """float32 [rows, C]."""
    return from_half(x, FORMAT).reshape(-1, x.shape[-1])


def _affine(x: Array, factor: Array, addend: Array) -> Array:
    """fma16 of values of binary16, float32."""
    shape = np.broadcast_shapes(np.shape(x), np.shape(addend))
    return half_products(np.broadcast_to(addend, shape), x[None], round_half(factor, FORMAT)[None])


def _normalized(run: Run, x: Array, gain: Array, mean: Array, beta: Array) -> Array:
    shift = round_half(madd(-mean, gain, beta, run.fma), FORMAT)
    return to_half(_affine(_values(x), gain, shift), FORMAT).reshape(x.shape)


def _sum_of_products(run: Run, a: Array, b: Array) -> Array:
    total = np.zeros(a.shape[-1], np.float32)
    for left, right in zip(a, b, strict=True):
        total = madd(left, right, total, run.fma)
    return total


@op
@dataclass(frozen=True)
class NativeBatchNorm(Op):
    """Inputs x uint16 [..., C], gamma, beta, mean, var float32 [C]; output y like x, and may be x."""

    epsilon: float
    momentum: float
    scale: float

    bias_inputs = (2,)
    statistics_inputs = (3, 4)

    def infer(self, x: TensorType, *vectors: TensorType) -> TensorType:
        return _check(x, *vectors)

    def reference(self, run: Run, x: Array, gamma: Array, beta: Array, mean: Array, var: Array) -> Array:
        return _normalized(run, x, gamma / sqrt(var + np.float32(self.epsilon)), mean, beta)

    def for_training(self, training: Training) -> tuple[str, ...] | None:
        x, gamma, beta, mean, var = training.node.inputs
        mode = training.options.get(OPTION, "batch")
        if mode != "batch" or rows_of(training.builder.type(x or "")) == 1 or gamma not in training.trained:
            return None
        y, batch_mean, _, batch_var = training.apply(NativeBatchNormTraining(self.epsilon, self.scale), x, gamma, beta)
        for old, value, what in ((mean, batch_mean, "mean"), (var, batch_var, "var")):
            assert old is not None
            name = f"{training.node.name}.running_{what}"
            training.update(old, training.builder.apply(RunningStatistic(self.momentum), old, value, name=name)[0])
        return (y,)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        x, gamma, mean, var = (back.input(index) for index in (0, 1, 3, 4))
        inverse = back.apply(InverseDeviation(self.epsilon), var) if back.needs(0) or back.needs(1) else None
        dx = back.apply(NativeBatchNormRunningGrad(), dy, gamma, inverse) if back.needs(0) else None
        if not back.needs(1):
            dbeta = back.apply(NativeSumRows(1 / self.scale), dy) if back.needs(2) else None
            return (dx, None, dbeta, None, None)
        dgamma, both = back.apply_all(NativeBatchNormParameterGrad(self.scale), dy, x, mean, inverse)
        return (dx, dgamma, both if back.needs(2) else None, None, None)

    def lower(self, to: Lowering) -> None:
        x = to.input_type(0)
        sizes = (to.size(rows_of(x)), to.size(x.shape[-1]), to.real(self.epsilon))
        to.call("et_batch_norm_fp16", *sizes, *(to.read(index) for index in range(5)), to.write(0, in_place=(0,)))


@op
@dataclass(frozen=True)
class NativeBatchNormTraining(Op):
    """Inputs x uint16 [..., C], gamma, beta float32 [C]. Outputs y like x; mean, inverse deviation, variance [C]."""

    epsilon: float
    scale: float

    bias_inputs = (2,)

    def infer(self, x: TensorType, gamma: TensorType, beta: TensorType) -> tuple[TensorType, ...]:
        require(rows_of(x) > 1, f"{x} has one element per channel: there are no batch statistics")
        return _check(x, gamma, beta), gamma, gamma, gamma

    def reference(self, run: Run, x: Array, gamma: Array, beta: Array) -> tuple[Array, ...]:
        values = _values(x)
        rows = np.float32(len(values))
        share = ONE / rows
        mean = summed_rows(values) * share
        spread = madd(-mean, mean, _sum_of_products(run, values, values) * share, run.fma)
        biased = np.where(spread > 0, spread, np.float32(0))
        inverse = rsqrt(biased + np.float32(self.epsilon))
        return _normalized(run, x, gamma * inverse, mean, beta), mean, inverse, biased * (rows / (rows - ONE))

    def gradient(self, back: Backward, dy: str | None, *others: str | None) -> Sequence[str | None]:
        x, gamma = back.input(0), back.input(1)
        statistics = back.output(1), back.output(2)
        sums = back.apply_all(NativeBatchNormParameterGrad(self.scale), dy, x, *statistics)
        wanted = tuple(name if back.needs(index) else None for index, name in enumerate(sums, 1))
        if not back.needs(0):
            return (None, *wanted)
        return (back.apply(NativeBatchNormBatchGrad(self.scale), dy, x, gamma, *statistics, *sums), *wanted)

    def lower(self, to: Lowering) -> None:
        x = to.input_type(0)
        to.call(
            "et_batch_norm_train_fp16", to.size(rows_of(x)), to.size(x.shape[-1]), to.real(self.epsilon),
            to.read(0), to.read(1), to.read(2), to.write(0, in_place=(0,)), to.write(1), to.write(2), to.write(3),
        )  # fmt: skip


@op
@dataclass(frozen=True)
class NativeBatchNormParameterGrad(Op):
    """Inputs dy, x uint16 [..., C], mean, inverse deviation float32 [C]; outputs dgamma, dbeta float32 [C]."""

    scale: float

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType, x: TensorType, *vectors: TensorType) -> tuple[TensorType, TensorType]:
        require(dy == _check(x, *vectors), f"gradient {dy} and input {x} differ")
        return vectors[0], vectors[0]

    def reference(self, run: Run, dy: Array, x: Array, mean: Array, inverse: Array) -> tuple[Array, Array]:
        gradient, back = _values(dy), np.float32(1 / self.scale)
        total = summed_rows(gradient)
        centred = madd(-mean, total, _sum_of_products(run, gradient, _values(x)), run.fma)
        return (centred * inverse) * back, total * back

    def lower(self, to: Lowering) -> None:
        x = to.input_type(1)
        to.call(
            "et_batch_norm_grad_parameters_fp16", to.size(rows_of(x)), to.size(x.shape[-1]), to.real(1 / self.scale),
            to.read(0), to.read(1), to.read(2), to.read(3), to.write(0), to.write(1),
        )  # fmt: skip


@op
@dataclass(frozen=True)
class NativeBatchNormRunningGrad(Op):
    """Inputs dy uint16 [..., C], gamma, inverse deviation float32 [C]; output dx, which may be dy."""

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType, *vectors: TensorType) -> TensorType:
        return _check(dy, *vectors)

    def reference(self, run: Run, dy: Array, gamma: Array, inverse: Array) -> Array:
        return to_half(_values(dy) * round_half(gamma * inverse, FORMAT), FORMAT).reshape(dy.shape)

    def lower(self, to: Lowering) -> None:
        dy = to.input_type(0)
        sizes = (to.size(rows_of(dy)), to.size(dy.shape[-1]))
        operands = (to.read(0), to.read(1), to.read(2), to.write(0, in_place=(0,)))
        to.call("et_batch_norm_grad_running_fp16", *sizes, *operands)


@op
@dataclass(frozen=True)
class NativeBatchNormBatchGrad(Op):
    """Inputs dy, x uint16 [..., C], gamma, mean, inverse, dgamma, dbeta float32 [C]; output dx, maybe in place."""

    scale: float

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType, x: TensorType, *vectors: TensorType) -> TensorType:
        require(dy == _check(x, *vectors), f"gradient {dy} and input {x} differ")
        return x

    def reference(
        self, run: Run, dy: Array, x: Array, gamma: Array, mean: Array, inverse: Array, dgamma: Array, dbeta: Array
    ) -> Array:
        scale, share, factor = np.float32(self.scale), ONE / np.float32(rows_of(TensorType(x.shape))), gamma * inverse
        slope = -(factor * (((dgamma * inverse) * share) * scale))
        shift = round_half(madd(-slope, mean, -(factor * ((dbeta * share) * scale)), run.fma), FORMAT)
        dx = _affine(_values(dy), factor, _affine(_values(x), slope, shift))
        return to_half(dx, FORMAT).reshape(x.shape)

    def lower(self, to: Lowering) -> None:
        x = to.input_type(1)
        sizes = (to.size(rows_of(x)), to.size(x.shape[-1]), to.real(self.scale))
        operands = tuple(to.read(index) for index in range(7))
        to.call("et_batch_norm_grad_batch_fp16", *sizes, *operands, to.write(0, in_place=(0, 1)))
