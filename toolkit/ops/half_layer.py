"""HalfLayer: a convolution or dense layer on binary16 or bfloat16 (numerics N6), and its gradients.

    input, output      numbers of 16 bits, uint16; bias float32
    weights            float32, rounded to the format as they are read; or already in the format, uint16
    accumulate         float32 (default): the sums of Conv and Dense on the values, in their order, then one rounding.
                       native (binary16 only): every multiply-add rounds to binary16, from the rounded bias (or 0)
    gradients          dy arrives times `scale` in the format; dx and dw are the sums of the float32 rules divided by
                       `scale`; dw is rounded to the format before that, dx only if accumulation is native. Where dy is
                       in the format before the layer sees it, dx stays so, times `scale`

The operands are decoded a piece at a time: no whole tensor is ever kept as float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from codegen.program import Argument, Table
from toolkit.ir import Array, TensorType
from toolkit.numerics import madd
from toolkit.numerics.half import from_half, half_products, round_half, to_half
from toolkit.ops.base import Arrays, Op, Run, StepAborted, op, require
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.conv import Conv, ConvGradInput, ConvGradWeight
from toolkit.ops.dense import Dense, DenseGradInput, DenseGradWeight
from toolkit.ops.geometry import ConvGeometry, conv_shape_fields
from toolkit.ops.half_codes import ToHalf
from toolkit.ops.kernel_forms import RECTIFY, Way, half_forms
from toolkit.ops.loss_scale import LOSS_SCALE, ScaledToHalf, Unscale
from toolkit.ops.native_maps import NativeSumRows
from toolkit.ops.sgd import Sgd
from toolkit.ops.stored_sgd import StoredSgd
from toolkit.ops.sum_to import SumTo
from toolkit.ops.taps import Taps

Shape = tuple[int, ...]
_POINT = Conv((1, 1), (1, 1), (0, 0), (0, 0))
_BLOCK = 1024  # float32 that are decoded at once for each sample, unless that is fewer than _LEAST channels
_LEAST = 4
_PANEL = 16


@dataclass(frozen=True)
class Half(Op):
    """What the layer and its gradients share.

    Attributes:
        layer: Conv or Dense: shapes, and the order of the sums.
        format: fp16 or bf16.
        native: sums of binary16.
        scale: of gradients, a power of two.
    """

    layer: Conv | Dense
    format: str
    native: bool = False
    scale: float = 1.0

    def __post_init__(self) -> None:
        require(self.format == "fp16" or not self.native, "only binary16 has arithmetic of its own")

    def weights(self, w: Array) -> Array:
        """The values that the layer computes with."""
        return round_half(w, self.format) if w.dtype == np.float32 else from_half(w, self.format)

    def values(self, x: Array) -> Array:
        """Of numbers in the format."""
        return from_half(x, self.format)

    def conv(self, x: Shape, w: Shape) -> tuple[Conv, Shape, Shape]:
        """The layer as a convolution, and the shapes of input and weights; samples of a dense layer are pixels."""
        if isinstance(self.layer, Conv):
            return self.layer, x, w
        return _POINT, (1, 1, *x), (1, 1, *w)

    def taps(self, x: Shape, w: Shape, inputs: bool = False) -> Taps:
        """Which pixels meet."""
        conv, x, w = self.conv(x, w)
        rows, columns = conv.axes(x[1:-1], w[:-2])
        return (Taps.of_inputs if inputs else Taps.of_outputs)(x[0], rows, columns)

    def call(
        self, to: Lowering, part: str, x: Shape, w: Shape, *arguments: Argument, stored: bool = False,
        before: tuple[Argument, ...] = (),
    ) -> None:  # fmt: skip
        """Calls a kernel of et_half_conv.h, et_half_depthwise.h, et_half_native.h or et_half_native_weight.h.

        Args:
            part: the name of the kernel behind the kind of layer.
            before: arguments between the structs and the tensors.
        """
        conv, x, w = self.conv(x, w)
        geometry = conv.geometry(x, w)
        kind = "native" if self.native else "depthwise" if geometry.depthwise else "conv"
        sizes = {"native": self.native_sizes, "depthwise": self.depthwise_sizes, "conv": self.conv_sizes}
        block, scratch = sizes[kind](x, w)
        packs = kind == "native" and scratch > 0
        if packs and (_is_vector(geometry) or (stored and part in ("", "_relu"))):
            scratch = 0  # weights are read where they are
        fields: dict[str, int | float | Table] = {
            field: value if isinstance(value, int) else Table("et_segment", value)
            for field, value in conv_shape_fields(geometry, True, True).items()
        }
        options: dict[str, int | float | Table] = {
            "bfloat16": int(self.format == "bf16"), "stored": int(stored), "block": block, "unscale": 1 / self.scale,
        }
        shape, form = to.struct("et_conv_shape", fields, "shape"), to.struct("et_half_form", options, "form")
        if self.native:
            way: Way = "weight" if "weight" in part or "update" in part else "input" if "grad" in part else "forward"
            to.ask_for(*half_forms(geometry, way, stored or "stored" in part))
        work = (to.scratch(4 * scratch),) if scratch else (to.constant("NULL", "void *"),) if packs else ()
        to.call(f"et_half_{kind}{part}", shape, form, *before, *arguments, *work)

    def pixels(self, x: Shape, w: Shape) -> tuple[int, int]:
        """Inputs and outputs of one sample, of the shapes of a convolution."""
        conv = self.layer if isinstance(self.layer, Conv) else _POINT
        return prod(x[1:-1]), prod(conv.output_sizes(x[1:-1], w[:-2]))

    def native_sizes(self, x: Shape, w: Shape) -> tuple[int, int]:
        """Columns of weights that are packed together, and float32 of scratch, of a kernel of et_half_native.h."""
        raise NotImplementedError

    def conv_sizes(self, x: Shape, w: Shape) -> tuple[int, int]:
        """Channels that are decoded together, and float32 of scratch, of a kernel of et_half_conv.h."""
        raise NotImplementedError

    def depthwise_sizes(self, x: Shape, w: Shape) -> tuple[int, int]:
        """The same of et_half_depthwise.h."""
        each = sum(self.pixels(x, w)) + prod(w[:-2])
        block = _fitting(each, w[-1], x[0])
        return block, block * each


@op
@dataclass(frozen=True)
class HalfLayer(Half):
    """x uint16, w float32 or uint16, bias float32 or None -> y uint16; shapes as for the layer.

    Attributes:
        start, growth: of a scale that adapts itself (toolkit.ops.loss_scale), if growth is not 0; `scale` is 1 then.
    """

    start: float = 1.0
    growth: int = 0

    bias_inputs = (2,)
    relu_form = RECTIFY

    def infer(self, x: TensorType, w: TensorType, bias: TensorType | None = None) -> TensorType:
        require(x.dtype == "uint16" and w.dtype in ("uint16", "float32"), f"{x} and {w} are not in 16 bits")
        y = self.layer.infer(TensorType(x.shape), TensorType(w.shape), bias)
        return TensorType(y.shape, "uint16")

    def reference(self, run: Run, x: Array, w: Array, bias: Array | None = None) -> Array:
        values, weights = self.values(x), self.weights(w)
        if not self.native:
            return to_half(self.layer.reference(run, values, weights, bias), self.format)
        groups, outputs = _groups(self.layer), w.shape[-1]
        start = np.zeros(outputs, np.float32) if bias is None else round_half(bias, "fp16")
        y = _native_over_taps(
            values.reshape(-1, groups, x.shape[-1] // groups),
            weights.reshape(-1, w.shape[-2], groups, outputs // groups),
            start.reshape(groups, -1),
            self.taps(x.shape, w.shape),
        )
        return to_half(y, "fp16").reshape(self.infer(*_types(x, w)).shape)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        x, w = back.input(0), back.input(1)
        dx = dw = db = None
        assert dy is not None
        halves = back.type(dy).dtype == "uint16"
        if len(back.node.inputs) > 2 and back.needs(2):
            sum_to = NativeSumRows(1 / self.scale) if halves else SumTo(back.type(back.input(2)).shape)
            db = back.apply(sum_to, dy)
        if back.needs(0) or back.needs(1):
            state = back.state(LOSS_SCALE, np.array([self.start, 0], np.float32)) if self.growth else None
            g = dy if halves else back.apply(*((ScaledToHalf(), dy, state) if state else (self._rounding(), dy)))
            arguments = (self.layer, self.format, self.native, self.scale)
            if back.needs(0):
                dx = back.apply(HalfGradInput(*arguments, back.type(x).shape, halves), g, w)
                dx = back.apply(Unscale(), dx, state) if state else dx
            if back.needs(1):
                dw = back.apply(HalfGradWeight(*arguments, back.type(w).shape), x, g)
                dw = back.apply(Unscale(), dw, state) if state else dw
        return (dx, dw, db)[: len(back.node.inputs)]

    def _rounding(self) -> ToHalf:
        return ToHalf(self.format, self.scale)

    def lower(self, to: Lowering) -> None:
        self.call_kernel(to, "")

    def ends_in_relu(self, *inputs: TensorType | None) -> bool:
        """Whether there is a kernel of both."""
        return self.native

    def call_kernel(self, to: Lowering, part: str, *options: Argument) -> None:
        """Calls the kernel of the layer, with options behind the structs."""
        x, w = to.input_type(0), to.input_type(1)
        tensors = (to.read(0), to.read(1), to.read(2), to.write(0))
        self.call(to, part, x.shape, w.shape, *tensors, stored=w.dtype == "uint16", before=options)

    def native_sizes(self, x: Shape, w: Shape) -> tuple[int, int]:
        return _packed(prod(w[:-1]), w[-1] // _groups(self.layer))

    def conv_sizes(self, x: Shape, w: Shape) -> tuple[int, int]:
        sources, results = self.pixels(x, w)
        rows, outputs = prod(w[:-1]), w[-1] // _groups(self.layer)
        block = _fitting(rows + results, min(outputs, _PANEL), x[0])
        return block, sources * w[-2] + block * (rows + results)

    def macs(self, x: TensorType, w: TensorType, bias: TensorType | None = None) -> int:
        return self.layer.macs(x, w)

    def with_bias(self, inputs: tuple[str | None, ...], bias: str) -> tuple[str | None, ...] | None:
        """None: a bias that is added to rounded outputs is not one that sums start from."""
        return None


@op
@dataclass(frozen=True)
class HalfGradInput(Half):
    """dy uint16 (times scale), w float32 or uint16 -> dx float32 [shape]; or uint16, times scale.

    Attributes:
        halves: whether dx is uint16; sums are native then.
    """

    shape: Shape = ()
    halves: bool = False

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType, w: TensorType) -> TensorType:
        require(dy.dtype == "uint16" and w.dtype in ("uint16", "float32"), f"{dy} and {w} are not in 16 bits")
        expected = self.layer.infer(TensorType(self.shape), TensorType(w.shape)).shape
        require(dy.shape == expected, f"the gradient {dy} does not have the shape {list(expected)}")
        require(self.native or not self.halves, "sums of float32 give a gradient of float32")
        return TensorType(self.shape, "uint16" if self.halves else "float32")

    def reference(self, run: Run, dy: Array, w: Array) -> Array:
        g, weights = self.values(dy), self.weights(w)
        back = np.float32(1 / self.scale)
        if self.native:
            groups, outputs = _groups(self.layer), w.shape[-1]
            dx = _native_over_taps(
                g.reshape(-1, groups, outputs // groups),
                weights.reshape(-1, w.shape[-2], groups, outputs // groups).transpose(0, 3, 2, 1),
                np.zeros((groups, w.shape[-2]), np.float32),
                self.taps(self.shape, w.shape, inputs=True),
            )
            return to_half(dx, "fp16").reshape(self.shape) if self.halves else dx.reshape(self.shape) * back
        if isinstance(self.layer, Dense):
            return DenseGradInput().reference(run, g, weights) * back
        inner = ConvGradInput(*_attributes(self.layer), self.shape[1:-1])
        return inner.reference(run, g, weights) * back

    def lower(self, to: Lowering) -> None:
        w = to.input_type(1)
        tensors = (to.read(0), to.read(1), to.write(0))
        part = "_grad_halves" if self.halves else "_grad_input"
        self.call(to, part, self.shape, w.shape, *tensors, stored=w.dtype == "uint16")

    def native_sizes(self, x: Shape, w: Shape) -> tuple[int, int]:
        return _packed(prod(w[:-2]) * (w[-1] // _groups(self.layer)), w[-2])

    def conv_sizes(self, x: Shape, w: Shape) -> tuple[int, int]:
        sources, results = self.pixels(x, w)
        rows = prod(w[:-2]) * (w[-1] // _groups(self.layer))
        block = _fitting(rows + sources, w[-2], x[0])
        return block, results * (w[-1] // _groups(self.layer)) + block * (rows + sources)

    def macs(self, dy: TensorType, w: TensorType) -> int:
        return self.layer.macs(TensorType(self.shape), w)


@op
@dataclass(frozen=True)
class HalfGradWeight(Half):
    """x uint16, dy uint16 (times scale) -> dw float32 [shape]."""

    shape: Shape = ()

    no_gradient = "second derivatives are not used"

    def infer(self, x: TensorType, dy: TensorType) -> TensorType:
        require(x.dtype == dy.dtype == "uint16", f"{x} and {dy} are not in 16 bits")
        expected = self.layer.infer(TensorType(x.shape), TensorType(self.shape)).shape
        require(dy.shape == expected, f"the gradient {dy} does not have the shape {list(expected)}")
        return TensorType(self.shape)

    def reference(self, run: Run, x: Array, dy: Array) -> Array:
        values, g = self.values(x), self.values(dy)
        if self.native:
            groups = _groups(self.layer)
            dw = _native_over_pixels(
                values.reshape(-1, groups, x.shape[-1] // groups),
                g.reshape(-1, groups, dy.shape[-1] // groups),
                self.taps(x.shape, self.shape),
            ).reshape(self.shape)
        elif isinstance(self.layer, Dense):
            dw = DenseGradWeight().reference(run, values, g)
        else:
            dw = ConvGradWeight(*_attributes(self.layer), self.shape[:-2]).reference(run, values, g)
        return round_half(dw, self.format) * np.float32(1 / self.scale)

    def fused_update(self, update: Op) -> Op | None:
        if isinstance(update, StoredSgd):
            return HalfStoredSgd(self, update) if update.format.name == self.format else None
        return HalfSgd(self, update.weight_decay) if isinstance(update, Sgd) and not update.momentum else None

    def native_sizes(self, x: Shape, w: Shape) -> tuple[int, int]:
        return 1, 0

    def conv_sizes(self, x: Shape, w: Shape) -> tuple[int, int]:
        sources, results = (x[0] * pixels for pixels in self.pixels(x, w))
        panel = min(w[-1] // _groups(self.layer), _PANEL)
        each = prod(w[:-2]) * panel + sources
        block = _fitting(each, w[-2], x[0])
        return block, block * each + results * panel

    def depthwise_sizes(self, x: Shape, w: Shape) -> tuple[int, int]:
        each = x[0] * sum(self.pixels(x, w)) + prod(w[:-2])
        block = _fitting(each, w[-1], x[0])
        return block, block * each

    def lower(self, to: Lowering) -> None:
        tensors = (to.read(0), to.read(1), to.write(0))
        self.call(to, "_grad_weight", to.input_type(0).shape, self.shape, *tensors)

    def macs(self, x: TensorType, dy: TensorType) -> int:
        return self.layer.macs(x, TensorType(self.shape))


@op
@dataclass(frozen=True)
class HalfSgd(Op):
    """(x, dy, w float32, learning_rate scalar) -> w': HalfGradWeight and plain SGD at once, as SgdOfGradient has it."""

    gradient_op: HalfGradWeight
    weight_decay: float = 0.0

    no_gradient = "it is the optimizer"

    def infer(self, x: TensorType, dy: TensorType, w: TensorType, learning_rate: TensorType) -> TensorType:
        require(learning_rate == TensorType(()), "the learning rate is a float32 scalar")
        require(self.gradient_op.infer(x, dy) == w, f"the gradient is not of the type {w} of the weight")
        return w

    def reference(self, run: Run, x: Array, dy: Array, w: Array, learning_rate: Array) -> Arrays:
        (dw,) = self.gradient_op.run(run, x, dy)
        finite = np.isfinite(dw)
        g = np.where(finite, dw, np.float32(0))
        g = madd(np.float32(self.weight_decay), w, g, run.fma) if self.weight_decay else g
        updated = np.where(finite, madd(-learning_rate, g, w, run.fma), w)
        if not finite.all():
            raise StepAborted("ET_NONFINITE_GRADIENT", (updated,))
        return updated

    def lower(self, to: Lowering) -> None:
        op, x = self.gradient_op, to.input_type(0).shape
        scalars = (to.read(3), to.real(self.weight_decay))
        tensors = (to.read(0), to.read(1), to.write(0, in_place=(2,)))
        op.call(to, "_update", x, op.shape, *tensors, before=scalars)

    def macs(self, x: TensorType, dy: TensorType, *others: Any) -> int:
        return self.gradient_op.macs(x, dy)


