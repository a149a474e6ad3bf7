"""MaxPool over one or two spatial axes, channels-last.

The taps of a window are looked at in row-major order; one that is greater takes the place of the best so far, so the
first of equal ones wins. NaN is never greater: it is only kept where it is the first tap inside the image. Taps on
padding do not exist. Integer codes are pooled as they are; their gradient is that of the values they stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codegen.program import Table
from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, UnsupportedError, op, require
from toolkit.ops.contexts import Backward, Import, Lowering, Training
from toolkit.ops.pooling import Window, planar, planar_shape, pool_fields, window_from_onnx

MOST_TAPS = 1 << 16
_SUFFIX = {"float32": "f32", "int8": "i8", "int16": "i16"}  # of the kernels


def index_type(window: Window) -> str:
    """The element type that holds a position in the window."""
    return "uint8" if window.taps <= 256 else "uint16"


def best_taps(window: Window, x: Array) -> tuple[Array, Array]:
    """Maximum and its position in the window.

    Args:
        x: float32, int8 or int16 [N, spatial..., C].

    Returns:
        Two arrays [N, out spatial..., C]: of the type of x, and uint8 or uint16.
    """
    y_shape = window.infer(TensorType(x.shape)).shape
    flat, image = window.planar(), planar(x)
    best = np.zeros(planar_shape(y_shape), x.dtype)
    position = np.zeros(best.shape, index_type(window))
    seen = np.zeros(best.shape, np.bool_)
    for tap in flat.each_tap(image.shape[1:3]):
        value, where = image[tap.input], tap.output
        better = ~seen[where] | (value > best[where])
        best[where] = np.where(better, value, best[where])
        position[where] = np.where(better, position.dtype.type(tap.index), position[where])
        seen[where] = True
    return best.reshape(y_shape), position.reshape(y_shape)


@op
@dataclass(frozen=True)
class MaxPool(Op):
    """x [N, spatial..., C] -> y [N, out spatial..., C]; float32, int8 or int16."""

    window: Window

    onnx = ("MaxPool",)

    def infer(self, x: TensorType) -> TensorType:
        taps = self.window.taps
        require(taps <= MOST_TAPS, f"a window has {taps} taps; at most {MOST_TAPS} are supported")
        require(x.dtype in _SUFFIX, f"float32 or codes are needed, not {x}")
        y = self.window.infer(TensorType(x.shape))
        self.window.require_image_in_every_window(x.shape[1:-1])
        return TensorType(y.shape, x.dtype)

    def reference(self, run: Run, x: Array) -> Array:
        return best_taps(self.window, x)[0]

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        # Only where the node was not replaced by its training form: the positions are found again.
        x = back.input(0)
        _, position = back.apply_all(MaxPoolTraining(self.window), x)
        return (back.apply(MaxPoolGrad(self.window, back.type(x).shape), dy, position),)

    def for_training(self, training: Training) -> tuple[str, ...] | None:
        if not training.is_trained_before():
            return None
        return training.apply(MaxPoolTraining(self.window), *training.node.inputs)

    def lower(self, to: Lowering) -> None:
        shape = to.struct("et_pool_shape", pool_fields(self.window, to.input_type(0).shape, to.output_type().shape))
        to.call(f"et_max_pool_{_SUFFIX[to.input_type(0).dtype]}", shape, to.read(0), to.write(0))

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        if node.outputs > 1 and node.output_used(1):
            raise UnsupportedError("the second output of MaxPool, Indices; only pooled values are supported")
        window = window_from_onnx(node)
        return (node.emit_channels_last(0, node.apply(cls(window), node.channels_last(0))[0]),)


@op
@dataclass(frozen=True)
class MaxPoolTraining(Op):
    """MaxPool that also says which tap won.

    Outputs: y as MaxPool gives it; the row-major position in the window, same shape, uint8 (uint16 for windows of more
    than 256 taps).
    """

    window: Window

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        y = MaxPool(self.window).infer(x)
        return y, TensorType(y.shape, index_type(self.window))

    def reference(self, run: Run, x: Array) -> tuple[Array, Array]:
        return best_taps(self.window, x)

    def gradient(self, back: Backward, dy: str | None, dposition: str | None) -> Sequence[str | None]:
        shape = back.type(back.input(0)).shape
        return (back.apply(MaxPoolGrad(self.window, shape), dy, back.output(1)),)

    def lower(self, to: Lowering) -> None:
        shape = to.struct("et_pool_shape", pool_fields(self.window, to.input_type(0).shape, to.output_type().shape))
        argument = "arg8" if index_type(self.window) == "uint8" else "arg16"
        kernel = f"et_max_pool_{argument}_{_SUFFIX[to.input_type(0).dtype]}"
        to.call(kernel, shape, to.read(0), to.write(0), to.write(1))


@op
@dataclass(frozen=True)
class MaxPoolGrad(Op):
    """Inputs dy and positions [N, out spatial..., C]; output dx [N, spatial..., C].

    dx starts at 0; every dy is added to the element that won its window, windows in ascending row-major order.
    """

    window: Window
    shape: tuple[int, ...]

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType, position: TensorType) -> TensorType:
        require(dy.shape == position.shape, f"gradient {dy} and positions {position} differ")
        return TensorType(self.shape)

    def reference(self, run: Run, dy: Array, position: Array) -> Array:
        flat = self.window.planar()
        dx = np.zeros(planar_shape(self.shape), np.float32)
        gradient, winner = planar(dy), planar(position)
        for tap in flat.each_tap(dx.shape[1:3], reverse=True):
            target = dx[tap.input]
            np.add(target, gradient[tap.output], out=target, where=winner[tap.output] == tap.index)
        return dx.reshape(self.shape)

    def lower(self, to: Lowering) -> None:
        flat, dy = self.window.planar(), planar_shape(to.input_type(0).shape)
        batch, height, width, channels = planar_shape(self.shape)
        offsets = tuple(
            (kh * flat.dilations[0] * width + kw * flat.dilations[1]) * channels
            for kh in range(flat.kernel[0])
            for kw in range(flat.kernel[1])
        )
        shape = to.struct(
            "et_max_pool_grad_shape",
            {
                "batch": batch, "height": height, "width": width, "channels": channels,
                "out_height": dy[1], "out_width": dy[2],
                "stride_height": flat.strides[0], "stride_width": flat.strides[1],
                "pad_top": flat.before[0], "pad_left": flat.before[1],
                "tap_offset": Table("int32_t", offsets),
            },
        )  # fmt: skip
        kernel = "et_max_pool_grad_arg8_f32" if index_type(self.window) == "uint8" else "et_max_pool_grad_arg16_f32"
        to.call(kernel, shape, to.read(0), to.read(1), to.write(0))
