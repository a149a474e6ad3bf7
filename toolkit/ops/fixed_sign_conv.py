"""FixedSignConv: a convolution of int8 codes with weights of one bit, to exact int32 sums; and its data gradient.

The sums are those of FixedConv for weights of +1 and -1; they come from tables of signed sums where that is cheaper
(toolkit.ops.sign_forms), or from bit planes. The weight gradient is FixedConv's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from codegen.program import Access, Argument, Pointer
from toolkit.ir import Array, TensorType
from toolkit.numerics.fixed_unit import scale_product
from toolkit.ops.base import Run, op, require
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.conv import Shape
from toolkit.ops.exact_sums import exact_sum_over_taps
from toolkit.ops.fixed_conv import FixedConvGradWeight, FixedConvolution, forward_scratch, gradient_scratch
from toolkit.ops.fixed_real import scaled_gradient
from toolkit.ops.geometry import ConvGeometry
from toolkit.ops.quantized_conv import GradientQuantizer
from toolkit.ops.sign_forms import MOST_SCRATCH, Choice, choose_form, choose_gradient_form, turned_convolution
from toolkit.ops.sign_planes import planes_shape
from toolkit.ops.sign_tables import tables_shape
from toolkit.ops.signs import packed_signs_shape, unpack_signs
from toolkit.ops.taps import Taps

SCALAR = TensorType(())


@dataclass(frozen=True)
class _SignConvolution(FixedConvolution):
    """What the convolution and its data gradient share.

    Attributes:
        kernel: taps along each axis.
        channels: of the input.
        largest: the largest magnitude of a code that is read.
        most_scratch: bytes that a form may take.
    """

    kernel: Shape = ()
    channels: int = 0
    largest: int = 127
    most_scratch: int = field(default=MOST_SCRATCH, kw_only=True)

    def weight_shape(self, signs: TensorType) -> Shape:
        """[taps..., IC, OC]."""
        shape = (*self.kernel, self.channels, signs.shape[0])
        require(signs == TensorType(packed_signs_shape(shape), "uint8"), f"{signs} are not signs of weights {shape}")
        return shape

    def lower_by_sums(
        self, to: Lowering, kernel: str, choice: Choice, geometry: ConvGeometry, of_gradient: bool = False
    ) -> None:
        """The call of a kernel that does not multiply: "sums" or "grad_input_sums", from tables or planes."""
        form = choice.chosen
        if form.name == "planes":
            kernel, shape = f"planes_{kernel}", to.struct("et_planes_shape", planes_shape(geometry, form.planes))
        else:
            kernel = f"tables_{kernel}"
            shape = to.struct("et_tables_shape", tables_shape(geometry, form, of_gradient))
        operands = (to.read(index) for index in range(4))
        scratch = to.scratch(form.scratch // 4, "int32")
        to.call(f"et_conv_{kernel}_i8", shape, *operands, scratch, to.write(0), to.write(1))

    def lower_by_products(self, to: Lowering, kernel: str, shape: dict[str, int], scratch: int) -> None:
        """The call of a kernel of FixedConv, on signs that were unpacked."""
        taps = self.weight_shape(to.input_type(1))
        codes = to.scratch(prod(taps), "int8")
        assert isinstance(codes, Pointer)
        sizes = (to.size(prod(taps[:-2])), to.size(taps[-2]), to.size(taps[-1]))
        to.call("et_unpack_signs_i8", *sizes, to.read(1), codes)
        weights: Argument = Pointer(codes.buffer, Access.READ)
        described = to.struct("et_fixed_conv", shape, "shape")
        scales = (to.read(2), to.read(3))
        to.call(kernel, described, to.read(0), weights, *scales, to.scratch(scratch), to.write(0), to.write(1))


@op
@dataclass(frozen=True)
class FixedSignConv(_SignConvolution):
    """(x int8 [N, spatial..., IC], packed signs, x_scale, w_scale) -> sums int32 [N, spatial..., OC], scale.

    Attributes:
        gradient_quantizer: makes codes of a gradient that arrives in float32, one scale for all samples.
        unsigned: whether no code of x is negative.
        counts_ones: whether the core has an instruction for that; the bits are the same.
    """

    gradient_quantizer: GradientQuantizer | None = None
    unsigned: bool = field(default=False, kw_only=True)
    counts_ones: bool = field(default=False, kw_only=True, repr=False)

    def infer(
        self, x: TensorType, signs: TensorType, x_scale: TensorType, w_scale: TensorType
    ) -> tuple[TensorType, TensorType]:
        shape = self.weight_shape(signs)
        require(x.dtype == "int8", f"int8 codes are needed, not {x}")
        self.check_shapes(x, TensorType(shape))
        require(self.groups == 1 and set(self.dilations) == {1}, "one group without dilation")
        require(x_scale == w_scale == SCALAR, "one scale for each tensor")
        sizes = self.output_sizes(x.shape[1:-1], self.kernel)
        return TensorType((x.shape[0], *sizes, shape[-1]), "int32"), SCALAR

    def reference(self, run: Run, x: Array, signs: Array, x_scale: Array, w_scale: Array) -> tuple[Array, Array]:
        w = unpack_signs(signs, self.kernel, self.channels)
        taps = Taps.of_outputs(x.shape[0], *self.axes(x.shape[1:-1], self.kernel))
        total = exact_sum_over_taps(x.reshape(-1, 1, x.shape[-1]), w.reshape(-1, w.shape[-2], 1, w.shape[-1]), taps)
        sizes = self.output_sizes(x.shape[1:-1], self.kernel)
        return total.reshape(x.shape[0], *sizes, w.shape[-1]).astype(np.int32), scale_product(x_scale, w_scale)

    def gradient(self, back: Backward, dsums: str | None, dscale: str | None) -> Sequence[str | None]:
        assert dsums is not None and self.gradient_quantizer is not None
        x, signs, x_scale, w_scale = (back.input(index) for index in range(4))
        if back.type(dsums).dtype == "float32":
            g, g_scale = self.gradient_quantizer.apply(back, dsums)
        else:
            g, g_scale = scaled_gradient(back, dsums)
        shared = (self.strides, self.dilations, self.before, self.after, self.groups)
        dx = dw = None
        if back.needs(0):
            limit = self.gradient_quantizer.largest
            into = FixedSignConvGradInput(*shared, self.kernel, self.channels, limit, back.type(x).shape[1:-1])
            dx = back.apply(into, g, signs, g_scale, w_scale)
        if back.needs(1):
            largest = (self.largest, self.gradient_quantizer.largest)
            dw = back.apply(FixedConvGradWeight(*shared, self.kernel, *largest), x, g, x_scale, g_scale)
        return dx, dw, None, None

    def form(self, x: TensorType, signs: TensorType) -> Choice:
        """Which kernel runs the layer, and what the others would cost."""
        geometry = self.geometry(x.shape, self.weight_shape(signs))
        return choose_form(
            geometry, self.largest, x.dtype, most=self.most_scratch, unsigned=self.unsigned,
            counts_ones=self.counts_ones,
        )  # fmt: skip

    def lower(self, to: Lowering) -> None:
        x, shape = to.input_type(0), self.weight_shape(to.input_type(1))
        choice = self.form(x, to.input_type(1))
        if choice.chosen.name != "multiply":
            self.lower_by_sums(to, "sums", choice, self.geometry(x.shape, shape))
            return
        described = self.fixed_shape(x.shape, shape)
        self.lower_by_products(to, "et_fixed_conv_i8", described, forward_scratch(described))

    def macs(self, x: TensorType, signs: TensorType, *scales: TensorType | None) -> int:
        return self.count(x.shape, self.weight_shape(signs))


@op
@dataclass(frozen=True)
class FixedSignConvGradInput(_SignConvolution):
    """(g int8 [N, output sizes..., OC], packed signs, g_scale, w_scale) -> dx int32 [N, sizes..., IC], scale.

    Attributes:
        sizes: spatial sizes of the input of the convolution.
    """

    sizes: Shape = ()

    no_gradient = "second derivatives are not used"

    def infer(
        self, g: TensorType, signs: TensorType, g_scale: TensorType, w_scale: TensorType
    ) -> tuple[TensorType, TensorType]:
        shape = self.weight_shape(signs)
        expected = (g.shape[0], *self.output_sizes(self.sizes, self.kernel), shape[-1])
        require(g == TensorType(expected, "int8"), f"the gradient {g} does not have the shape {list(expected)}")
        require(g_scale == w_scale == SCALAR, "one scale for each tensor")
        return TensorType((g.shape[0], *self.sizes, self.channels), "int32"), SCALAR

    def reference(self, run: Run, g: Array, signs: Array, g_scale: Array, w_scale: Array) -> tuple[Array, Array]:
        w = unpack_signs(signs, self.kernel, self.channels)
        taps = Taps.of_inputs(g.shape[0], *self.axes(self.sizes, self.kernel))
        turned = w.reshape(-1, w.shape[-2], 1, w.shape[-1]).transpose(0, 3, 2, 1)
        total = exact_sum_over_taps(g.reshape(-1, 1, g.shape[-1]), turned, taps)
        dx = total.reshape(g.shape[0], *self.sizes, self.channels).astype(np.int32)
        return dx, scale_product(g_scale, w_scale)

    def form(self, g: TensorType, signs: TensorType) -> Choice:
        """Which kernel runs the gradient, and what the others would cost."""
        geometry = self.geometry((g.shape[0], *self.sizes, self.channels), self.weight_shape(signs))
        return choose_gradient_form(geometry, self.largest, g.dtype, self.most_scratch)

    def lower(self, to: Lowering) -> None:
        g, x, shape = to.input_type(0), to.output_type(), self.weight_shape(to.input_type(1))
        choice = self.form(g, to.input_type(1))
        if choice.chosen.name != "multiply":
            turned = turned_convolution(self.geometry(x.shape, shape))
            assert turned is not None
            self.lower_by_sums(to, "grad_input_sums", choice, turned, True)
            return
        described = self.fixed_shape(x.shape, shape)
        self.lower_by_products(to, "et_fixed_conv_grad_input_i8", described, gradient_scratch(described))

    def macs(self, g: TensorType, signs: TensorType, *scales: TensorType | None) -> int:
        return self.count((g.shape[0], *self.sizes, self.channels), self.weight_shape(signs))
