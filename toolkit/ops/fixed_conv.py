"""FixedConv: a convolution of int8 mantissas to exact int32 sums; and its gradients.

Sums have a scale as float32 scalar, the product of those of the mantissas. Gradients are integers with a scale too
(toolkit.ops.fixed_real); those that arrive in float32 are rounded to mantissas, stochastically.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics.fixed_unit import scale_product
from toolkit.ops.base import Run, op, require
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.conv import Convolution, Shape
from toolkit.ops.exact_sums import exact_sum_over_pixels, exact_sum_over_taps
from toolkit.ops.fixed_quantize import FixedQuantize
from toolkit.ops.fixed_real import scaled_gradient
from toolkit.ops.taps import Taps

SCALAR = TensorType(())
LARGEST = 127
LANE = 32767  # the largest sum in half a word
LANE_PIXELS = 24  # fewer are not worth it
LISTS = 4 * 4 * 96  # bytes of ET_FIXED_LISTS_BYTES


@dataclass(frozen=True)
class FixedConvolution(Convolution):
    """What the convolution and its gradients share: one group, no dilation, padding of 0."""

    smooth = False

    def fixed_shape(self, x: Shape, w: Shape) -> dict[str, int]:
        """Of et_fixed_conv, for the shapes of x and w."""
        sizes, kernel = x[1:-1], w[:-2]
        outputs = self.output_sizes(sizes, kernel)
        batch, strides, before = x[0], self.strides, self.before
        if len(sizes) == 1:
            sizes, kernel, outputs = (1, *sizes), (1, *kernel), (1, *outputs)
            strides, before = (1, *strides), (0, *before)
        if kernel == (1, 1) and strides == (1, 1) and sizes == outputs:
            pixels = batch * sizes[0] * sizes[1]
            batch, sizes, outputs = 1, (1, pixels), (1, pixels)
        return {
            "batch": batch, "height": sizes[0], "width": sizes[1], "channels": x[-1], "out_height": outputs[0],
            "out_width": outputs[1], "out_channels": w[-1], "kernel_h": kernel[0], "kernel_w": kernel[1],
            "stride_h": strides[0], "stride_w": strides[1], "pad_top": before[0], "pad_left": before[1],
        }  # fmt: skip

    def lower_sums(self, to: Lowering, kernel: str, shape: dict[str, int], scratch: int) -> None:
        """The call that makes the sums and their scale."""
        operands = (to.read(index) for index in range(4))
        described = to.struct("et_fixed_conv", shape, "shape")
        to.call(kernel, described, *operands, to.scratch(scratch), to.write(0), to.write(1))


def fits(shape: Shape, pixels: int) -> bool:
    """Whether int32 holds all sums of a layer with weights of this shape, forward and backward (N7).

    Args:
        pixels: of the output, all samples.
    """
    taps = int(np.prod(shape[:-2]))
    return max(taps * shape[-2], taps * shape[-1], pixels) * LARGEST * LARGEST < 2**31


def _padded(s: dict[str, int], out: tuple[int, int], strides: tuple[int, int], channels: int) -> int:
    rows = (out[0] - 1) * strides[0] + s["kernel_h"]
    return rows * ((out[1] - 1) * strides[1] + s["kernel_w"]) * channels


def _forward_padded(s: dict[str, int]) -> int:
    return _padded(s, (s["out_height"], s["out_width"]), (s["stride_h"], s["stride_w"]), s["channels"])


def _column(pixels: int, taps: int) -> int:
    """Bytes of what four pixels of an image see, or of what one sees where there are fewer."""
    return 8 * taps if pixels >= 4 else -(-taps // 4) * 4


def forward_scratch(s: dict[str, int]) -> int:
    """Bytes of scratch of et_fixed_conv_i8."""
    taps = s["kernel_h"] * s["kernel_w"] * s["channels"]
    return _forward_padded(s) + _column(s["out_height"] * s["out_width"], taps)


def weight_gradient_scratch(s: dict[str, int], in_lanes: bool) -> int:
    """Bytes of scratch of et_fixed_conv_grad_weight_i8, or of et_fixed_lanes_grad_weight_i8."""
    return (2 if in_lanes else 1) * _forward_padded(s) + LISTS


def gradient_scratch(s: dict[str, int]) -> int:
    """Bytes of scratch of et_fixed_conv_grad_input_i8."""
    pixels = s["batch"] * s["height"] * s["width"] * s["out_height"] * s["out_width"]
    if pixels * s["kernel_h"] * s["kernel_w"] == 1 or (s["stride_h"], s["stride_w"]) != (1, 1):
        return 0
    taps = s["kernel_h"] * s["kernel_w"] * s["out_channels"]
    padded = _padded(s, (s["height"], s["width"]), (1, 1), s["out_channels"])
    return padded + taps * s["channels"] + _column(s["height"] * s["width"], taps)


@op
@dataclass(frozen=True)
class FixedConv(FixedConvolution):
    """(x int8 [N, spatial..., IC], w int8 [taps..., IC, OC], x_scale, w_scale) -> sums int32, scale."""

    def infer(
        self, x: TensorType, w: TensorType, x_scale: TensorType, w_scale: TensorType
    ) -> tuple[TensorType, TensorType]:
        require(x.dtype == w.dtype == "int8", f"int8 mantissas are needed, not {x} and {w}")
        self.check_shapes(x, w)
        require(self.groups == 1 and set(self.dilations) == {1}, "one group without dilation")
        require(x_scale == w_scale == SCALAR, "one scale for each tensor")
        sizes = self.output_sizes(x.shape[1:-1], w.shape[:-2])
        require(fits(w.shape, x.shape[0] * int(np.prod(sizes))), "int32 does not hold the sums")
        return TensorType((x.shape[0], *sizes, w.shape[-1]), "int32"), SCALAR

    def reference(self, run: Run, x: Array, w: Array, x_scale: Array, w_scale: Array) -> tuple[Array, Array]:
        taps = Taps.of_outputs(x.shape[0], *self.axes(x.shape[1:-1], w.shape[:-2]))
        total = exact_sum_over_taps(x.reshape(-1, 1, x.shape[-1]), w.reshape(-1, w.shape[-2], 1, w.shape[-1]), taps)
        sizes = self.output_sizes(x.shape[1:-1], w.shape[:-2])
        sums = total.reshape(x.shape[0], *sizes, w.shape[-1]).astype(np.int32)
        return sums, scale_product(x_scale, w_scale)

    def gradient(self, back: Backward, dsums: str | None, dscale: str | None) -> Sequence[str | None]:
        assert dsums is not None
        x, w, x_scale, w_scale = (back.input(index) for index in range(4))
        if back.type(dsums).dtype == "float32":
            stream = crc32(f"{back.node.name}.gradient".encode())
            draws = (back.runtime(name, "uint32") for name in ("seed", "step"))
            g, g_scale = back.apply_all(FixedQuantize(8, stochastic=True, stream=stream), dsums, *draws)
        else:
            g, g_scale = scaled_gradient(back, dsums)
        shared = (self.strides, self.dilations, self.before, self.after, self.groups)
        dx = dw = None
        if back.needs(0):
            into = FixedConvGradInput(*shared, sizes=back.type(x).shape[1:-1])
            dx = back.apply(into, g, w, g_scale, w_scale)
        if back.needs(1):
            dw = back.apply(FixedConvGradWeight(*shared, kernel=back.type(w).shape[:-2]), x, g, x_scale, g_scale)
        return dx, dw, None, None

    def lower(self, to: Lowering) -> None:
        shape = self.fixed_shape(to.input_type(0).shape, to.input_type(1).shape)
        self.lower_sums(to, "et_fixed_conv_i8", shape, forward_scratch(shape))

    def macs(self, x: TensorType, w: TensorType, *scales: TensorType | None) -> int:
        return self.count(x.shape, w.shape)


@op
@dataclass(frozen=True)
class FixedConvGradInput(FixedConvolution):
    """(g int8 [N, output sizes..., OC], w int8, g_scale, w_scale) -> dx int32 [N, sizes..., IC], scale.

    Attributes:
        sizes: spatial sizes of the input of the convolution.
    """

    sizes: Shape = ()

    def infer(
        self, g: TensorType, w: TensorType, g_scale: TensorType, w_scale: TensorType
    ) -> tuple[TensorType, TensorType]:
        require(g.dtype == w.dtype == "int8", f"int8 mantissas are needed, not {g} and {w}")
        x = (g.shape[0], *self.sizes, w.shape[-2])
        expected = (g.shape[0], *self.output_sizes(self.sizes, w.shape[:-2]), w.shape[-1])
        require(g.shape == expected, f"the gradient {g} does not have the shape {list(expected)} of the output")
        return TensorType(x, "int32"), SCALAR

    def reference(self, run: Run, g: Array, w: Array, g_scale: Array, w_scale: Array) -> tuple[Array, Array]:
        taps = Taps.of_inputs(g.shape[0], *self.axes(self.sizes, w.shape[:-2]))
        turned = w.reshape(-1, w.shape[-2], 1, w.shape[-1]).transpose(0, 3, 2, 1)
        total = exact_sum_over_taps(g.reshape(-1, 1, g.shape[-1]), turned, taps)
        sums = total.reshape(g.shape[0], *self.sizes, w.shape[-2]).astype(np.int32)
        return sums, scale_product(g_scale, w_scale)

    def lower(self, to: Lowering) -> None:
        w = to.input_type(1).shape
        s = self.fixed_shape(to.output_type().shape, w)
        self.lower_sums(to, "et_fixed_conv_grad_input_i8", s, gradient_scratch(s))

    def macs(self, g: TensorType, w: TensorType, *scales: TensorType | None) -> int:
        return self.count((g.shape[0], *self.sizes, w.shape[-2]), w.shape)


@op
@dataclass(frozen=True)
class FixedConvGradWeight(FixedConvolution):
    """(x int8 [N, spatial..., IC], g int8 [N, output sizes..., OC], x_scale, g_scale) -> dw int32, scale.

    Attributes:
        kernel: taps along each spatial axis.
        largest_x, largest_g: bounds of the magnitudes of the mantissas; two sums share a word where they are small.
    """

    kernel: Shape = ()
    largest_x: int = LARGEST
    largest_g: int = LARGEST

    def infer(
        self, x: TensorType, g: TensorType, x_scale: TensorType, g_scale: TensorType
    ) -> tuple[TensorType, TensorType]:
        require(x.dtype == g.dtype == "int8", f"int8 mantissas are needed, not {x} and {g}")
        expected = (x.shape[0], *self.output_sizes(x.shape[1:-1], self.kernel), g.shape[-1])
        require(g.shape == expected, f"the gradient {g} does not have the shape {list(expected)} of the output")
        return TensorType((*self.kernel, x.shape[-1], g.shape[-1]), "int32"), SCALAR

    def reference(self, run: Run, x: Array, g: Array, x_scale: Array, g_scale: Array) -> tuple[Array, Array]:
        taps = Taps.of_outputs(x.shape[0], *self.axes(x.shape[1:-1], self.kernel))
        total = exact_sum_over_pixels(x.reshape(-1, 1, x.shape[-1]), g.reshape(-1, 1, g.shape[-1]), taps)
        sums = total.reshape(*self.kernel, x.shape[-1], g.shape[-1]).astype(np.int32)
        return sums, scale_product(x_scale, g_scale)

    def lower(self, to: Lowering) -> None:
        shape = self.fixed_shape(to.input_type(0).shape, to.output_type().shape)
        needed = weight_gradient_scratch(shape, self.in_lanes(shape))
        if not self.in_lanes(shape):
            self.lower_sums(to, "et_fixed_conv_grad_weight_i8", shape, needed)
            return
        operands = (to.read(index) for index in range(4))
        largest = (to.size(self.largest_x), to.size(self.largest_g))
        described, scratch = to.struct("et_fixed_conv", shape, "shape"), to.scratch(needed, "int8")
        to.call("et_fixed_lanes_grad_weight_i8", described, *largest, *operands, scratch, to.write(0), to.write(1))

    def in_lanes(self, s: dict[str, int]) -> bool:
        """Whether two sums share a word: those of many pixels, or, of large codes, those of two at a time."""
        pixels = LANE // (self.largest_x * self.largest_g)
        together = min(pixels // s["out_width"], s["out_height"]) * s["out_width"]
        wide = together == 0 and s["out_channels"] % 2 == 0 and s["out_height"] * s["out_width"] >= LANE_PIXELS
        return s["channels"] % 2 == 0 and (together >= LANE_PIXELS or wide)

    def macs(self, x: TensorType, g: TensorType, *scales: TensorType | None) -> int:
        return self.count(x.shape, (*self.kernel, x.shape[-1], g.shape[-1]))
