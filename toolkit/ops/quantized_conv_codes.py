"""Convolutions of integer codes whose sums become int8 codes again, for inference.

The sums are those of QuantizedConv, exact and int32 (numerics N7).

    QuantizedConvCodes         y = how many thresholds[oc] are <= direction[oc] * sum
    QuantizedConvRequantized   y = clamp(zero + rint((sum + start[oc]) * multiplier[oc] / 2^shift[oc]), low, high)

rint is exact, ties to even. What stands between two integer layers (scale, bias, batch normalization, activation and
quantizer) is monotonic in the sum: where its result has few levels it is thresholds, a direction of -1 where it falls;
where it has 256, and all of it is linear but the clamp, a product and a shift come close (arXiv 1712.05877, 2.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from codegen.program import Argument
from toolkit.ir import Array, TensorType
from toolkit.ops.base import Run, op, require
from toolkit.ops.contexts import Lowering
from toolkit.ops.conv import Shape
from toolkit.ops.kernel_forms import code_forms
from toolkit.ops.quantized_conv import QuantizedConv, sum_bits, terms_per_output
from toolkit.ops.sign_forms import Choice

MOST_LEVELS = 127  # codes are int8


@dataclass(frozen=True)
class _ToCodes(QuantizedConv):
    """What both share. That sums fit into int32 with a start added is for whoever makes the start to prove."""

    no_gradient = "inference only: it is made where nothing is trained"
    bias_inputs = ()  # type: ignore[assignment]

    def code_shape(self, x: TensorType, w: TensorType) -> TensorType:
        """Type of the output. Raises ShapeError where codes and weights do not fit."""
        shape = self.check_codes(x, w)
        require(x.dtype == "int8", f"codes are int8 here, not {x}")
        require(
            sum_bits(terms_per_output(shape), self.largest_x, self.largest_w) == 32,
            f"sums of {terms_per_output(shape)} products do not fit into 32 bits",
        )
        return TensorType((x.shape[0], *self.output_sizes(x.shape[1:-1], shape[:-2]), shape[-1]), "int8")

    requantizes: ClassVar[bool] = False

    def lower_parts(self, to: Lowering) -> tuple[Argument, Argument, Argument]:
        """What the kernels know of the layer, its weights, and the memory where they gather inputs."""
        w, shape = self.lower_weights(to, 1)
        to.ask_for(*code_forms(self.geometry(to.input_type(0).shape, shape), self.requantizes))
        column = 4 if prod(to.output_type().shape[:-1]) >= 4 else 1
        return self.shape_argument(to, to.input_type(0).shape, shape), w, to.scratch(column * terms_per_output(shape))


@op
@dataclass(frozen=True)
class QuantizedConvCodes(_ToCodes):
    """(x int8 [N, spatial..., IC], w, thresholds int32 [OC, levels], direction int8 [OC]) -> y int8.

    Codes are 0 ... levels. Thresholds ascend in each row. A direction is +1 or -1.
    """

    def infer(self, x: TensorType, w: TensorType, thresholds: TensorType, direction: TensorType) -> TensorType:  # type: ignore[override]
        y = self.code_shape(x, w)
        outputs = y.shape[-1:]
        levels = thresholds.shape[1] if len(thresholds.shape) == 2 else 0
        require(thresholds == TensorType((*outputs, levels), "int32"), f"{thresholds} are not thresholds of {y}")
        require(1 <= levels <= MOST_LEVELS, f"{levels} thresholds; at most {MOST_LEVELS} are supported")
        require(direction == TensorType(outputs, "int8"), f"{direction} are not the directions of {y}")
        return y

    def reference(self, run: Run, x: Array, w: Array, thresholds: Array, direction: Array) -> Array:  # type: ignore[override]
        sums = self.sums(x, w) * np.where(direction < 0, -1, 1)
        found: Array = np.sum(thresholds <= sums[..., None], axis=-1).astype(np.int8)
        return found

    def form(self, x: TensorType, w: TensorType, *others: TensorType | None) -> Choice | None:
        levels = others[0].shape[1] if others and others[0] is not None else 0
        return self.choose_form(x, w, levels) if self.packed else None

    def lower(self, to: Lowering) -> None:
        choice = self.form(to.input_type(0), to.input_type(1), to.input_type(2))
        levels = to.size(to.input_type(2).shape[1])
        if choice is not None and choice.chosen.name != "multiply":
            kernel, shape = self.lower_form(to, choice.chosen)
            to.call(
                f"et_conv_{kernel}_codes_i8", *shape, levels, to.read(0), to.read(1), to.read(2), to.read(3),
                to.scratch(choice.chosen.scratch // 4, "int32"), to.write(0),
            )  # fmt: skip
            return
        described, w, scratch = self.lower_parts(to)
        to.call(
            "et_conv_codes_i8", described, to.size(self.x_zero), levels, to.read(0), w,
            to.read(2), to.read(3), scratch, to.write(0),
        )  # fmt: skip


@op
@dataclass(frozen=True)
class QuantizedConvRequantized(_ToCodes):
    """(x int8 [N, spatial..., IC], w, start int32 [OC], multiplier int32 [OC], shift int8 [OC]) -> y int8.

    Attributes:
        zero: the code of 0 in y.
        low, high: the least and the largest code of y: an activation that clips is a clamp of codes.
    Shifts are 1 to 62.
    """

    requantizes = True
    zero: int = 0
    low: int = -128
    high: int = 127

    def __post_init__(self) -> None:
        super().__post_init__()
        require(-128 <= self.low <= self.high <= 127, f"codes from {self.low} to {self.high} are not int8")

    def infer(  # type: ignore[override]
        self, x: TensorType, w: TensorType, start: TensorType, multiplier: TensorType, shift: TensorType
    ) -> TensorType:
        y = self.code_shape(x, w)
        outputs: Shape = y.shape[-1:]
        for given, dtype in ((start, "int32"), (multiplier, "int32"), (shift, "int8")):
            require(given == TensorType(outputs, dtype), f"{given} does not fit {outputs[0]} output channels")
        return y

    def reference(self, run: Run, x: Array, w: Array, start: Array, multiplier: Array, shift: Array) -> Array:  # type: ignore[override]
        product = self.sums(x, w, start) * multiplier.astype(np.int64)  # below 2^62
        places = shift.astype(np.int64)
        up = ((np.int64(1) << (places - 1)) - 1) + ((product >> places) & 1)  # ties go to the even neighbour
        codes = ((product + up) >> places) + self.zero
        clamped: Array = np.clip(codes, self.low, self.high).astype(np.int8)
        return clamped

    def lower(self, to: Lowering) -> None:
        shape, w, scratch = self.lower_parts(to)
        limits = (to.size(self.zero), to.size(self.low), to.size(self.high))
        to.call(
            "et_conv_requantized_i8", shape, to.size(self.x_zero), *limits, to.read(0), w, to.read(2), to.read(3),
            to.read(4), scratch, to.write(0),
        )  # fmt: skip
