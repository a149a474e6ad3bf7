"""QuantizedConv: a convolution of integer codes, exact sums, then one scale; and its gradients on codes.

Codes are small integers that stand for code * scale. Sums of products of codes are exact, so their order is free; what
is rounded is stated:

    forward            y  = float32(sum x w) * (x_scale * w_scale[oc])              without a bias
                       y  = madd(float32(sum x w), x_scale * w_scale[oc], bias)     with one
    data gradient      dx = float32(sum g w) * (g_scale[n] * w_scale)
    weight gradient    dw = float32(sum x g) * (x_scale * g_scale)                  one scale for the batch
                       dw = float32(sum of sample 0) * (x_scale * g_scale[0]), then for n = 1, 2, ...
                       dw = madd(float32(sum of sample n), x_scale * g_scale[n], dw)   one scale per sample

A sum is int32 where its range is proven to fit (numerics N7), else int64; both become float32 in one rounding. Taps on
padding read the code `x_zero` forward, and count as nothing backward.

Weights are codes [taps..., IC / groups, OC], or packed signs of +1 and -1 (toolkit.ops.signs) where `kernel` is given.
A dense layer is a 1x1 convolution of images [N, 1, 1, K].

The gradient of a tensor of codes is that of the values it stands for. `gradient_quantizer` makes codes of the gradient
that arrives at the output; both gradients are then computed from these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from codegen.program import Access, Argument, Layout, Pointer, Table
from toolkit.ir import Array, TensorType
from toolkit.numerics import madd
from toolkit.ops.base import Run, op, require
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.conv import Convolution, Shape
from toolkit.ops.exact_sums import exact_sum_over_pixels, exact_sum_over_taps
from toolkit.ops.geometry import conv_shape_fields
from toolkit.ops.kernel_forms import code_forms
from toolkit.ops.sgd_of_gradient import WeightGradient
from toolkit.ops.sign_forms import MOST_SCRATCH, Choice, Form, choose_form, choose_gradient_form, turned_convolution
from toolkit.ops.sign_planes import planes_shape
from toolkit.ops.sign_tables import tables_shape
from toolkit.ops.signs import packed_signs_shape, unpack_signs
from toolkit.ops.sum_to import SumTo
from toolkit.ops.taps import Taps

CODES = ("int8", "int16")
CODE_BYTES = {"int8": 1, "int16": 2}
SCALAR = TensorType(())
_UNPACKED = 4096  # packed signs that a data gradient unpacks at once, unless that is fewer than 32 inputs


class GradientQuantizer(ABC):
    """Makes codes of an output gradient. Subclasses are frozen dataclasses.

    Attributes:
        largest: the largest magnitude of a code.
    """

    largest: int

    @abstractmethod
    def apply(self, back: Backward, dy: str) -> tuple[str, str]:
        """Adds the nodes; gives the codes (int8 or int16, shape of dy) and their scale (float32, [] or [N])."""


@dataclass(frozen=True)
class _QuantizedConvolution(Convolution):
    """What the convolution of codes and its gradients share.

    Attributes:
        kernel: taps along each axis; () where the weights are codes, whose shape says it.
        channels: input channels of one group, where the weights are packed signs.
        largest_x, largest_w, largest_g: the largest magnitudes of the codes, for the range of sums (N7).
        most_scratch: bytes that a form of packed signs may take.
    """

    kernel: Shape = ()
    channels: int = 0
    largest_x: int = 127
    largest_w: int = 127
    largest_g: int = 127
    most_scratch: int = field(default=MOST_SCRATCH, kw_only=True)

    smooth = False

    @property
    def packed(self) -> bool:
        """Whether the weights are packed signs."""
        return bool(self.channels)

    def weight_shape(self, w: TensorType) -> Shape:
        """[taps..., IC / groups, OC] of the weights, packed or not."""
        if not self.packed:
            return w.shape
        shape = (*self.kernel, self.channels, w.shape[0])
        require(
            w == TensorType(packed_signs_shape(shape), "uint8"), f"{w} are not packed signs for weights {list(shape)}"
        )
        return shape

    def weights(self, w: Array) -> Array:
        """The weights as integers [taps..., IC / groups, OC]."""
        return unpack_signs(w, self.kernel, self.channels) if self.packed else w

    def check_codes(self, x: TensorType, w: TensorType) -> Shape:
        """The shape of the weights. Raises ShapeError where the types do not fit."""
        require(x.dtype in CODES, f"codes are int8 or int16, not {x}")
        require(self.packed or w.dtype == x.dtype, f"codes {x} and weights {w} have different types")
        shape = self.weight_shape(w)
        self.check_shapes(x, TensorType(shape))
        return shape


    def lower_weights(self, to: Lowering, index: int) -> tuple[Argument, Shape]:
        """The weights as codes for a kernel, and their shape; packed signs are unpacked into scratch first."""
        w = to.input_type(index)
        shape = self.weight_shape(w)
        if not self.packed:
            return to.read(index), shape
        dtype = to.input_type(0).dtype
        codes = to.scratch(prod(shape), dtype)
        assert isinstance(codes, Pointer)
        to.call(
            f"et_unpack_signs_{kernel_suffix(dtype, 32)}",
            to.size(prod(shape[:-2])), to.size(shape[-2]), to.size(shape[-1]), to.read(index), codes,
        )  # fmt: skip
        return Pointer(codes.buffer, Access.READ), shape

    def shape_argument(self, to: Lowering, x: Shape, w: Shape) -> Argument:
        """The et_conv_shape of the layer, for input and weights of these shapes; without border segments."""
        fields: dict[str, int | float | Table] = {
            field: value
            for field, value in conv_shape_fields(self.geometry(x, w), False, False).items()
            if isinstance(value, int)
        }
        return to.struct("et_conv_shape", fields)


def kernel_suffix(dtype: str, bits: int) -> str:
    """Which kernels: i8, i16, or i16_wide with accumulators of 64 bits."""
    assert dtype != "int8" or bits == 32, "a sum of int8 products is beyond int32"
    return {"int8": "i8", "int16": "i16"}[dtype] + ("_wide" if bits == 64 else "")


def scale_step(to: Lowering, index: int) -> Argument:
    """1 where input `index` is a vector of scales, 0 where it is one for all."""
    return to.size(len(to.input_type(index).shape))


def sum_bits(terms: int, first: int, second: int) -> int:
    """32 or 64: bits of an accumulator that holds `terms` products of magnitudes up to `first` and `second`."""
    return 32 if terms * first * second < 2**31 else 64


@op
@dataclass(frozen=True)
class QuantizedConv(_QuantizedConvolution):
    """(x codes [N, spatial..., IC], w, x_scale [], w_scale [] or [OC][, bias [OC]][, start int32 [OC]]) -> y float32.

    Attributes:
        x_zero: the code that padding reads.
        gradient_quantizer: for training; None where the node is never differentiated.
        unsigned: whether no code of x is negative.
        counts_ones: whether the core has an instruction for that; the bits are the same.
    `start` is added to the sums: the correction for codes of x whose zero is not the code 0.
    """

    x_zero: int = 0
    gradient_quantizer: GradientQuantizer | None = None
    unsigned: bool = field(default=False, kw_only=True)
    counts_ones: bool = field(default=False, kw_only=True, repr=False)

    bias_inputs = (4,)

    def largest_read(self) -> int:
        """The largest magnitude of a code that is read, padding included."""
        return max(self.largest_x, abs(self.x_zero))

    def form(self, x: TensorType, w: TensorType, *others: TensorType | None) -> Choice | None:
        """Which kernels run codes x and packed signs w, and what the others would cost; None for other weights."""
        return self.choose_form(x, w, 0) if self.packed else None

    def choose_form(self, x: TensorType, w: TensorType, levels: int) -> Choice:
        """The same, of packed signs; `levels` as `sign_forms.choose_form` has it."""
        geometry, unsigned = self.geometry(x.shape, self.weight_shape(w)), self.unsigned and self.x_zero == 0
        limit = self.largest_read()
        return choose_form(geometry, limit, x.dtype, levels, self.most_scratch, unsigned, self.counts_ones)

    def infer(
        self,
        x: TensorType,
        w: TensorType,
        x_scale: TensorType,
        w_scale: TensorType,
        bias: TensorType | None = None,
        start: TensorType | None = None,
    ) -> TensorType:
        shape = self.check_codes(x, w)
        outputs = TensorType(shape[-1:])
        require(x_scale == SCALAR and w_scale in (SCALAR, outputs), f"scales {x_scale} and {w_scale} do not fit {x}")
        require(bias in (None, outputs), f"the bias {bias} does not fit {shape[-1]} output channels")
        require(start in (None, TensorType(shape[-1:], "int32")), f"{start} does not fit {shape[-1]} output channels")
        return TensorType((x.shape[0], *self.output_sizes(x.shape[1:-1], shape[:-2]), shape[-1]))

    def sums(self, x: Array, w: Array, start: Array | None = None) -> Array:
        """The exact sums, int64 [N, spatial..., OC]."""
        weights = self.weights(w)
        kernel, channels, outputs = weights.shape[:-2], weights.shape[-2], weights.shape[-1]
        taps = Taps.of_outputs(x.shape[0], *self.axes(x.shape[1:-1], kernel))
        total = exact_sum_over_taps(
            x.reshape(-1, self.groups, channels),
            weights.reshape(-1, channels, self.groups, outputs // self.groups),
            taps,
            self.x_zero,
        )
        sums = total.reshape(x.shape[0], *self.output_sizes(x.shape[1:-1], kernel), outputs)
        return sums if start is None else sums + start

    def reference(
        self,
        run: Run,
        x: Array,
        w: Array,
        x_scale: Array,
        w_scale: Array,
        bias: Array | None = None,
        start: Array | None = None,
    ) -> Array:
        return self.scaled(run, self.sums(x, w, start), x_scale, w_scale, bias)

    def scaled(self, run: Run, sums: Array, x_scale: Array, w_scale: Array, bias: Array | None = None) -> Array:
        """What becomes of exact sums [..., OC], start included: float32, the same shape."""
        real = sums.astype(np.float32)
        scale: Array = np.float32(x_scale) * w_scale
        return np.asarray(real * scale) if bias is None else madd(real, scale, bias, run.fma)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        quantizer = self.gradient_quantizer
        assert quantizer is not None and dy is not None, "the method that made this node does not train it"
        x, w, x_scale, w_scale = (back.input(index) for index in range(4))
        shared = (self.strides, self.dilations, self.before, self.after, self.groups)
        limits = (self.largest_x, self.largest_w, quantizer.largest)
        codes, scale = quantizer.apply(back, dy) if back.needs(0) or back.needs(1) else ("", "")
        gradients: list[str | None] = [None] * len(back.node.inputs)
        if back.needs(0):
            sizes = back.type(x).shape[1:-1]
            into = QuantizedConvGradInput(*shared, self.kernel, self.channels, *limits, sizes)
            gradients[0] = back.apply(into, codes, w, scale, w_scale)
        if back.needs(1):
            kernel = self.weight_shape(back.type(w))[:-2]
            gradients[1] = back.apply(QuantizedConvGradWeight(*shared, kernel, 0, *limits), x, codes, x_scale, scale)
        if len(gradients) > 4 and back.needs(4):
            gradients[4] = back.apply(SumTo(back.type(back.input(4)).shape), dy)
        return gradients

    def lower(self, to: Lowering) -> None:
        x = to.input_type(0)
        choice = self.form(x, to.input_type(1))
        if choice is not None and choice.chosen.name != "multiply":
            kernel, described = self.lower_form(to, choice.chosen)
            to.call(
                f"et_conv_{kernel}_i8", *described, to.read(0), to.read(1), to.read(2), to.read(3), scale_step(to, 3),
                to.read(4), to.read(5), to.scratch(choice.chosen.scratch // 4, "int32"), to.write(0),
            )  # fmt: skip
            return
        w, shape = self.lower_weights(to, 1)
        to.ask_for(*code_forms(self.geometry(x.shape, shape)))
        terms = terms_per_output(shape)
        suffix = kernel_suffix(x.dtype, sum_bits(terms, self.largest_x, self.largest_w))
        column = 4 if prod(to.output_type().shape[:-1]) >= 4 else 1
        to.call(
            f"et_conv_{suffix}",
            self.shape_argument(to, x.shape, shape), to.size(self.x_zero), to.read(0), w, to.read(2), to.read(3),
            scale_step(to, 3), to.read(4), to.read(5), to.scratch(column * terms * CODE_BYTES[x.dtype]), to.write(0),
        )  # fmt: skip

    def lower_form(self, to: Lowering, form: Form) -> tuple[str, list[Argument]]:
        """Which kernels run a form that does not multiply, and what they know of the layer."""
        geometry = self.geometry(to.input_type(0).shape, self.weight_shape(to.input_type(1)))
        if form.name == "planes":
            return "planes", [to.struct("et_planes_shape", planes_shape(geometry, form.planes))]
        return "tables", [to.struct("et_tables_shape", tables_shape(geometry, form)), to.size(self.x_zero)]

    def macs(self, x: TensorType, w: TensorType, *others: TensorType | None) -> int:
        return self.count(x.shape, self.weight_shape(w))


@op
@dataclass(frozen=True)
class QuantizedConvGradInput(_QuantizedConvolution):
    """(g codes [N, output sizes..., OC], w, g_scale [] or [N], w_scale []) -> dx float32 [N, sizes..., IC].

    Attributes:
        sizes: spatial sizes of the input of the convolution.
    """

    sizes: Shape = ()

    no_gradient = "second derivatives are not used"

    def infer(self, g: TensorType, w: TensorType, g_scale: TensorType, w_scale: TensorType) -> TensorType:
        shape = self.weight_shape(w)
        x = TensorType((g.shape[0], *self.sizes, shape[-2] * self.groups), g.dtype)
        self.check_codes(x, w)
        expected = (g.shape[0], *self.output_sizes(self.sizes, shape[:-2]), shape[-1])
        require(g.shape == expected, f"the gradient {g} does not have the shape {list(expected)} of the output")
        require(g_scale in (SCALAR, TensorType(g.shape[:1])), f"{g_scale} scales of a gradient {g}")
        require(w_scale == SCALAR, "a data gradient on codes needs one scale for all weights")
        return TensorType(x.shape)

    def reference(self, run: Run, g: Array, w: Array, g_scale: Array, w_scale: Array) -> Array:
        weights = self.weights(w)
        kernel, channels, outputs = weights.shape[:-2], weights.shape[-2], weights.shape[-1] // self.groups
        taps = Taps.of_inputs(g.shape[0], *self.axes(self.sizes, kernel))
        total = exact_sum_over_taps(
            g.reshape(-1, self.groups, outputs),
            weights.reshape(-1, channels, self.groups, outputs).transpose(0, 3, 2, 1),
            taps,
        )
        real = total.astype(np.float32).reshape(g.shape[0], -1)
        scale = (np.asarray(g_scale) * np.float32(w_scale)).reshape(-1, 1)
        dx: Array = real * scale
        return dx.reshape(g.shape[0], *self.sizes, self.groups * channels)

    def form(self, x: TensorType, w: TensorType, *others: TensorType | None) -> Choice | None:
        if not self.packed:
            return None
        shape = self.weight_shape(w)
        geometry = self.geometry((x.shape[0], *self.sizes, shape[-2] * self.groups), shape)
        return choose_gradient_form(geometry, self.largest_g, x.dtype, self.most_scratch)

    def lower(self, to: Lowering) -> None:
        g, x, shape = to.input_type(0), to.output_type(), self.weight_shape(to.input_type(1))
        outputs = prod(shape[:-2]) * (shape[-1] // self.groups)
        suffix = kernel_suffix(g.dtype, sum_bits(outputs, self.largest_g, self.largest_w))
        choice = self.form(g, to.input_type(1))
        if choice is not None and choice.chosen.name != "multiply":
            form, geometry = choice.chosen, turned_convolution(self.geometry(x.shape, shape))
            assert geometry is not None
            to.call(
                "et_conv_tables_grad_input_i8", to.struct("et_tables_shape", tables_shape(geometry, form, True)),
                to.read(0), to.read(1), to.read(2), scale_step(to, 2), to.read(3),
                to.scratch(form.scratch // 4, "int32"), to.write(0),
            )  # fmt: skip
            return
        depthwise = self.groups > 1 and self.groups == shape[-1] == shape[-2] * self.groups
        signs = self.packed and not depthwise
        w = to.read(1) if signs else self.lower_weights(to, 1)[0]
        operands = (
            self.shape_argument(to, x.shape, shape), to.read(0), w, to.read(2), scale_step(to, 2), to.read(3),
        )  # fmt: skip
        column = 4 if prod(x.shape[:-1]) >= 4 and not depthwise else 0
        if signs:
            block = min(-(-shape[-2] // 8) * 8, max(_UNPACKED // outputs // 16 * 16, 32))
            scratch = to.scratch(outputs * (column + min(block, shape[-2])) * CODE_BYTES[g.dtype])
            to.call(f"et_conv_grad_input_signs_{suffix}", *operands, to.size(block), scratch, to.write(0))
            return
        turned = outputs * (column + shape[-2]) if column else 0
        scratch = to.scratch(turned * CODE_BYTES[g.dtype]) if turned else to.constant("NULL", "void *")
        to.call(f"et_conv_grad_input_{suffix}", *operands, scratch, to.write(0))

    def macs(self, g: TensorType, w: TensorType, *others: TensorType | None) -> int:
        shape = self.weight_shape(w)
        return self.count((g.shape[0], *self.sizes, shape[-2] * self.groups), shape)


@op
@dataclass(frozen=True)
class QuantizedConvGradWeight(_QuantizedConvolution, WeightGradient):
    """(x codes [N, spatial..., IC], g codes [N, output sizes..., OC], x_scale [], g_scale [] or [N]) -> dw float32."""

    no_gradient = "second derivatives are not used"
    updates_row_major = True

    def infer(self, x: TensorType, g: TensorType, x_scale: TensorType, g_scale: TensorType) -> TensorType:
        require(x.dtype == g.dtype and x.dtype in CODES, f"codes {x} and {g} have different types")
        w = TensorType((*self.kernel, x.shape[-1] // self.groups, g.shape[-1]))
        self.check_shapes(x, w)
        expected = (x.shape[0], *self.output_sizes(x.shape[1:-1], self.kernel), g.shape[-1])
        require(g.shape == expected, f"the gradient {g} does not have the shape {list(expected)} of the output")
        require(x_scale == SCALAR and g_scale in (SCALAR, TensorType(g.shape[:1])), "scales do not fit")
        return w

    def reference(self, run: Run, x: Array, g: Array, x_scale: Array, g_scale: Array) -> Array:
        samples = [slice(None)] if g_scale.ndim == 0 else [slice(n, n + 1) for n in range(len(x))]
        scales = np.float32(x_scale) * np.atleast_1d(g_scale)
        dw: Array = self._sums(x[samples[0]], g[samples[0]]).astype(np.float32) * scales[0]
        for sample, scale in zip(samples[1:], scales[1:], strict=True):
            dw = madd(self._sums(x[sample], g[sample]).astype(np.float32), scale, dw, run.fma)
        return dw

    def _sums(self, x: Array, g: Array) -> Array:
        channels, outputs = x.shape[-1] // self.groups, g.shape[-1] // self.groups
        taps = Taps.of_outputs(x.shape[0], *self.axes(x.shape[1:-1], self.kernel))
        total = exact_sum_over_pixels(
            x.reshape(-1, self.groups, channels), g.reshape(-1, self.groups, outputs), taps
        )
        return total.reshape(*self.kernel, channels, g.shape[-1])

    def weight_kernel(self, to: Lowering, part: str) -> tuple[str, Argument, Layout | None]:
        x, g = to.input_type(0), to.input_type(1)
        pixels = prod(g.shape[1:-1]) * (1 if to.input_type(3).shape else g.shape[0])
        suffix = kernel_suffix(x.dtype, sum_bits(pixels, self.largest_x, self.largest_g))
        shape = (*self.kernel, x.shape[-1] // self.groups, g.shape[-1])
        return f"et_conv{part}_{suffix}", self.shape_argument(to, x.shape, shape), None

    def operands(self, to: Lowering) -> tuple[Argument, ...]:
        return to.read(0), to.read(1), to.read(2), to.read(3), scale_step(to, 3)

    def lower(self, to: Lowering) -> None:
        kernel, shape, _ = self.weight_kernel(to, "_grad_weight")
        to.call(kernel, shape, *self.operands(to), to.write(0))

    def macs(self, x: TensorType, g: TensorType, *others: TensorType | None) -> int:
        return self.count(x.shape, (*self.kernel, x.shape[-1] // self.groups, g.shape[-1]))


def terms_per_output(shape: Shape) -> int:
    """Products in one sum of the forward pass, for weights [taps..., IC / groups, OC]."""
    return prod(shape[:-1])
