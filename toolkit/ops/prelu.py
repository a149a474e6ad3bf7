"""PRelu: y = x where x > 0, else slope * x, with a trainable slope that broadcasts to x; one rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.broadcasting import broadcast_shape, broadcast_struct, broadcast_type, lower_binary
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.elementwise import lower_elementwise, same_type


@op
@dataclass(frozen=True)
class PRelu(Op):
    """x float32 [...], slope float32 broadcasting to x: [C] for one slope per channel, channels last."""

    onnx = ("PRelu",)
    broadcasts = True

    def infer(self, x: TensorType, slope: TensorType) -> TensorType:
        require(
            broadcast_shape(x.shape, slope.shape) == x.shape,
            f"the slope {slope} of PRelu does not broadcast to its input {x}",
        )
        return broadcast_type(x, slope)

    def reference(self, run: Run, x: Array, slope: Array) -> Array:
        return np.where(x > 0, x, x * slope)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        x = back.input(0)
        dx = back.apply(PReluGradInput(), dy, x, back.input(1)) if back.needs(0) else None
        slope = back.apply(PReluGradSlope(), dy, x) if back.needs(1) else None
        return (dx, slope)

    def lower(self, to: Lowering) -> None:
        lower_binary(to, "prelu")

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        if node.opset < 7 and len(node.shape(1)) == 1:  # then a vector is one slope per channel
            return (node.emit_channels_last(0, node.apply(cls(), node.channels_last(0), node.parameter(1))[0]),)
        (x, slope), order = node.common(0, 1)
        return (node.emit(0, node.apply(cls(), x, slope)[0], order),)


@op
@dataclass(frozen=True)
class PReluGradInput(Op):
    """dx = dy where x > 0, else dy * slope; slope broadcasts to x."""

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType, x: TensorType, slope: TensorType) -> TensorType:
        return same_type(dy, x)

    def reference(self, run: Run, dy: Array, x: Array, slope: Array) -> Array:
        return np.where(x > 0, dy, dy * slope)

    def lower(self, to: Lowering) -> None:
        x, slope = to.input_type(1).shape, to.input_type(2).shape
        to.call(
            "et_prelu_grad_input_f32",
            broadcast_struct(to, x, x, slope), to.read(0), to.read(1), to.read(2), to.write(0, in_place=(0, 1)),
        )


@op
@dataclass(frozen=True)
class PReluGradSlope(Op):
    """Each element's share of the slope's gradient: 0 where x > 0, else dy * x. SumTo adds up the shares."""

    no_gradient = "second derivatives are not used"
    elementwise = True

    def infer(self, dy: TensorType, x: TensorType) -> TensorType:
        return same_type(dy, x)

    def reference(self, run: Run, dy: Array, x: Array) -> Array:
        return np.where(x > 0, np.float32(0), dy * x)

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_prelu_grad_slope_f32")