@op
@dataclass(frozen=True)
class HalfStoredSgd(Op):
    """(x, dy, stored uint16, learning_rate, seed, step scalars) -> stored': HalfGradWeight and StoredSgd at once.

    Element by element the bits of the two; where a gradient is not finite the weight stays and the others are updated.
    """

    gradient_op: HalfGradWeight
    update: StoredSgd

    no_gradient = "it is the optimizer"

    def infer(
        self, x: TensorType, dy: TensorType, stored: TensorType, rate: TensorType, seed: TensorType, step: TensorType
    ) -> TensorType:
        return self.update.infer(stored, self.gradient_op.infer(x, dy), rate, seed, step)

    def reference(
        self, run: Run, x: Array, dy: Array, stored: Array, rate: Array, seed: Array, step: Array
    ) -> Arrays:
        (dw,) = self.gradient_op.run(run, x, dy)
        finite = np.isfinite(dw)
        g = np.where(finite, dw, np.float32(0))
        updated = np.where(finite, self.update.reference(run, stored, g, rate, seed, step), stored)
        if not finite.all():
            raise StepAborted("ET_NONFINITE_GRADIENT", (updated,))
        return updated

    def lower(self, to: Lowering) -> None:
        op, x = self.gradient_op, to.input_type(0).shape
        scalars = (self.update.options(to), to.read(3), to.read(4), to.read(5))
        tensors = (to.read(0), to.read(1), to.write(0, in_place=(2,)))
        op.call(to, "_update_stored", x, op.shape, *tensors, before=scalars)

    def macs(self, x: TensorType, dy: TensorType, *others: Any) -> int:
        return self.gradient_op.macs(x, dy)


