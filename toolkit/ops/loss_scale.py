"""Dynamic loss scaling for gradients in binary16 (Micikevicius et al., arXiv 1710.03740, section 3.2).

    state = (scale, steps)    scale a power of two from 1 to 2^24; steps since it last changed
    ScaledToHalf              y = x * scale, rounded to binary16
    Unscale                   y = x / scale
    SeenNonfinite             whether one of the gradients so far is not finite
    LossScaleCheck            one was not: scale / 2, and the step ends; else steps + 1, at `growth` of them scale * 2
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import all_finite
from toolkit.numerics.half import to_half
from toolkit.ops.base import Arrays, Op, Run, StepAborted, op, require
from toolkit.ops.contexts import Lowering

STATE = TensorType((2,))
FLAG = TensorType((1,))
LARGEST = 2.0**24
LOSS_SCALE = "loss_scale"  # the state of a model


@op
@dataclass(frozen=True)
class ScaledToHalf(Op):
    """(x float32 of any shape, state) -> uint16 of that shape."""

    no_gradient = "it is part of a gradient"

    def infer(self, x: TensorType, state: TensorType) -> TensorType:
        require(x.dtype == "float32" and state == STATE, f"{x} cannot be scaled by {state}")
        return TensorType(x.shape, "uint16")

    def reference(self, run: Run, x: Array, state: Array) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            return to_half(x * state[0], "fp16")

    def lower(self, to: Lowering) -> None:
        count = to.size(to.input_type(0).size)
        to.call("et_to_fp16_scaled_f32", count, to.read(1), to.read(0), to.write(0))


@op
@dataclass(frozen=True)
class Unscale(Op):
    """(x float32 of any shape, state) -> the same divided by the scale."""

    no_gradient = "it is part of a gradient"

    def infer(self, x: TensorType, state: TensorType) -> TensorType:
        require(x.dtype == "float32" and state == STATE, f"{x} cannot be scaled by {state}")
        return x

    def reference(self, run: Run, x: Array, state: Array) -> Array:
        with np.errstate(invalid="ignore"):
            return np.asarray(x * (np.float32(1) / state[0]))

    def lower(self, to: Lowering) -> None:
        count = to.size(to.input_type(0).size)
        to.call("et_unscale_f32", count, to.read(1), to.read(0), to.write(0, in_place=(0,)))


@op
@dataclass(frozen=True)
class SeenNonfinite(Op):
    """(gradient float32, seen float32 [1] or None) -> seen' [1]: 1 if the gradient is not finite, else seen, or 0."""

    no_gradient = "it is part of the optimizer"

    def infer(self, gradient: TensorType, seen: TensorType | None = None) -> TensorType:
        require(gradient.dtype == "float32" and seen in (None, FLAG), f"{gradient} and {seen} do not fit together")
        return FLAG

    def reference(self, run: Run, gradient: Array, seen: Array | None = None) -> Array:
        if not all_finite(gradient):
            return np.ones(1, np.float32)
        return np.zeros(1, np.float32) if seen is None else seen

    def lower(self, to: Lowering) -> None:
        count = to.size(to.input_type(0).size)
        to.call("et_seen_nonfinite_f32", count, to.read(0, to.layout(0)), to.read(1), to.write(0, in_place=(1,)))


@op
@dataclass(frozen=True)
class LossScaleCheck(Op):
    """(state, seen [1]) -> state', in place. Ends the step with ET_NONFINITE_GRADIENT where seen is not 0.

    Attributes:
        growth: steps after which the scale doubles.
    """

    growth: int

    no_gradient = "it is part of the optimizer"

    def infer(self, state: TensorType, seen: TensorType) -> TensorType:
        require(state == STATE and seen == FLAG, f"{state} is no loss scale, or {seen} no flag")
        return state

    def reference(self, run: Run, state: Array, seen: Array) -> Arrays:
        scale, steps = float(state[0]), float(state[1])
        if seen[0] != 0:
            raise StepAborted("ET_NONFINITE_GRADIENT", (np.array([max(scale / 2, 1), 0], np.float32),))
        if steps + 1 >= self.growth:
            return (np.array([min(scale * 2, LARGEST), 0], np.float32),)
        return (np.array([scale, steps + 1], np.float32),)

    def lower(self, to: Lowering) -> None:
        growth = to.real(float(self.growth))
        to.call("et_loss_scale_check_f32", growth, to.read(1), to.read(0), to.write(0, in_place=(0,)))
