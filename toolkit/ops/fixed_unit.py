"""FixedUnit: what follows a convolution of int8 mantissas, on integers; FixedUnitGrad: its gradient.

Max pooling, y = a * sum + b per channel, ReLU, and int8 mantissas for the next layer, in one go: the arithmetic is said
in et_fixed_unit.h, and spelled again here and in toolkit.numerics.fixed_unit. `a` and `b` are a bias, or a batch
normalization with its running statistics (BatchNormAffine).

The mantissas are those of dynamic fixed point, or with `levels` the codes of DoReFa-Net: 0 to levels for [0, 1]. So are
those of the gradient, or with `gradient_levels` odd codes with noise (toolkit.numerics.fixed_unit.odd_codes), one scale
for all samples; elements that nothing reaches stay 0.

Gradients are integers with a scale too: a node that makes one has it as output 0 and the scale as output 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from zlib import crc32

import numpy as np

from codegen.program import Argument, Table, Zeros
from toolkit.ir import Array, Node, TensorType
from toolkit.numerics.fixed_unit import (
    KEPT_BITS,
    OFFSET_BITS,
    Draw,
    dropped,
    exponent_of,
    factor_of,
    in_one,
    largest_exponent,
    multipliers,
    odd_codes,
    rounded_to_7_bits,
    scale_of,
    scale_product,
    shifted,
    units_of,
)
from toolkit.ops.base import Arrays, Op, Run, Types, op, require
from toolkit.ops.batch_norm_affine import BatchNormAffine
from toolkit.ops.batch_normalization import OPTION, RunningStatistic
from toolkit.ops.contexts import Backward, Lowering, Training
from toolkit.ops.fixed_real import scaled_gradient
from toolkit.ops.pooling import Window, planar, planar_shape

STOPPED = 255
SCALAR = TensorType(())
MOST_PIXELS = 1 << 16  # of which int32 holds the sum of 14 bits each


def pools_side_by_side(window: Window) -> bool:
    """Whether windows share no element and leave the image nowhere, so that a gradient goes to one place."""
    side_by_side = all(k <= s for k, s in zip(window.kernel, window.strides, strict=True))
    padded = any((*window.before, *window.after)) or window.ceil_mode
    return side_by_side and not padded and set(window.dilations) == {1} and window.taps < STOPPED


@dataclass(frozen=True)
class _Unit(Op):
    """What the unit and its gradient share.

    Attributes:
        relu: whether y is at least 0.
        window: of the pooling; None for none.
        stream: tells the nodes of a model apart.
        levels: 0, or of the codes for [0, 1], beyond which y is cut; then `relu` does not matter.
        gradient_levels: 0, or of the codes of the gradient; an odd number.
    """

    relu: bool = True
    window: Window | None = None
    stream: int = 0
    levels: int = 0
    gradient_levels: int = 0

    def pooled(self, sums: TensorType) -> tuple[int, ...]:
        """The shape after pooling."""
        if self.window is None:
            return sums.shape
        return self.window.infer(TensorType(sums.shape)).shape

    def taps(self, sums: Array) -> Array:
        """[taps, N, out height, out width, C]: what each window sees, row by row."""
        image = planar(sums) if sums.ndim > 2 else sums.reshape(sums.shape[0], 1, 1, -1)
        if self.window is None:
            return image[None]
        return np.stack([image[tap.input] for tap in self.window.planar().each_tap(image.shape[1:3])])

    def fields(self, sums: TensorType, pooled: TensorType) -> dict[str, int | float | Table]:
        """Of et_fixed_unit."""
        batch, height, width, channels = image_of(sums.shape)
        window = self.window.planar() if self.window is not None else None
        kernel, strides = ((1, 1), (1, 1)) if window is None else (window.kernel, window.strides)
        offsets = tuple((h * width + w) * channels for h in range(kernel[0]) for w in range(kernel[1]))
        _, out_height, out_width, _ = image_of(pooled.shape)
        return {
            "batch": batch, "height": height, "width": width, "channels": channels, "out_height": out_height,
            "out_width": out_width, "stride_h": strides[0], "stride_w": strides[1], "taps": len(offsets),
            "tap_offset": Table("int32_t", offsets), "relu": int(self.relu), "levels": self.levels,
            "gradient_levels": self.gradient_levels, "stream": self.stream,
        }  # fmt: skip

    def scratch(self, to: Lowering, pooled: TensorType) -> Argument:
        """One int32 for each code, and two for each channel."""
        return to.scratch(4 * (pooled.size + 2 * pooled.shape[-1]))


def image_of(shape: Sequence[int]) -> tuple[int, int, int, int]:
    """The shape as one of images; rows of features are images of one pixel."""
    n, h, w, c = (shape[0], 1, 1, shape[1]) if len(shape) == 2 else planar_shape(shape)
    return n, h, w, c


@op
@dataclass(frozen=True)
class FixedUnit(_Unit):
    """(sums int32 [N, ..., C], scale[, a [C]][, b [C]][, seed, step]) -> codes int8 [N, pooled..., C], scale.

    With `training`, also: place uint8, like codes; and with a: kept int16, like codes, and its scale.

    Attributes:
        training: takes seed and step, rounds stochastically.
    """

    training: bool = False

    def infer(
        self,
        sums: TensorType,
        scale: TensorType,
        a: TensorType | None = None,
        b: TensorType | None = None,
        seed: TensorType | None = None,
        step: TensorType | None = None,
    ) -> Types:
        require(sums.dtype == "int32" and len(sums.shape) >= 2 and scale == SCALAR, f"sums, not {sums}")
        for vector in (a, b):
            require(vector in (None, TensorType(sums.shape[-1:])), f"{vector} does not fit the channels of {sums}")
        require(seed == step == (TensorType((), "uint32") if self.training else None), "seed and step go with training")
        codes = TensorType(self.pooled(sums), "int8")
        require(codes.size // codes.shape[-1] <= MOST_PIXELS, f"more than {MOST_PIXELS} pixels")
        if not self.training:
            return codes, SCALAR
        place = TensorType(codes.shape, "uint8")
        return (codes, SCALAR, place, *(() if a is None else (TensorType(codes.shape, "int16"), SCALAR)))

    def reference(
        self,
        run: Run,
        sums: Array,
        scale: Array,
        a: Array | None = None,
        b: Array | None = None,
        seed: Array | None = None,
        step: Array | None = None,
    ) -> Arrays:
        shape = self.pooled(TensorType(sums.shape))
        m, scale_a = multipliers(a, sums.shape[-1], scale)
        scale_sums, top = exponent_of(scale), largest_exponent(b)
        if scale_a is None or scale_sums is None or top is None:
            unknown = scale_of(None)
            return self._outputs(np.zeros(shape), unknown, np.full(shape, STOPPED), np.zeros(shape), unknown, a)
        taps = self.taps(sums.astype(np.int64))
        order = np.where(m >= 0, 1, -1) * taps
        place = order.argmax(axis=0)
        winners = np.take_along_axis(taps, place[None], axis=0)[0].reshape(shape)
        drop = dropped(winners, KEPT_BITS)
        z = shifted(winners, drop)
        exponent = scale_sums + drop + scale_a
        shift = max(top - exponent + 1 - OFFSET_BITS, 0) if top > -127 else 0
        exponent += shift
        t = (z * m) >> min(shift, 31)
        t = t if b is None else t + units_of(b, exponent)
        kept_scale = None if scale_sums is None else scale_of(scale_sums + drop, factor_of(scale))
        if self.levels:
            t, one = in_one(t, exponent)
            place = np.where((t <= 0) | (t >= 1 << one), STOPPED, place.reshape(shape))
            codes = (np.clip(t, 0, 1 << one) * self.levels + (1 << one >> 1)) >> one
            return self._outputs(codes, self._code_scale(), place, z, kept_scale, a)
        place = np.where(t <= 0, STOPPED, place.reshape(shape)) if self.relu else place.reshape(shape)
        t = np.maximum(t, 0) if self.relu else t
        draw = None if seed is None or step is None else Draw(int(seed), int(step), self.stream)
        codes, dropped_bits = rounded_to_7_bits(t, draw)
        return self._outputs(codes, scale_of(exponent + dropped_bits), place, z, kept_scale, a)

    def _code_scale(self) -> Array:
        return np.array(np.float32(1) / np.float32(self.levels))

    def _outputs(
        self, codes: Array, scale: Array, place: Array, kept: Array, kept_scale: Array, a: Array | None
    ) -> Arrays:
        made = (codes.astype(np.int8), scale)
        if not self.training:
            return made
        more = () if a is None else (kept.astype(np.int16), kept_scale)
        return (*made, place.astype(np.uint8), *more)

    def for_training(self, training: Training) -> tuple[str, ...] | None:
        if self.training:
            return None
        node = training.node
        sums, scale, a, b = (*node.inputs, None, None)[:4]
        normalization = next((n for n in training.builder.nodes if a is not None and a in n.outputs), None)
        if normalization is not None and _has_batch_statistics(training, normalization):
            return self._with_batch_statistics(training, normalization)
        seed, step = (training.builder.runtime(name, "uint32") for name in ("seed", "step"))
        trained = replace(self, training=True, stream=crc32(node.name.encode()))
        return training.apply(trained, sums, scale, a, b, seed, step)

    def _with_batch_statistics(self, training: Training, normalization: Node) -> tuple[str, ...]:
        """The unit with a and b of the batch, which also move the running statistics."""
        from toolkit.ops.fixed_batch_norm import FixedBatchAffine, FixedBatchUnit

        builder, name, affine = training.builder, normalization.name, normalization.op
        assert isinstance(affine, BatchNormAffine)
        sums, scale = training.node.inputs[:2]
        gamma, beta, mean, var = normalization.inputs
        assert mean is not None and var is not None
        op = FixedBatchAffine(affine.epsilon)
        a, b, batch_mean, inverse, unbiased, unit = builder.apply(op, sums, scale, gamma, beta, name=f"{name}.batch")
        for old, new, what in ((mean, batch_mean, "mean"), (var, unbiased, "var")):
            moved = builder.apply(RunningStatistic(affine.momentum), old, new, name=f"{name}.running_{what}")
            training.update(old, moved[0])
        seed, step = (builder.runtime(scalar, "uint32") for scalar in ("seed", "step"))
        stream = crc32(training.node.name.encode())
        unit_op = FixedBatchUnit(self.relu, self.window, stream, self.levels, self.gradient_levels, training=True)
        return training.apply(unit_op, sums, scale, a, b, seed, step, gamma, beta, batch_mean, inverse, unit)

    def gradient(self, back: Backward, dcodes: str | None, *others: str | None) -> Sequence[str | None]:
        assert dcodes is not None
        d, d_scale = scaled_gradient(back, dcodes)
        inputs = back.node.inputs
        a, b = inputs[2], inputs[3]
        kept = (back.output(3), back.output(4)) if a is not None else (None, None)
        shape = back.type(back.input(0)).shape
        stream = crc32(f"{back.node.name}.gradient".encode())
        op = FixedUnitGrad(self.relu, self.window, stream, self.levels, self.gradient_levels, shape)
        seed, step = (back.runtime(name, "uint32") for name in ("seed", "step"))
        made = back.apply_all(op, d, d_scale, back.output(2), a, *kept, seed, step)
        return (made[0], None, made[3] if a is not None else None, made[2] if b is not None else None, None, None)

    def zeros(self) -> Zeros:
        return "half" if self.relu else ""

    def lower(self, to: Lowering) -> None:
        shape = to.struct("et_fixed_unit", self.fields(to.input_type(0), to.output_type()), "unit")
        values = tuple(to.read(index) for index in range(4))
        scratch = self.scratch(to, to.output_type())
        if not self.training:
            to.call("et_fixed_unit_i8", shape, *values, scratch, to.write(0), to.write(1))
            return
        kept = (to.write(3), to.write(4)) if to.has(2) else (to.constant("NULL", ""), to.constant("NULL", ""))
        to.call(
            "et_fixed_unit_train_i8", shape, to.read(4), to.read(5), *values, scratch,
            to.write(0), to.write(1), to.write(2), *kept,
        )  # fmt: skip


def _has_batch_statistics(training: Training, normalization: Node) -> bool:
    x = training.builder.type(training.node.inputs[0] or "")
    mode = training.options.get(OPTION, "batch")
    trained = not training.trained.isdisjoint(normalization.inputs[:2])
    return mode == "batch" and trained and x.size > x.shape[-1]


@op
@dataclass(frozen=True)
class FixedUnitGrad(_Unit):
    """(d int32 like codes, scale, place[, a, kept, kept scale], seed, step) -> g int8 like sums, scale, db[, da] [C].

    Attributes:
        shape: of the sums.
    """

    shape: tuple[int, ...] = ()

    no_gradient = "second derivatives are not used"

    def infer(
        self,
        d: TensorType,
        d_scale: TensorType,
        place: TensorType,
        a: TensorType | None,
        kept: TensorType | None,
        kept_scale: TensorType | None,
        seed: TensorType,
        step: TensorType,
    ) -> Types:
        pooled = self.pooled(TensorType(self.shape))
        require(d == TensorType(pooled, "int32") and d_scale == SCALAR, f"the gradient {d} does not fit the codes")
        require(place == TensorType(pooled, "uint8"), f"{place} does not fit the gradient {d}")
        require(kept == (None if a is None else TensorType(pooled, "int16")), f"{kept} does not fit the gradient {d}")
        vector = TensorType(self.shape[-1:])
        return (TensorType(self.shape, "int8"), SCALAR, vector, *(() if a is None else (vector,)))

    def reference(
        self,
        run: Run,
        d: Array,
        d_scale: Array,
        place: Array,
        a: Array | None,
        kept: Array | None,
        kept_scale: Array | None,
        seed: Array,
        step: Array,
    ) -> Arrays:
        channels = self.shape[-1]
        g = np.zeros(self.shape, np.int8)
        m, scale_a = multipliers(a, channels, d_scale)
        scale_d = exponent_of(d_scale)
        if scale_a is None or scale_d is None:
            unknown = np.full(channels, np.nan, np.float32)
            return (g, scale_of(None), unknown, *(() if a is None else (unknown,)))
        passed = np.where(place != STOPPED, d, 0).astype(np.int64)
        drop = dropped(passed, KEPT_BITS)
        z = np.where(place != STOPPED, shifted(passed, drop), 0)
        unit = scale_of(scale_d + drop, factor_of(d_scale))
        rows = z.reshape(-1, channels)
        db = rows.sum(axis=0).astype(np.float32) * unit
        codes, g_scale = self.codes_of_gradient(z * m, scale_d + drop + scale_a, seed, step)
        codes = np.where(place != STOPPED, codes, 0).astype(np.int8)
        self._scatter(g, codes, place)
        made = (g, g_scale, db)
        if kept is None or kept_scale is None:
            return made
        da = (rows * kept.astype(np.int64).reshape(-1, channels)).sum(axis=0).astype(np.float32)
        return (*made, da * (unit * np.float32(kept_scale)))

    def codes_of_gradient(
        self, values: Array, exponent: int, seed: Array, step: Array, others: Array | None = None
    ) -> tuple[Array, Array]:
        """Codes of integers in units of 2^exponent, and their scale.

        Args:
            others: values that count too when the shift of dynamic fixed point is chosen.
        """
        draw = Draw(int(seed), int(step), self.stream)
        if not self.gradient_levels:
            codes, more = rounded_to_7_bits(values, draw, others)
            return codes, scale_of(exponent + more)
        codes, largest = odd_codes(values, self.gradient_levels, draw)
        step_of_codes = np.array(np.float32(largest) / np.float32(self.gradient_levels))
        return codes, scale_product(step_of_codes, scale_of(exponent))

    def _scatter(self, g: Array, codes: Array, place: Array) -> None:
        image = g.reshape(image_of(g.shape))
        values, where = codes.reshape(image_of(codes.shape)), place.reshape(image_of(codes.shape))
        if self.window is None:
            image[...] = values
            return
        for tap in self.window.planar().each_tap(image.shape[1:3]):
            image[tap.input] = np.where(where[tap.output] == tap.index, values[tap.output], 0)

    def zeros(self) -> Zeros:
        if self.window is not None and prod(self.window.planar().kernel) > 1:
            return "scattered"
        return "gated" if self.relu else ""

    def lower(self, to: Lowering) -> None:
        d = to.input_type(0)
        shape = to.struct("et_fixed_unit", self.fields(TensorType(self.shape), d), "unit")
        inputs = (to.read(index) for index in (0, 1, 3, 2, 4, 5))
        da = to.write(3) if to.has(3) else to.constant("NULL", "")
        to.call(
            "et_fixed_unit_grad_i8", shape, to.read(6), to.read(7), *inputs, self.scratch(to, d),
            to.write(0), to.write(1), to.write(2), da,
        )  # fmt: skip
