"""BinaryConv: a convolution of signs with signs, one bit each, and what its filters look like to the kernels.

    x    uint8 [N, spatial..., ceil(C / 8)]     bit j of byte b stands for channel 8 b + j: 1 is +1, 0 is -1
    w    uint8 [OC, taps, ceil(C / 8)]          packed signs (toolkit.ops.signs)
    y    int16 [N, out spatial..., OC]          exact sums of products of +1 and -1; taps on padding count as 0

With n products, the sum is n - 2 popcount(x xor w): products of unequal signs are -1. Bits beyond the last channel are
0 in both, and so never unequal.

The kernels gather the bits that an output reads as whole words, zeros in place of padding. Outputs that meet the same
taps form a region, and for each a start makes up for the padding: start = C * taps inside + 2 popcount(w outside), and
y = start - 2 popcount(gathered xor w). PackedBinaryConv takes words and starts made when compiling; BinaryConv makes
them in every call.

Gradients treat the bits as the values +1 and -1 that they stand for: those of a convolution in float32.
A dense layer is a 1x1 convolution of images [N, 1, 1, C].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from codegen.program import Argument, Table
from toolkit.ir import Array, TensorType
from toolkit.ops.base import Run, op, require
from toolkit.ops.binarize_activations import UnpackSigns
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.conv import ConvGradWeight, Convolution, Shape
from toolkit.ops.exact_sums import exact_sum_over_taps
from toolkit.ops.geometry import ConvGeometry
from toolkit.ops.sign_conv import SignConvGradInput, TransposeSigns
from toolkit.ops.signs import packed_signs_shape, unpack_signs
from toolkit.ops.taps import Taps

LARGEST_SUM = 32767  # of products in one output: sums are int16, starts uint16
WORD = 4  # bytes


@dataclass(frozen=True)
class Region:
    """Outputs that meet the same taps.

    Attributes:
        pixel: input pixel under the first tap inside, for the first output; result: the first output pixel.
        rows, columns: outputs.
        top, taps_h, left, taps_w: the taps inside; taps_h = taps_w = 0 where there are none.
    """

    pixel: int
    result: int
    rows: int
    columns: int
    top: int
    taps_h: int
    left: int
    taps_w: int

    @property
    def taps(self) -> int:
        """How many are inside."""
        return self.taps_h * self.taps_w


@dataclass(frozen=True)
class _BinaryConvolution(Convolution):
    """What both forms share.

    Attributes:
        kernel: taps along each axis.
        channels: C, the input channels.
    """

    kernel: Shape = ()
    channels: int = 0

    smooth = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.groups == 1, f"binary convolutions have no groups; {self.groups} are asked for")
        require(len(self.kernel) == len(self.strides) and self.channels >= 1, "kernel and channels are needed")
        count = prod(self.kernel) * self.channels
        require(count <= LARGEST_SUM, f"a sum of {count} signs does not fit 16 bits; {LARGEST_SUM} is the most")

    @property
    def bytes_per_pixel(self) -> int:
        """Of the bits of all channels."""
        return -(-self.channels // 8)

    @property
    def words(self) -> int:
        """32-bit words of one filter."""
        return -(-prod(self.kernel) * self.bytes_per_pixel // WORD)

    def output_type(self, x: TensorType, outputs: int) -> TensorType:
        """The type of y. Raises ShapeError where x does not fit."""
        require(x.dtype == "uint8", f"bits are uint8, not {x}")
        rank = len(self.strides) + 2
        fits = len(x.shape) == rank and x.shape[-1] == self.bytes_per_pixel
        require(fits, f"{x} are not the bits of images with {self.channels} channels")
        return TensorType((x.shape[0], *self.output_sizes(x.shape[1:-1], self.kernel), outputs), "int16")

    def sums(self, x: Array, w: Array) -> Array:
        """int16 sums of packed bits x with packed signs w."""
        signs = np.unpackbits(x, axis=-1, count=self.channels, bitorder="little").astype(np.int8) * 2 - 1
        outputs = w.shape[0]
        total = exact_sum_over_taps(
            signs.reshape(-1, 1, self.channels),
            unpack_signs(w, self.kernel, self.channels).reshape(-1, self.channels, 1, outputs),
            Taps.of_outputs(x.shape[0], *self.axes(x.shape[1:-1], self.kernel)),
        )
        return total.reshape(self.output_type(TensorType(x.shape, "uint8"), outputs).shape).astype(np.int16)

    def binary_geometry(self, x: Shape, outputs: int) -> ConvGeometry:
        """What the kernels know of the layer, for bits of shape x."""
        return self.geometry((*x[:-1], self.channels), (*self.kernel, self.channels, outputs))

    def shape_struct(self, to: Lowering, x: Shape, outputs: int) -> Argument:
        """The et_conv_shape_b1 of the layer: every offset and step, so that the kernel need not multiply."""
        size, g = self.bytes_per_pixel, self.binary_geometry(x, outputs)
        rows = []
        for region in regions(g):
            first = region.top * g.kernel_w + region.left
            rows.append((
                region.pixel * size, region.result * outputs, region.taps * self.channels,
                region.rows, region.columns, first, region.taps_h, region.taps_w, first * size, region.taps_w * size,
            ))  # fmt: skip
        fields: dict[str, int | float | Table] = {
            "batch": g.batch,
            "x_image": g.height * g.width * size,
            "y_image": g.out_height * g.out_width * outputs,
            "x_row": g.stride_h * g.width * size,
            "x_column": g.stride_w * size,
            "y_row": g.out_width * outputs,
            "out_channels": outputs,
            "words": self.words,
            "all_words": self.words * outputs,
            "start_count": len(rows) * outputs,
            "taps": prod(self.kernel),
            "tap_row": g.dilation_h * g.width * size,
            "tap_column": g.dilation_w * size,
            "tap_bytes": size,
            "kernel_row": g.kernel_w * size,
            "kernel_w": g.kernel_w,
            "joined": int(g.dilation_w == 1),
            "region_count": len(rows),
            "regions": Table("et_region_b1", tuple(rows)),
        }
        return to.struct("et_conv_shape_b1", fields)

    def binary_macs(self, x: TensorType, outputs: int) -> int:
        """Multiply-accumulates of one application, padding taps counted."""
        return self.count((*x.shape[:-1], self.channels), (*self.kernel, self.channels, outputs))


def regions(g: ConvGeometry) -> tuple[Region, ...]:
    """Every output lies in one of them; row segments outermost."""
    found = []
    for row_first, _, rows, tap_h, _, taps_h, source_h, *_ in g.rows():
        for column_first, _, columns, tap_w, _, taps_w, source_w, *_ in g.columns():
            result = row_first * g.out_width + column_first
            if taps_h and taps_w:
                pixel = source_h * g.width + source_w
                found.append(Region(pixel, result, rows, columns, tap_h, taps_h, tap_w, taps_w))
            else:
                found.append(Region(0, result, rows, columns, 0, 0, 0, 0))
    return tuple(found)


@op
@dataclass(frozen=True)
class BinaryConv(_BinaryConvolution):
    """(x bits uint8 [N, spatial..., ceil(C / 8)], w uint8 [OC, taps, ceil(C / 8)]) -> int16 [N, spatial..., OC]."""

    def infer(self, x: TensorType, w: TensorType) -> TensorType:
        expected = packed_signs_shape((*self.kernel, self.channels, w.shape[0]))
        require(w == TensorType(expected, "uint8"), f"{w} are not packed signs for weights {list(expected)}")
        return self.output_type(x, w.shape[0])

    def reference(self, run: Run, x: Array, w: Array) -> Array:
        return self.sums(x, w)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        shared = (self.strides, self.dilations, self.before, self.after)
        bits, w = back.input(0), back.input(1)
        dx = dw = None
        if back.needs(0):
            turned = back.apply(TransposeSigns(1, self.channels), w)
            sizes, outputs = back.type(bits).shape[1:-1], back.type(w).shape[0]
            into = SignConvGradInput(*shared, 1, self.kernel, self.channels, sizes, outputs)
            dx = back.apply(into, dy, turned)
        if back.needs(1):
            x = back.apply(UnpackSigns(self.channels), bits)
            dw = back.apply(ConvGradWeight(*shared, kernel=self.kernel), x, dy)
        return dx, dw

    def lower(self, to: Lowering) -> None:
        x, outputs = to.input_type(0).shape, to.input_type(1).shape[0]
        count = len(regions(self.binary_geometry(x, outputs)))
        words = 2 * self.words + outputs * self.words  # gathered pixels; filters
        starts = count * outputs + prod(self.kernel)  # starts; ones of each tap
        shape = self.shape_struct(to, x, outputs)
        to.call("et_conv_b1", shape, to.read(0), to.read(1), to.scratch(WORD * words + 2 * starts), to.write(0))

    def macs(self, x: TensorType, w: TensorType) -> int:
        return self.binary_macs(x, w.shape[0])


@op
@dataclass(frozen=True)
class PackedBinaryConv(_BinaryConvolution):
    """BinaryConv with filters made when compiling: (x, words uint32 [OC, words], starts uint16 [regions, OC]) -> y."""

    no_gradient = "only inference has packed filters"

    def infer(self, x: TensorType, words: TensorType, starts: TensorType) -> TensorType:
        outputs = words.shape[0]
        require(words == TensorType((outputs, self.words), "uint32"), f"{words} are not filters of {self.words} words")
        y = self.output_type(x, outputs)
        count = len(regions(self.binary_geometry(x.shape, outputs)))
        require(starts == TensorType((count, outputs), "uint16"), f"{starts} do not fit {count} regions")
        return y

    def reference(self, run: Run, x: Array, words: Array, starts: Array) -> Array:
        flat = np.ascontiguousarray(words).astype("<u4").view(np.uint8)
        used = flat[:, : prod(self.kernel) * self.bytes_per_pixel]
        return self.sums(x, used.reshape(len(words), -1, self.bytes_per_pixel))

    def lower(self, to: Lowering) -> None:
        shape = self.shape_struct(to, to.input_type(0).shape, to.input_type(1).shape[0])
        scratch = to.scratch(2 * WORD * self.words)
        to.call("et_conv_packed_b1", shape, to.read(0), to.read(1), to.read(2), scratch, to.write(0))

    def macs(self, x: TensorType, words: TensorType, starts: TensorType) -> int:
        return self.binary_macs(x, words.shape[0])


def pack_filters(op: _BinaryConvolution, x: Shape, w: Array) -> tuple[Array, Array]:
    """(words uint32 [OC, words], starts uint16 [regions, OC]) of packed signs w, for bits of shape x."""
    outputs = w.shape[0]
    flat = np.zeros((outputs, WORD * op.words), np.uint8)
    flat[:, : w[0].size] = w.reshape(outputs, -1)
    words = flat.view("<u4").astype(np.uint32)
    geometry = op.binary_geometry(x, outputs)
    ones = np.unpackbits(w, axis=-1).sum(-1, dtype=np.int64).reshape(outputs, geometry.kernel_h, geometry.kernel_w)
    starts = []
    for region in regions(geometry):
        rows, columns = (slice(at, at + n) for at, n in ((region.top, region.taps_h), (region.left, region.taps_w)))
        outside = ones.sum((1, 2)) - ones[:, rows, columns].sum((1, 2))
        starts.append(op.channels * region.taps + 2 * outside)
    return words, np.array(starts).astype(np.uint16)
