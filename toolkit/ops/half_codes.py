"""ToHalf and FromHalf: tensors rounded to binary16 or bfloat16, kept as their bits, and their values again.

    codes = nearest number of the format to factor * x      the product is rounded to float32 first
    y     = value of the codes                              exact
Special values: toolkit.numerics.half.

Gradients of what is between the two are float32, or themselves in the format, times a loss scale ("native").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codegen.program import Zeros
from toolkit.ir import Array, TensorType
from toolkit.numerics.half import INFINITY, from_half, to_half
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.scale import Scale


@op
@dataclass(frozen=True)
class ToHalf(Op):
    """x float32 of any shape -> uint16 of that shape. The gradient is that of the codes; `factor` must be 1 then.

    Attributes:
        format: fp16 or bf16.
        factor: multiplies x.
        scale: of the gradient of the codes, where that is in the format.
    """

    format: str
    factor: float = 1.0
    scale: float = 1.0

    elementwise = True

    def infer(self, x: TensorType) -> TensorType:
        require(x.dtype == "float32", f"float32 is needed, not {x}")
        return TensorType(x.shape, "uint16")

    def reference(self, run: Run, x: Array) -> Array:
        return to_half(x * np.float32(self.factor), self.format)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        assert self.factor == 1.0 and dy is not None
        if back.type(dy).dtype == "float32":
            return (dy,)
        return (back.apply(Scale(1 / self.scale), back.apply(FromHalf(self.format), dy)),)

    def lower(self, to: Lowering) -> None:
        layout = to.layout(0)
        count = to.size(to.input_type(0).size)
        to.call(f"et_to_{self.format}_f32", count, to.real(self.factor), to.read(0, layout), to.write(0, layout))


@op
@dataclass(frozen=True)
class FromHalf(Op):
    """x uint16 of any shape -> float32 of that shape. The gradient of the values is that of what is stored.

    Attributes:
        scale: of the gradient of the codes, which is in the format then; 0 where it is float32.
    """

    format: str
    scale: float = 0.0

    elementwise = True

    def infer(self, x: TensorType) -> TensorType:
        require(x.dtype == "uint16", f"{x} is not stored as {self.format}")
        return TensorType(x.shape)

    def reference(self, run: Run, x: Array) -> Array:
        return from_half(x, self.format)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (back.apply(ToHalf(self.format, self.scale), dy) if self.scale else dy,)

    def lower(self, to: Lowering) -> None:
        layout = to.layout(0)
        count = to.size(to.input_type(0).size)
        to.call(f"et_from_{self.format}_f32", count, to.read(0, layout), to.write(0, layout))


@op
@dataclass(frozen=True)
class HalfReluGrad(Op):
    """(dy float32, y uint16 in the format) -> dx float32: dy where y > 0, else 0."""

    format: str

    no_gradient = "it is a gradient"
    elementwise = True

    def infer(self, dy: TensorType, y: TensorType) -> TensorType:
        require(dy.dtype == "float32" and y == TensorType(dy.shape, "uint16"), f"{dy} and {y} do not fit together")
        return dy

    def reference(self, run: Run, dy: Array, y: Array) -> Array:
        return np.where(from_half(y, self.format) > 0, dy, np.float32(0))

    def zeros(self) -> Zeros:
        return "gated"

    def lower(self, to: Lowering) -> None:
        layout = to.layout(0)
        infinity = to.constant(f"{INFINITY[self.format]}u", "uint16_t")
        operands = (to.read(0, layout), to.read(1, layout), to.write(0, layout, in_place=(0,)))
        to.call("et_relu_grad_half_f32", to.size(to.input_type(0).size), infinity, *operands)
