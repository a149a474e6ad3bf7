"""MaxPool over one or two spatial axes, channels-last.

The taps of a window are looked at in row-major order; one that is greater takes the place of the best so far, so the
first of equal ones wins. NaN is never greater: it is only kept where it is the first tap inside the image. Taps on
padding do not exist. Integer codes are pooled as they are; their gradient is that of the values they stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codegen.program import Table, Zeros
from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, UnsupportedError, op, require
from toolkit.ops.contexts import Backward, Import, Lowering, Training
from toolkit.ops.pooling import Window, planar, planar_shape, pool_fields, window_from_onnx

MOST_TAPS = 1 << 16
_SUFFIX = {"float32": "f32", "int8": "i8", "int16": "i16"}  # of the kernels


def position_bits(window: Window) -> int:
    """How many bits hold a position in the window: 2, 4, 8 or 16."""
    return next(bits for bits in (2, 4, 8, 16) if window.taps <= 1 << bits)


def position_type(window: Window, y: TensorType) -> TensorType:
    """How the positions for an output are kept: fewer than 8 bits are packed, every pixel from a byte of its own."""
    bits = position_bits(window)
    if bits < 8:
        return TensorType((*y.shape[:-1], -(-y.shape[-1] * bits // 8)), "uint8")
    return TensorType(y.shape, f"uint{bits}")


def _packed(window: Window, position: Array) -> Array:
    """Positions as they are kept."""
    bits = position_bits(window)
    if bits >= 8:
        return position.astype(f"uint{bits}")
    stream = position[..., None] >> np.arange(bits, dtype=np.uint16) & 1
    rows = stream.astype(np.uint8).reshape(*position.shape[:-1], -1)
    return np.asarray(np.packbits(rows, axis=-1, bitorder="little"))


def _unpacked(window: Window, kept: Array, channels: int) -> Array:
    """The inverse of `_packed`."""
    bits = position_bits(window)
    if bits >= 8:
        return kept
    stream = np.unpackbits(kept, axis=-1, count=channels * bits, bitorder="little")
    stream = stream.reshape(*kept.shape[:-1], channels, bits)
    return np.asarray((stream << np.arange(bits)).sum(axis=-1, dtype=np.uint16))


def best_taps(window: Window, x: Array) -> tuple[Array, Array]:
    """Maximum and its position in the window.

    Args:
        x: float32, int8 or int16 [N, spatial..., C].

    Returns:
        Two arrays [N, out spatial..., C]: of the type of x, and uint16.
    """
    y_shape = window.infer(TensorType(x.shape)).shape
    flat, image = window.planar(), planar(x)
    best = np.zeros(planar_shape(y_shape), x.dtype)
    position = np.zeros(best.shape, np.uint16)
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

    def is_per_sample(self) -> bool:
        return True

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

    Outputs: y as MaxPool gives it; the row-major position in the window, for windows of at most 4 taps in 2 bits, of at
    most 16 in 4 bits, of at most 256 uint8, else uint16. Fewer than 8 bits are packed: [N, out spatial..., bytes], with
    channel c in the bits from c * bits on, the lowest bit of each byte first.
    """

    window: Window

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        y = MaxPool(self.window).infer(x)
        return y, position_type(self.window, y)

    def reference(self, run: Run, x: Array) -> tuple[Array, Array]:
        y, position = best_taps(self.window, x)
        return y, _packed(self.window, position)

    def gradient(self, back: Backward, dy: str | None, dposition: str | None) -> Sequence[str | None]:
        shape = back.type(back.input(0)).shape
        return (back.apply(MaxPoolGrad(self.window, shape), dy, back.output(1)),)

    def is_per_sample(self) -> bool:
        return True

    def lower(self, to: Lowering) -> None:
        shape = to.struct("et_pool_shape", pool_fields(self.window, to.input_type(0).shape, to.output_type().shape))
        bits, suffix = position_bits(self.window), _SUFFIX[to.input_type(0).dtype]
        if bits < 8:
            to.call(f"et_max_pool_packed_{suffix}", shape, to.size(bits), to.read(0), to.write(0), to.write(1))
        else:
            to.call(f"et_max_pool_arg{bits}_{suffix}", shape, to.read(0), to.write(0), to.write(1))


@op
@dataclass(frozen=True)
class MaxPoolGrad(Op):
    """Inputs dy [N, out spatial..., C], positions as MaxPoolTraining gives them; output dx [N, spatial..., C].

    dx starts at 0; every dy is added to the element that won its window, windows in ascending row-major order.
    """

    window: Window
    shape: tuple[int, ...]

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType, position: TensorType) -> TensorType:
        require(position == position_type(self.window, dy), f"{position} are not the positions for {dy}")
        return TensorType(self.shape)

    def reference(self, run: Run, dy: Array, position: Array) -> Array:
        flat = self.window.planar()
        dx = np.zeros(planar_shape(self.shape), np.float32)
        gradient, winner = planar(dy), planar(_unpacked(self.window, position, dy.shape[-1]))
        for tap in flat.each_tap(dx.shape[1:3], reverse=True):
            target = dx[tap.input]
            np.add(target, gradient[tap.output], out=target, where=winner[tap.output] == tap.index)
        return dx.reshape(self.shape)

    def is_per_sample(self) -> bool:
        return True

    def zeros(self) -> Zeros:
        return "scattered"

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
        bits = position_bits(self.window)
        if bits < 8:
            to.call("et_max_pool_grad_packed_f32", shape, to.size(bits), to.read(0), to.read(1), to.write(0))
        else:
            to.call(f"et_max_pool_grad_arg{bits}_f32", shape, to.read(0), to.read(1), to.write(0))
