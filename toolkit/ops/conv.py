"""Conv: convolution over one or two spatial axes, with groups, strides, dilations and any padding; and its gradients.

    y[n, oh, ow, oc] = bias[oc] + sum over kh, kw, ic of x[n, ih, iw, ic] * w[kh, kw, ic, oc]
    ih = oh * stride + kh * dilation - pad, and iw alike

One multiply-add per tap, in ascending (kh, kw, ic), starting from the bias (or 0). Taps on padding are not added at
all, so a NaN in the weights does not leak through padding. Gradients of the input: ascending (kh, kw, oc), from 0; of
the weights: ascending (n, oh, ow), from 0; of the bias: SumTo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from codegen.forms import Form
from codegen.program import Argument, Layout, Table
from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, UnsupportedError, op, require
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.geometry import AXIS_LIMIT, PANEL, ConvGeometry, conv_shape_fields
from toolkit.ops.kernel_forms import RECTIFY, conv_forms, sum_forms
from toolkit.ops.packing import packed_layout
from toolkit.ops.sgd_of_gradient import WeightGradient
from toolkit.ops.sum_to import SumTo
from toolkit.ops.taps import Axis, Taps, sum_over_pixels, sum_over_taps
from toolkit.ops.update_of_gradient import fused

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Convolution(Op):
    """The attributes that the convolution and its gradients share; one entry per spatial axis in each.

    Attributes:
        strides, dilations: at least 1.
        before, after: padding at both ends of each axis.
        groups: input and output channels are split into this many independent convolutions.
    """

    strides: Shape
    dilations: Shape
    before: Shape
    after: Shape
    groups: int = 1

    no_gradient = "second derivatives are not used"
    smooth = True

    def __post_init__(self) -> None:
        axes = len(self.strides)
        require(axes in (1, 2), f"convolution over {axes} spatial axes; one and two are supported")
        same = len(self.dilations) == len(self.before) == len(self.after) == axes
        require(same, "strides, dilations and padding need one entry per spatial axis")
        require(min(*self.strides, *self.dilations, self.groups) >= 1, "strides, dilations and groups are at least 1")
        require(min(*self.before, *self.after) >= 0, "padding cannot be negative")

    def output_sizes(self, sizes: Shape, kernel: Shape) -> Shape:
        """Spatial sizes of the output. Raises ShapeError where the kernel does not fit."""
        outputs = []
        for size, taps, stride, dilation, before, after in zip(
            sizes, kernel, self.strides, self.dilations, self.before, self.after, strict=True
        ):
            room = size + before + after - (taps - 1) * dilation - 1
            require(taps >= 1 and room >= 0, f"a kernel of {taps} taps does not fit into {size} elements")
            require(size + before + after <= AXIS_LIMIT, f"{size} elements along an axis; {AXIS_LIMIT} is the most")
            outputs.append(room // stride + 1)
        return tuple(outputs)

    def axes(self, sizes: Shape, kernel: Shape) -> tuple[Axis, Axis]:
        """Rows and columns; a single spatial axis becomes the columns of images of height one."""
        found = [
            Axis(*numbers)
            for numbers in zip(
                sizes, kernel, self.output_sizes(sizes, kernel), self.strides, self.dilations, self.before, strict=True
            )
        ]
        return (found[0], found[1]) if len(found) == 2 else (Axis(1, 1, 1, 1, 1, 0), found[0])

    def check(self, x: TensorType, w: TensorType) -> None:
        """Raises ShapeError where input and weights do not fit together."""
        require(x.dtype == w.dtype == "float32", f"float32 is needed, not {x} and {w}")
        self.check_shapes(x, w)

    def check_shapes(self, x: TensorType, w: TensorType) -> None:
        """Raises ShapeError where the shapes do not fit together, whatever the element types."""
        rank = len(self.strides) + 2
        require(len(x.shape) == rank, f"a convolution over {rank - 2} axes needs an input of rank {rank}, not {x}")
        require(len(w.shape) == rank, f"a convolution over {rank - 2} axes needs weights of rank {rank}, not {w}")
        channels, outputs = w.shape[-2:]
        require(
            x.shape[-1] == channels * self.groups,
            f"{x.shape[-1]} input channels, but the weights have {channels} in each of {self.groups} groups",
        )
        require(outputs % self.groups == 0, f"{outputs} output channels cannot be split into {self.groups} groups")

    def count(self, x: Shape, w: Shape) -> int:
        """Multiply-accumulates, padding taps counted."""
        return x[0] * prod(self.output_sizes(x[1:-1], w[:-2])) * prod(w)

    def geometry(self, x: Shape, w: Shape) -> ConvGeometry:
        """What the kernels know of the layer."""
        height, width = x[1:-1] if len(x) == 4 else (1, x[1])
        kernel = w[:-2] if len(w) == 4 else (1, w[0])
        stride, dilation = ((*(1,) * (2 - len(n)), *n) for n in (self.strides, self.dilations))
        before, after = ((*(0,) * (2 - len(n)), *n) for n in (self.before, self.after))
        return ConvGeometry(
            x[0], height, width, x[-1], w[-1], kernel[0], kernel[1], stride[0], stride[1], dilation[0], dilation[1],
            before[0], before[1], after[0], after[1], self.groups,
        )

    def lower_kernel(
        self, to: Lowering, name: str, x: Shape, w: Shape, forward: bool = False, backward: bool = False
    ) -> tuple[str, Argument, Layout | None]:
        """The kernel et_conv<name>_f32 or et_depthwise<name>_f32, its shape, and the layout of the weights.

        Args:
            forward, backward: which of the tables of border segments the kernel reads.
        """
        geometry = self.geometry(x, w)
        fields: dict[str, int | float | Table] = {
            field: value if isinstance(value, int) else Table("et_segment", value)
            for field, value in conv_shape_fields(geometry, forward, backward).items()
        }
        shape = to.struct("et_conv_shape", fields, "shape")
        to.ask_for(*conv_forms(geometry, "forward" if forward else "input" if backward else "weight"))
        if geometry.depthwise:
            return f"et_depthwise{name}_f32", shape, None
        layout = packed_layout(geometry.kernel_h, geometry.kernel_w, w[-2], w[-1], self.groups)
        return f"et_conv{name}_f32", shape, layout


@op
@dataclass(frozen=True)
class Conv(Convolution):
    """x [N, spatial..., IC], w [taps..., IC / groups, OC], bias [OC] or None -> y [N, spatial..., OC]; float32."""

    onnx = ("Conv",)
    bias_inputs = (2,)
    addend = 3
    relu_form = RECTIFY

    def infer(self, x: TensorType, w: TensorType, bias: TensorType | None = None) -> TensorType:
        self.check(x, w)
        if bias is not None:
            require(bias == TensorType(w.shape[-1:]), f"the bias {bias} does not fit {w.shape[-1]} output channels")
        return TensorType((x.shape[0], *self.output_sizes(x.shape[1:-1], w.shape[:-2]), w.shape[-1]))

    def reference(self, run: Run, x: Array, w: Array, bias: Array | None = None) -> Array:
        channels, outputs = w.shape[-2], w.shape[-1] // self.groups
        rows, columns = self.axes(x.shape[1:-1], w.shape[:-2])
        taps = Taps.of_outputs(x.shape[0], rows, columns)
        start = np.zeros(w.shape[-1], np.float32) if bias is None else bias
        y = sum_over_taps(
            x.reshape(-1, self.groups, channels),
            w.reshape(-1, channels, self.groups, outputs),
            start.reshape(self.groups, outputs),
            taps,
            run.fma,
        )
        return y.reshape(x.shape[0], *self.output_sizes(x.shape[1:-1], w.shape[:-2]), w.shape[-1])

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        attributes = (self.strides, self.dilations, self.before, self.after, self.groups)
        x, w = back.input(0), back.input(1)
        dx = dw = db = None
        if back.needs(0):
            dx = back.apply(ConvGradInput(*attributes, sizes=back.type(x).shape[1:-1]), dy, w)
        if back.needs(1):
            dw = back.apply(ConvGradWeight(*attributes, kernel=back.type(w).shape[:-2]), x, dy)
        if len(back.node.inputs) > 2:
            if back.needs(2):
                db = back.apply(SumTo(back.type(back.input(2)).shape), dy)
            return dx, dw, db
        return dx, dw

    def is_per_sample(self) -> bool:
        return True

    def lower(self, to: Lowering) -> None:
        self.call_kernel(to, "")

    def ends_in_relu(self, *inputs: TensorType | None) -> bool:
        """Whether there is a kernel of both."""
        return True

    def ends_in_sum(self, x: TensorType, w: TensorType, bias: TensorType | None = None) -> tuple[Form, ...] | None:
        """What the kernel takes that adds a tensor to the result; depthwise layers have none."""
        geometry = self.geometry(x.shape, w.shape)
        return None if geometry.depthwise else sum_forms(geometry)

    def call_kernel(self, to: Lowering, part: str, *options: Argument) -> None:
        """Calls et_conv<part>_f32 or et_depthwise<part>_f32, with options behind the shape, and any addend last."""
        x, w = to.input_type(0).shape, to.input_type(1).shape
        kernel, shape, layout = self.lower_kernel(to, part, x, w, forward=True)
        addend = (to.read(self.addend),) if to.has(self.addend) else ()
        y = to.write(0, in_place=(self.addend,))
        to.call(kernel, shape, *options, to.read(0), to.read(1, layout), to.read(2), *addend, y)

    def macs(self, x: TensorType, w: TensorType, bias: TensorType | None = None) -> int:
        return self.count(x.shape, w.shape)

    def with_bias(self, inputs: tuple[str | None, ...], bias: str) -> tuple[str | None, ...] | None:
        """The inputs with a bias over the last axis of the output added; None where there is one already."""
        return None if len(inputs) > 2 and inputs[2] is not None else (*inputs[:2], bias)

    def fold_affine(self, weight: Array, bias: Array | None, scale: Array, shift: Array) -> tuple[Array, Array]:
        """Weights and bias of y * scale + shift, per output channel; computed in float64 and rounded once.

        Args:
            weight, bias: the parameters; scale, shift: [OC], any float dtype.
        """
        return fold_last_axis(weight, bias, scale, shift)

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        shape = node.shape(0)
        if len(shape) not in (3, 4):
            raise UnsupportedError(f"convolution over {len(shape) - 2} spatial axes; one and two are supported")
        if not node.is_constant(1):
            raise UnsupportedError("the weights are computed by the model; they must be an initializer")
        kernel = node.shape(1)[2:]
        given = node.attribute("kernel_shape")
        require(len(kernel) == len(shape) - 2, f"weights {list(node.shape(1))} do not fit an input {list(shape)}")
        require(not given or tuple(given) == kernel, "kernel_shape contradicts the shape of the weights")
        strides, dilations, before, after = _window_from_onnx(node, shape[2:], kernel)
        spatial = range(2, len(shape))
        weight = node.parameter(1, permutation=(*spatial, 1, 0))
        bias = node.parameter(2) if node.has(2) else None
        self = cls(strides, dilations, before, after, int(node.attribute("group", 1)))
        inputs = (node.channels_last(0), weight) + ((bias,) if bias is not None else ())
        return (node.emit_channels_last(0, node.apply(self, *inputs)[0]),)


@op
@dataclass(frozen=True)
class ConvGradInput(Convolution):
    """dy [N, output sizes..., OC], w [taps..., IC / groups, OC] -> dx [N, sizes..., IC].

    Attributes:
        sizes: spatial sizes of the input of the convolution.
    """

    sizes: Shape = ()

    def infer(self, dy: TensorType, w: TensorType) -> TensorType:
        x = TensorType((dy.shape[0], *self.sizes, w.shape[-2] * self.groups))
        self.check(x, w)
        expected = (x.shape[0], *self.output_sizes(self.sizes, w.shape[:-2]), w.shape[-1])
        require(dy == TensorType(expected), f"the gradient {dy} does not have the shape {list(expected)} of the output")
        return x

    def reference(self, run: Run, dy: Array, w: Array) -> Array:
        channels, outputs = w.shape[-2], w.shape[-1] // self.groups
        taps = Taps.of_inputs(dy.shape[0], *self.axes(self.sizes, w.shape[:-2]))
        dx = sum_over_taps(
            dy.reshape(-1, self.groups, outputs),
            w.reshape(-1, channels, self.groups, outputs).transpose(0, 3, 2, 1),
            np.zeros((self.groups, channels), np.float32),
            taps,
            run.fma,
        )
        return dx.reshape(dy.shape[0], *self.sizes, self.groups * channels)

    def is_per_sample(self) -> bool:
        return True

    def lower(self, to: Lowering) -> None:
        self.call_kernel(to, "")

    def ends_in_gate(self, dy: TensorType, w: TensorType) -> bool:
        """Whether there is a kernel of both that pays: fewer channels do not fill its vectors."""
        return w.shape[-2] * self.groups >= PANEL

    def call_kernel(self, to: Lowering, part: str, *options: Argument) -> None:
        """Calls et_conv_grad_input<part>_f32 or et_depthwise_grad_input<part>_f32, with options behind the shape."""
        x, w = to.output_type().shape, to.input_type(1).shape
        kernel, shape, layout = self.lower_kernel(to, f"_grad_input{part}", x, w, backward=True)
        further = [to.read(index) for index in range(2, len(to.node.inputs))]
        to.call(kernel, shape, *options, to.read(0), to.read(1, layout), *further, to.write(0))

    def macs(self, dy: TensorType, w: TensorType) -> int:
        return self.count((dy.shape[0], *self.sizes, w.shape[-2] * self.groups), w.shape)


@op
@dataclass(frozen=True)
class ConvGradWeight(Convolution, WeightGradient):
    """x [N, spatial..., IC], dy [N, output sizes..., OC] -> dw [taps..., IC / groups, OC].

    Attributes:
        kernel: taps along each spatial axis.
    """

    kernel: Shape = ()

    def infer(self, x: TensorType, dy: TensorType) -> TensorType:
        w = TensorType((*self.kernel, x.shape[-1] // self.groups, dy.shape[-1]))
        self.check(x, w)
        expected = (x.shape[0], *self.output_sizes(x.shape[1:-1], self.kernel), dy.shape[-1])
        require(dy == TensorType(expected), f"the gradient {dy} does not have the shape {list(expected)} of the output")
        return w

    def reference(self, run: Run, x: Array, dy: Array) -> Array:
        channels, outputs = x.shape[-1] // self.groups, dy.shape[-1] // self.groups
        taps = Taps.of_outputs(x.shape[0], *self.axes(x.shape[1:-1], self.kernel))
        dw = sum_over_pixels(
            x.reshape(-1, self.groups, channels), dy.reshape(-1, self.groups, outputs), taps, run.fma
        )
        return dw.reshape(*self.kernel, channels, dy.shape[-1])

    def for_channels(self, count: int) -> tuple[Op, tuple[bool, ...]] | None:
        if self.groups == 1:
            return self, (False, True)
        return None

    def fused_with_states(self, update: Op) -> Op | None:
        return fused(self, update)

    def weight_kernel(self, to: Lowering, part: str) -> tuple[str, Argument, Layout | None]:
        return self.lower_kernel(to, part, to.input_type(0).shape, to.output_type().shape)

    def adds_samples(self) -> bool:
        return True

    def macs(self, x: TensorType, dy: TensorType) -> int:
        return self.count(x.shape, (*self.kernel, x.shape[-1] // self.groups, dy.shape[-1]))


def fold_last_axis(weight: Array, bias: Array | None, scale: Array, shift: Array) -> tuple[Array, Array]:
    """weight * scale and bias * scale + shift in float64, rounded once to float32; scale runs along the last axis."""
    wide = np.asarray(scale, np.float64)
    start = np.zeros(wide.shape) if bias is None else bias.astype(np.float64)
    folded = start * wide + np.asarray(shift, np.float64)
    return (weight.astype(np.float64) * wide).astype(np.float32), folded.astype(np.float32)


def _window_from_onnx(node: Import, sizes: Shape, kernel: Shape) -> tuple[Shape, Shape, Shape, Shape]:
    """strides, dilations and the padding before and after, auto_pad resolved."""
    ones, axes = (1,) * len(sizes), len(sizes)
    strides = tuple(int(n) for n in node.attribute("strides") or ones)
    dilations = tuple(int(n) for n in node.attribute("dilations") or ones)
    require(len(strides) == len(dilations) == axes, f"strides and dilations need {axes} entries each")
    auto_pad = node.attribute("auto_pad", "NOTSET") or "NOTSET"
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1 - size, 0)
            for size, taps, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True)
        ]
        less, more = tuple(n // 2 for n in totals), tuple(n - n // 2 for n in totals)
        return (strides, dilations, less, more) if auto_pad == "SAME_UPPER" else (strides, dilations, more, less)
    if auto_pad not in ("NOTSET", "VALID"):
        raise UnsupportedError(f"auto_pad {auto_pad} is unknown")
    pads = tuple(int(n) for n in node.attribute("pads") or ()) if auto_pad == "NOTSET" else ()
    pads = pads or (0,) * (2 * axes)
    if len(pads) != 2 * axes or min(pads) < 0:
        raise UnsupportedError(f"pads {list(pads)}: {2 * axes} entries, none negative, are needed")
    return strides, dilations, pads[:axes], pads[axes:]
