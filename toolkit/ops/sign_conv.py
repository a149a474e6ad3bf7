"""SignConv: a convolution of float32 with weights of +1 and -1, packed (toolkit.ops.signs); only signed sums.

    y   starts from the bias (or 0); for taps (kh, kw) ascending, for four channels a, b, c, d of the group ascending:
        y = y + ((((+-a) + (+-b)) + (+-c)) + (+-d)), fewer where channels end, or y + 0 where the tap is on padding

The gradient of the input is of the same kind: dx starts from 0; for taps ascending, for four output channels of the
group ascending, the signed sum of dy is added, or 0 where the tap comes from no output. That of the weights is the
gradient of the values that the bits stand for, float32 [taps..., IC / groups, OC]: ConvGradWeight.

Four values have 16 signed sums, so kernels look sums up instead of adding each time (runtime_c/et_sign_conv.h).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codegen.program import Argument, Table
from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.conv import ConvGradWeight, Convolution, Shape
from toolkit.ops.signs import pack_signs, packed_signs_shape, unpack_signs
from toolkit.ops.sum_to import SumTo
from toolkit.ops.taps import Axis

QUAD = 4


@dataclass(frozen=True)
class _Walk:
    """One axis: tap k of output o meets source (o * scale + k * tap + start) / divisor, where that is whole and inside.

    Attributes:
        source, outputs, taps: sizes.
    """

    source: int
    outputs: int
    taps: int
    scale: int
    tap: int
    start: int
    divisor: int

    @classmethod
    def forward(cls, axis: Axis) -> _Walk:
        """From outputs to inputs of a convolution."""
        return cls(axis.size, axis.outputs, axis.taps, axis.stride, axis.dilation, -axis.before, 1)

    @classmethod
    def backward(cls, axis: Axis) -> _Walk:
        """From inputs to outputs of a convolution."""
        return cls(axis.outputs, axis.size, axis.taps, 1, -axis.dilation, axis.before, axis.stride)

    @property
    def positions(self) -> int:
        """How many positions all outputs span, before the division."""
        return (self.outputs - 1) * self.scale + (self.taps - 1) * abs(self.tap) + 1

    @property
    def spanned(self) -> int:
        """Sources that the taps of one output span, at most."""
        return min(self.source, (self.taps - 1) * abs(self.tap) // self.divisor + 1)

    @property
    def lowest(self) -> int:
        """The tap that steps back the furthest: its distance from tap 0, 0 where none does."""
        return min((self.taps - 1) * self.tap, 0)

    def pixels(self, size: int) -> list[int]:
        """For each position, where its source lies, `size` elements each, or -1."""
        found = []
        for position in range(self.positions):
            source, rest = divmod(position + self.start + self.lowest, self.divisor)
            found.append(source * size if rest == 0 and 0 <= source < self.source else -1)
        return found

    def slots(self, size: int) -> list[int]:
        """For each output and tap, where the ring of `spanned` sources keeps what it meets, or -1."""
        met = [self.met(tap) for tap in range(self.taps)]
        return [
            int(source[output]) % self.spanned * size if inside[output] else -1
            for output in range(self.outputs)
            for source, inside in met
        ]

    def builds(self, line: int, size: int) -> list[int]:
        """For each output, which sources join the ring: where the first one lies, its place, how many."""
        met = [self.met(tap) for tap in range(self.taps)]
        needs = [[int(source[output]) for source, inside in met if inside[output]] for output in range(self.outputs)]
        found, built = [], 0
        for output, needed in enumerate(needs):
            # With dilation, a later output may need a source before the first one of this output.
            first = min((source for later in needs[output:] for source in later), default=built)
            built = max(built, first)
            count = max(max(needed, default=-1) + 1 - built, 0)
            found += [built * line, built % self.spanned * size, count]
            built += count
        return found

    def met(self, tap: int) -> tuple[Array, Array]:
        """For each output, the source that it meets (0 where there is none), and whether there is one."""
        position = np.arange(self.outputs) * self.scale + tap * self.tap + self.start
        source = position // self.divisor
        inside = (position % self.divisor == 0) & (source >= 0) & (source < self.source)
        return np.where(inside, source, 0), inside


@dataclass(frozen=True)
class _SignedSums(Convolution):
    """What the convolution and the gradient of its input share.

    Attributes:
        kernel: taps along each axis.
        channels: input channels of one group of the convolution.
    """

    kernel: Shape = ()
    channels: int = 0

    smooth = False

    def signed_sums(self, walks: tuple[_Walk, _Walk], x: Array, signs: Array, start: Array) -> Array:
        """The sums, float32 [N, rows, columns, groups * O].

        Args:
            x: [N, source rows, source columns, groups * C].
            signs: int8 [taps, C, groups, O].
            start: float32 [groups * O].
        """
        _, channels, groups, outputs = signs.shape
        rows, columns = walks
        images = x.reshape(*x.shape[:3], groups, channels)
        y = np.broadcast_to(
            start.reshape(groups, outputs), (len(x), rows.outputs, columns.outputs, groups, outputs)
        ).astype(np.float32)
        for tap in range(rows.taps * columns.taps):
            (row, has_row), (column, has_column) = rows.met(tap // columns.taps), columns.met(tap % columns.taps)
            met = images[:, row][:, :, column][..., None]  # [N, rows, columns, groups, C, 1]
            meets = np.logical_and.outer(has_row, has_column)[..., None, None]
            for first in range(0, channels, QUAD):
                total: Array | None = None
                for c in range(first, min(first + QUAD, channels)):
                    signed = np.where(signs[tap, c] > 0, met[..., c, :], -met[..., c, :])
                    total = signed if total is None else total + signed
                assert total is not None
                y = y + np.where(meets, total, np.float32(0))
        return y.reshape(*y.shape[:3], groups * outputs)

    def lower_sums(self, to: Lowering, walks: tuple[_Walk, _Walk], channels: int, outputs: int, bias: Argument) -> None:
        """The call of the kernel, for a node whose inputs 0 and 1 are what is read and the bits.

        Args:
            channels, outputs: of all groups, of what is read and of what is written.
        """
        rows, columns = walks
        own, line = channels // self.groups, columns.source * channels
        pattern_bits = min(own, QUAD)
        quad = columns.positions << pattern_bits
        group = -(-own // QUAD) * quad
        row = self.groups * group
        row_bytes = columns.taps * -(-own // 8)
        fields: dict[str, int | float | Table] = {
            "batch": to.input_type(0).shape[0], "source_image": rows.source * line, "source_line": line,
            "out_h": rows.outputs, "out_w": columns.outputs, "out_c": outputs,
            "out_line": columns.outputs * outputs,
            "kernel_h": rows.taps, "kernel_w": columns.taps,
            "groups": self.groups, "channels": own, "filters": outputs // self.groups,
            "row_bytes": row_bytes, "filter_bytes": rows.taps * row_bytes,
            "column_scale": columns.scale, "pattern_bits": pattern_bits, "table_width": columns.positions,
            "quad": quad, "group": group, "row": row, "table": rows.spanned * row,
            "columns": Table("int32_t", tuple(columns.pixels(channels))),
            "taps": Table("int32_t", tuple(tap * columns.tap - columns.lowest for tap in range(columns.taps))),
            "rows": Table("int32_t", tuple(rows.slots(row))), "builds": Table("int32_t", tuple(rows.builds(line, row))),
        }  # fmt: skip
        scratch = 4 * rows.spanned * row
        shape = to.struct("et_sign_conv_shape", fields, "shape")
        to.call("et_sign_conv_f32", shape, to.read(0), to.read(1), bias, to.scratch(scratch), to.write(0))

    def weight_shape(self, bits: TensorType, outputs: int) -> Shape:
        """[taps..., IC / groups, OC]. Raises ShapeError unless these are its bits."""
        shape = (*self.kernel, self.channels, outputs)
        require(
            bits == TensorType(packed_signs_shape(shape), "uint8"),
            f"{bits} are not packed signs for weights {list(shape)}",
        )
        return shape


@op
@dataclass(frozen=True)
class SignConv(_SignedSums):
    """(x float32 [N, spatial..., IC], bits uint8 [OC, taps, ceil(IC / groups / 8)][, bias [OC]]) -> y float32."""

    bias_inputs = (2,)

    def infer(self, x: TensorType, bits: TensorType, bias: TensorType | None = None) -> TensorType:
        shape = self.weight_shape(bits, bits.shape[0])
        self.check(x, TensorType(shape))
        require(bias in (None, TensorType(shape[-1:])), f"the bias {bias} does not fit {shape[-1]} output channels")
        return TensorType((x.shape[0], *self.output_sizes(x.shape[1:-1], self.kernel), shape[-1]))

    def reference(self, run: Run, x: Array, bits: Array, bias: Array | None = None) -> Array:
        rows, columns = self.axes(x.shape[1:-1], self.kernel)
        outputs = bits.shape[0]
        signs = unpack_signs(bits, self.kernel, self.channels)
        y = self.signed_sums(
            (_Walk.forward(rows), _Walk.forward(columns)),
            x.reshape(len(x), rows.size, columns.size, -1),
            signs.reshape(-1, self.channels, self.groups, outputs // self.groups),
            np.zeros(outputs, np.float32) if bias is None else bias,
        )
        return y.reshape(len(x), *self.output_sizes(x.shape[1:-1], self.kernel), outputs)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        attributes = (self.strides, self.dilations, self.before, self.after, self.groups)
        x, bits = back.input(0), back.input(1)
        gradients: list[str | None] = [None] * len(back.node.inputs)
        if back.needs(0):
            outputs, sizes = back.type(bits).shape[0], back.type(x).shape[1:-1]
            turned = back.apply(TransposeSigns(self.groups, self.channels), bits)
            into = SignConvGradInput(*attributes, self.kernel, self.channels, sizes, outputs)
            gradients[0] = back.apply(into, dy, turned)
        if back.needs(1):
            gradients[1] = back.apply(ConvGradWeight(*attributes, kernel=self.kernel), x, dy)
        if len(gradients) > 2 and back.needs(2):
            gradients[2] = back.apply(SumTo(back.type(back.input(2)).shape), dy)
        return gradients

    def lower(self, to: Lowering) -> None:
        x = to.input_type(0).shape
        rows, columns = self.axes(x[1:-1], self.kernel)
        walks = (_Walk.forward(rows), _Walk.forward(columns))
        self.lower_sums(to, walks, x[-1], to.output_type().shape[-1], to.read(2))

    def macs(self, x: TensorType, bits: TensorType, bias: TensorType | None = None) -> int:
        return self.count(x.shape, self.weight_shape(bits, bits.shape[0]))

    def with_bias(self, inputs: tuple[str | None, ...], bias: str) -> tuple[str | None, ...] | None:
        """The inputs with a bias over the last axis of the output added; None where there is one already."""
        return None if len(inputs) > 2 and inputs[2] is not None else (*inputs[:2], bias)


@op
@dataclass(frozen=True)
class SignConvGradInput(_SignedSums):
    """(dy float32 [N, output sizes..., OC], bits uint8 [IC, taps, ceil(OC / groups / 8)]) -> dx [N, sizes..., IC].

    Attributes:
        sizes: spatial sizes of the input of the convolution.
        outputs: OC.
    """

    sizes: Shape = ()
    outputs: int = 0

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType, bits: TensorType) -> TensorType:
        shape = (*self.kernel, self.outputs // self.groups, self.channels * self.groups)
        fits = bits == TensorType(packed_signs_shape(shape), "uint8")
        require(fits, f"{bits} are not transposed signs for {self.outputs} output channels")
        expected = TensorType((dy.shape[0], *self.output_sizes(self.sizes, self.kernel), self.outputs))
        require(dy == expected, f"the gradient {dy} does not have the type {expected} of the output")
        return TensorType((dy.shape[0], *self.sizes, self.channels * self.groups))

    def reference(self, run: Run, dy: Array, bits: Array) -> Array:
        rows, columns = self.axes(self.sizes, self.kernel)
        own = self.outputs // self.groups
        signs = unpack_signs(bits, self.kernel, own)
        dx = self.signed_sums(
            (_Walk.backward(rows), _Walk.backward(columns)),
            dy.reshape(len(dy), rows.outputs, columns.outputs, -1),
            signs.reshape(-1, own, self.groups, self.channels),
            np.zeros(self.groups * self.channels, np.float32),
        )
        return dx.reshape(len(dy), *self.sizes, self.groups * self.channels)

    def lower(self, to: Lowering) -> None:
        rows, columns = self.axes(self.sizes, self.kernel)
        walks = (_Walk.backward(rows), _Walk.backward(columns))
        self.lower_sums(to, walks, self.outputs, self.groups * self.channels, to.constant("NULL", "const float *"))

    def macs(self, dy: TensorType, bits: TensorType) -> int:
        return self.count((dy.shape[0], *self.sizes, self.channels), (*self.kernel, self.channels, self.outputs))


@op
@dataclass(frozen=True)
class TransposeSigns(Op):
    """bits uint8 [OC, taps, ceil(IC / groups / 8)] -> the same bits as [IC, taps, ceil(OC / groups / 8)].

    Attributes:
        channels: input channels of one group.
    """

    groups: int
    channels: int

    no_gradient = "it is part of a gradient"

    def infer(self, bits: TensorType) -> TensorType:
        outputs, taps, bytes = bits.shape
        fits = bits.dtype == "uint8" and bytes == -(-self.channels // 8) and outputs % self.groups == 0
        require(fits, f"{bits} are not packed signs of {self.channels} channels")
        return TensorType((self.groups * self.channels, taps, -(-(outputs // self.groups) // 8)), "uint8")

    def reference(self, run: Run, bits: Array) -> Array:
        outputs, taps, _ = bits.shape
        signs = unpack_signs(bits, (taps,), self.channels).reshape(taps, self.channels, self.groups, -1)
        return pack_signs(signs.transpose(0, 3, 2, 1).reshape(taps, outputs // self.groups, -1) > 0)

    def lower(self, to: Lowering) -> None:
        outputs, taps, _ = to.input_type(0).shape
        own = outputs // self.groups
        filter_bytes, turned = taps * -(-self.channels // 8), taps * -(-own // 8)
        distances = (filter_bytes, own * filter_bytes, turned, self.channels * turned)
        sizes = (self.groups, taps, self.channels, own, *distances)
        to.call("et_transpose_signs", *(to.size(size) for size in sizes), to.read(0), to.write(0))
