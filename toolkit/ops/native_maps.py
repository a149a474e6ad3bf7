"""What lies between layers of binary16 ("native"): ReLU, sums of tensors, means over pixels, sums over rows.

All on uint16 that hold binary16. Gradients are binary16 too, times the loss scale; those of parameters are float32
without it. Values and rounding: toolkit.numerics.half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from codegen.program import Argument, Zeros
from toolkit.ir import Array, TensorType
from toolkit.numerics.half import from_half, to_half
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.kernel_forms import RECTIFY

FORMAT = "fp16"


def require_halves(*types: TensorType) -> TensorType:
    """The common type of operands in binary16. Raises ShapeError where they differ, or are something else."""
    for other in types:
        require(other == types[0] and other.dtype == "uint16", f"{other} is not binary16, or not of one shape")
    return types[0]


def rows_of(x: TensorType) -> int:
    """Everything but the channels, which are the last axis."""
    return x.size // x.shape[-1]


def summed_rows(x: Array) -> Array:
    """float32 [..., rows, C] -> [..., C]: plain additions from 0, rows ascending."""
    total = np.zeros((*x.shape[:-2], x.shape[-1]), np.float32)
    for row in range(x.shape[-2]):
        total += x[..., row, :]
    return total


@op
@dataclass(frozen=True)
class NativeRelu(Op):
    """y = x where x > 0, else 0; NaN gives 0."""

    elementwise = True

    def infer(self, x: TensorType) -> TensorType:
        return require_halves(x)

    def reference(self, run: Run, x: Array) -> Array:
        return np.where(from_half(x, FORMAT) > 0, x, np.uint16(0))

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (back.apply(NativeReluGrad(), dy, back.output()),)

    def zeros(self) -> Zeros:
        return "half"

    def lower(self, to: Lowering) -> None:
        layout, count = to.layout(0), to.size(to.input_type(0).size)
        to.call("et_relu_fp16", count, to.read(0, layout), to.write(0, layout, in_place=(0,)))


@op
@dataclass(frozen=True)
class NativeReluGrad(Op):
    """(dy, y) -> dx: dy where y, an output of NativeRelu, is not +0, else 0."""

    no_gradient = "second derivatives are not used"
    elementwise = True

    def infer(self, dy: TensorType, y: TensorType) -> TensorType:
        return require_halves(dy, y)

    def reference(self, run: Run, dy: Array, y: Array) -> Array:
        return np.where(y != 0, dy, np.uint16(0))

    def zeros(self) -> Zeros:
        return "gated"

    def lower(self, to: Lowering) -> None:
        layout, count = to.layout(0), to.size(to.input_type(0).size)
        operands = (to.read(0, layout), to.read(1, layout), to.write(0, layout, in_place=(0, 1)))
        to.call("et_relu_grad_fp16", count, *operands)


@op
@dataclass(frozen=True)
class NativeAdd(Op):
    """y = a + b, rounded once; operands of one shape."""

    elementwise = True
    relu_form = RECTIFY

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        return require_halves(a, b)

    def reference(self, run: Run, a: Array, b: Array) -> Array:
        return to_half(from_half(a, FORMAT) + from_half(b, FORMAT), FORMAT)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return tuple(dy if back.needs(index) else None for index in range(2))

    def lower(self, to: Lowering) -> None:
        self.call_kernel(to, "")

    def ends_in_relu(self, *inputs: TensorType | None) -> bool:
        """Whether there is a kernel of both."""
        return True

    def call_kernel(self, to: Lowering, part: str, *options: Argument) -> None:
        """Calls et_add<part>_fp16, with options behind the count."""
        layout, count = to.layout(0), to.size(to.input_type(0).size)
        operands = (to.read(0, layout), to.read(1, layout), to.write(0, layout, in_place=(0, 1)))
        to.call(f"et_add{part}_fp16", count, *options, *operands)


@op
@dataclass(frozen=True)
class NativeSumRows(Op):
    """x [..., C] -> float32 [C]: the sum over rows in float32, ascending from 0, times `factor`: gradient of a bias."""

    factor: float

    no_gradient = "it only appears in gradients"

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(require_halves(x).shape[-1:])

    def reference(self, run: Run, x: Array) -> Array:
        return summed_rows(from_half(x, FORMAT).reshape(-1, x.shape[-1])) * np.float32(self.factor)

    def lower(self, to: Lowering) -> None:
        x = to.input_type(0)
        sizes = (to.size(rows_of(x)), to.size(x.shape[-1]))
        to.call("et_sum_rows_fp16", *sizes, to.real(self.factor), to.read(0), to.write(0))


@op
@dataclass(frozen=True)
class NativeMean(Op):
    """x [N, spatial..., C] -> [N, ones..., C]: the sum in float32, ascending from 0, times 1 / count, then rounded.

    Attributes:
        keepdims: whether the spatial axes stay, with size one.
    """

    keepdims: bool = True

    def infer(self, x: TensorType) -> TensorType:
        require(len(require_halves(x).shape) > 2, f"{x} has no spatial axes")
        ones = (1,) * (len(x.shape) - 2) if self.keepdims else ()
        return TensorType((x.shape[0], *ones, x.shape[-1]), "uint16")

    def reference(self, run: Run, x: Array) -> Array:
        count = prod(x.shape[1:-1])
        total = summed_rows(from_half(x, FORMAT).reshape(x.shape[0], count, x.shape[-1]))
        shape = self.infer(TensorType(x.shape, "uint16")).shape
        return to_half(total * (np.float32(1) / np.float32(count)), FORMAT).reshape(shape)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (back.apply(NativeMeanGrad(back.type(back.input(0)).shape), dy),)

    def lower(self, to: Lowering) -> None:
        x = to.input_type(0).shape
        sizes = (to.size(x[0]), to.size(prod(x[1:-1])), to.size(x[-1]))
        to.call("et_mean_rows_fp16", *sizes, to.read(0), to.write(0))


@op
@dataclass(frozen=True)
class NativeMeanGrad(Op):
    """dy -> dx [shape]: dy * (1 / count) for each pixel, rounded to float32 and then to binary16."""

    shape: tuple[int, ...]

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType) -> TensorType:
        require(require_halves(dy).size == self.shape[0] * self.shape[-1], f"{dy} is no mean of {list(self.shape)}")
        return TensorType(self.shape, "uint16")

    def reference(self, run: Run, dy: Array) -> Array:
        share = np.float32(1) / np.float32(prod(self.shape[1:-1]))
        part = to_half(from_half(dy, FORMAT) * share, FORMAT).reshape(self.shape[0], 1, self.shape[-1])
        spread = np.broadcast_to(part, (self.shape[0], prod(self.shape[1:-1]), self.shape[-1]))
        return spread.reshape(self.shape)

    def lower(self, to: Lowering) -> None:
        sizes = (to.size(self.shape[0]), to.size(prod(self.shape[1:-1])), to.size(self.shape[-1]))
        to.call("et_mean_rows_grad_fp16", *sizes, to.read(0), to.write(0))
