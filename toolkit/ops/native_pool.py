"""NativeMaxPool: max pooling of binary16 in windows side by side: they neither overlap nor reach beyond the image.

As toolkit.ops.max_pool has it. Its gradient is that of the tap that won, and +0 elsewhere: nothing is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codegen.program import Argument, Zeros
from toolkit.ir import Array, TensorType
from toolkit.numerics.half import from_half, to_half
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Lowering, Training
from toolkit.ops.kernel_forms import RECTIFY
from toolkit.ops.max_pool import MaxPoolGrad, MaxPoolTraining, position_bits, position_type
from toolkit.ops.native_maps import FORMAT, require_halves
from toolkit.ops.pooling import Window, pool_fields


def pools_natively(window: Window) -> bool:
    """Whether windows lie side by side inside the image, with few enough taps for packed positions."""
    still = set(window.dilations) == {1} and not any((*window.before, *window.after)) and not window.ceil_mode
    return still and window.kernel == window.strides and window.taps <= 16


def _shape(to: Lowering, window: Window, x: tuple[int, ...], y: tuple[int, ...]) -> Argument:
    return to.struct("et_pool_shape", pool_fields(window, x, y))


@op
@dataclass(frozen=True)
class NativeMaxPool(Op):
    """x uint16 [N, spatial..., C] -> y uint16 [N, out spatial..., C]."""

    window: Window

    relu_form = RECTIFY

    def infer(self, x: TensorType) -> TensorType:
        require(pools_natively(self.window), f"windows {self.window} do not lie side by side")
        return TensorType(self.window.infer(TensorType(require_halves(x).shape)).shape, "uint16")

    def reference(self, run: Run, x: Array) -> Array:
        return NativeMaxPoolTraining(self.window).reference(run, x)[0]

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        x = back.input(0)
        _, position = back.apply_all(NativeMaxPoolTraining(self.window), x)
        return (back.apply(NativeMaxPoolGrad(self.window, back.type(x).shape), dy, position),)

    def for_training(self, training: Training) -> tuple[str, ...] | None:
        if not training.is_trained_before():
            return None
        return training.apply(NativeMaxPoolTraining(self.window), *training.node.inputs)

    def lower(self, to: Lowering) -> None:
        self.call_kernel(to, "")

    def ends_in_relu(self, *inputs: TensorType | None) -> bool:
        """Whether there is a kernel of both."""
        return True

    def call_kernel(self, to: Lowering, part: str, *options: Argument) -> None:
        """Calls et_max_pool<part>_fp16, with options behind the shape."""
        shape = _shape(to, self.window, to.input_type(0).shape, to.output_type().shape)
        to.call(f"et_max_pool{part}_fp16", shape, *options, to.read(0), to.write(0))


@op
@dataclass(frozen=True)
class NativeMaxPoolTraining(Op):
    """x -> y, and the positions of the taps that won, uint8, as MaxPoolTraining has them."""

    window: Window

    relu_form = RECTIFY

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        y = NativeMaxPool(self.window).infer(x)
        return y, position_type(self.window, y)

    def reference(self, run: Run, x: Array) -> tuple[Array, Array]:
        y, position = MaxPoolTraining(self.window).run(run, from_half(x, FORMAT))
        return to_half(y, FORMAT), position

    def gradient(self, back: Backward, dy: str | None, dposition: str | None) -> Sequence[str | None]:
        shape = back.type(back.input(0)).shape
        return (back.apply(NativeMaxPoolGrad(self.window, shape), dy, back.output(1)),)

    def lower(self, to: Lowering) -> None:
        self.call_kernel(to, "")

    def ends_in_relu(self, *inputs: TensorType | None) -> bool:
        """Whether there is a kernel of both."""
        return True

    def call_kernel(self, to: Lowering, part: str, *options: Argument) -> None:
        """Calls et_max_pool<part>_packed_fp16, with options behind the shape."""
        shape = _shape(to, self.window, to.input_type(0).shape, to.output_type().shape)
        bits = to.size(position_bits(self.window))
        to.call(f"et_max_pool{part}_packed_fp16", shape, *options, bits, to.read(0), to.write(0), to.write(1))


@op
@dataclass(frozen=True)
class NativeMaxPoolGrad(Op):
    """(dy uint16, positions) -> dx uint16 [shape]."""

    window: Window
    shape: tuple[int, ...]

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType, position: TensorType) -> TensorType:
        require(position == position_type(self.window, require_halves(dy)), f"{position} are not of {dy}")
        return TensorType(self.shape, "uint16")

    def reference(self, run: Run, dy: Array, position: Array) -> Array:
        (bits,) = MaxPoolGrad(self.window, self.shape).run(run, dy.astype(np.float32), position)  # exact
        return bits.astype(np.uint16)

    def zeros(self) -> Zeros:
        return "scattered"

    def lower(self, to: Lowering) -> None:
        shape = _shape(to, self.window, self.shape, to.input_type(0).shape)
        bits = to.size(position_bits(self.window))
        to.call("et_max_pool_grad_packed_fp16", shape, bits, to.read(0), to.read(1), to.write(0))