def _fitting(each: int, most: int, batch: int) -> int:
    """How many channels of `each` float32 are decoded together: scratch grows with the batch, as activations do."""
    return min(most, max(_LEAST, _BLOCK * batch // each))


def _packed(rows: int, columns: int) -> tuple[int, int]:
    """Columns of `rows` weights in 16 bits that are packed together, a multiple of _LEAST, and float32 for them."""
    block = min(columns, _PANEL, max(_LEAST, 2 * _BLOCK // rows // _LEAST * _LEAST))
    return block, (rows * block + 1) // 2


def _is_vector(g: ConvGeometry) -> bool:
    """Whether a layer has one pixel, one tap and one group, as et_half_native.c has it."""
    sizes = {g.batch, g.height, g.width, g.out_height, g.out_width, g.kernel_h, g.kernel_w, g.groups}
    return sizes == {1} and g.pad_top == g.pad_left == 0


def _groups(layer: Conv | Dense) -> int:
    return layer.groups if isinstance(layer, Conv) else 1


def _attributes(conv: Conv) -> tuple[Shape, Shape, Shape, Shape, int]:
    return conv.strides, conv.dilations, conv.before, conv.after, conv.groups


def _types(x: Array, w: Array) -> tuple[TensorType, TensorType]:
    return TensorType(x.shape, str(x.dtype)), TensorType(w.shape, str(w.dtype))


def _native_over_taps(source: Array, weights: Array, start: Array, taps: Taps) -> Array:
    """`sum_over_taps` in binary16: source [pixels, groups, channels], weights [taps, channels, groups, outputs]."""
    channels = weights.shape[1]
    gathered = source[taps.index]  # [taps, pixels, groups, channels]
    a = np.moveaxis(gathered, -1, 1).reshape(-1, *gathered.shape[1:3], 1)
    b = weights.reshape(-1, 1, *weights.shape[2:])
    mask = None if taps.valid.all() else np.repeat(taps.valid, channels, axis=0)[:, :, None, None]
    shape = (*gathered.shape[1:3], weights.shape[3])
    return half_products(np.broadcast_to(start, shape), a, b, mask)


def _native_over_pixels(source: Array, gradient: Array, taps: Taps) -> Array:
    """`sum_over_pixels` in binary16 -> [taps, channels, groups, outputs]."""
    gathered = source[taps.index.T]  # [pixels, taps, groups, channels]
    mask = None if taps.valid.all() else taps.valid.T[:, :, None, None, None]
    start = np.zeros((*gathered.shape[1:], gradient.shape[2]), np.float32)
    dw = half_products(start, gathered[..., None], gradient[:, None, :, None, :], mask)
    return dw.transpose(0, 2, 1, 3)
