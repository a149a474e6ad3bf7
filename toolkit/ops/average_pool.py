"""AveragePool over one or two spatial axes, channels-last.

The taps of a window are added in row-major order, starting from 0, by plain additions; the sum is multiplied by
1 / count, rounded once. Taps on padding are not added. `count` is the number of taps inside the image or, with
count_include_pad, inside the padded image: what ceil_mode adds beyond the padding never counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.pooling import Window, planar, planar_shape, pool_fields, window_from_onnx


def reciprocal_counts(window: Window, sizes: Sequence[int], count_include_pad: bool) -> Array:
    """1 / count for each position of a planar window: float32 [OH, OW, 1]."""
    axes = []
    for axis, size in enumerate(sizes):
        low = -window.before[axis] if count_include_pad else 0
        high = size + window.after[axis] if count_include_pad else size
        first = np.arange(window.output_sizes_of_axis(axis, size))[:, None] * window.strides[axis] - window.before[axis]
        places = first + np.arange(window.kernel[axis]) * window.dilations[axis]
        axes.append(np.sum((places >= low) & (places < high), axis=1))
    counts = np.multiply.outer(axes[0], axes[1]).astype(np.float32)
    return np.asarray(np.float32(1) / counts)[:, :, None]


@op
@dataclass(frozen=True)
class AveragePool(Op):
    """x [N, spatial..., C] -> y [N, out spatial..., C], float32."""

    window: Window
    count_include_pad: bool = False

    onnx = ("AveragePool",)
    smooth = True

    def infer(self, x: TensorType) -> TensorType:
        y = self.window.infer(x)
        if not self.count_include_pad:
            self.window.require_image_in_every_window(x.shape[1:-1])
        return y

    def reference(self, run: Run, x: Array) -> Array:
        shape = self.window.infer(TensorType(x.shape)).shape
        flat, image = self.window.planar(), planar(x)
        total = np.zeros(planar_shape(shape), np.float32)
        for tap in flat.each_tap(image.shape[1:3]):
            total[tap.output] += image[tap.input]
        return (total * reciprocal_counts(flat, image.shape[1:3], self.count_include_pad)).reshape(shape)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        shape = back.type(back.input(0)).shape
        return (back.apply(AveragePoolGrad(self.window, self.count_include_pad, shape), dy),)

    def is_per_sample(self) -> bool:
        return True

    def lower(self, to: Lowering) -> None:
        x, y = to.input_type(0).shape, to.output_type().shape
        shape = to.struct("et_pool_shape", pool_fields(self.window, x, y, self.count_include_pad))
        to.call("et_average_pool_f32", shape, to.read(0), to.write(0))

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        window = window_from_onnx(node)
        include = bool(node.attribute("count_include_pad", 0))
        return (node.emit_channels_last(0, node.apply(cls(window, include), node.channels_last(0))[0]),)


@op
@dataclass(frozen=True)
class AveragePoolGrad(Op):
    """Input dy [N, out spatial..., C]; output dx [N, spatial..., C].

    dx starts at 0; dy * (1 / count), rounded once, is added to every element of its window, windows in ascending
    row-major order.
    """

    window: Window
    count_include_pad: bool
    shape: tuple[int, ...]

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType) -> TensorType:
        return TensorType(self.shape)

    def reference(self, run: Run, dy: Array) -> Array:
        flat = self.window.planar()
        dx = np.zeros(planar_shape(self.shape), np.float32)
        share = planar(dy) * reciprocal_counts(flat, dx.shape[1:3], self.count_include_pad)
        for tap in flat.each_tap(dx.shape[1:3], reverse=True):
            dx[tap.input] += share[tap.output]
        return dx.reshape(self.shape)

    def is_per_sample(self) -> bool:
        return True

    def lower(self, to: Lowering) -> None:
        fields = pool_fields(self.window, self.shape, to.input_type(0).shape, self.count_include_pad)
        to.call("et_average_pool_grad_f32", to.struct("et_pool_shape", fields), to.read(0), to.write(0))
