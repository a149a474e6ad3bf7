"""Clip: y = min(max(x, minimum), maximum), as `v > minimum ? v : minimum`, then `v < maximum ? v : maximum`.

NaN compares false, so it gives the minimum (numerics N4), as in Relu; a minimum above the maximum gives the maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, UnsupportedError, op
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.elementwise import import_elementwise, lower_elementwise, same_type

_RELU6 = (0.0, 6.0)


@op
@dataclass(frozen=True)
class Clip(Op):
    """Any shape, float32.

    Attributes:
        minimum, maximum: rounded to float32; infinite where there is no bound.
    """

    minimum: float = -inf
    maximum: float = inf

    onnx = ("Clip",)
    elementwise = True

    def infer(self, x: TensorType) -> TensorType:
        return same_type(x)

    def reference(self, run: Run, x: Array) -> Array:
        return clip(x, self.minimum, self.maximum)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        """As PyTorch has it: clamp passes gradients at its bounds, ReLU6 does not.

        ONNX has one op for both; bounds of 0 and 6 are taken for ReLU6. That needs the output alone, which the next
        layer keeps anyway; clamp needs its input.
        """
        if (self.minimum, self.maximum) == _RELU6:
            above, below = (float(np.nextafter(np.float32(b), np.float32(3))) for b in _RELU6)
            return (back.apply(ClipGrad(above, below), dy, back.output()),)
        return (back.apply(ClipGrad(self.minimum, self.maximum), dy, back.input(0)),)

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_clip_f32", to.real(self.minimum), to.real(self.maximum))

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        """Attributes before opset 11, inputs from then on."""
        if node.opset < 11:
            minimum, maximum = float(node.attribute("min", -inf)), float(node.attribute("max", inf))
        else:
            minimum = float(node.value(1, "the minimum of Clip").item()) if node.has(1) else -inf
            maximum = float(node.value(2, "the maximum of Clip").item()) if node.has(2) else inf
        if np.isnan(minimum) or np.isnan(maximum):
            raise UnsupportedError("a bound of Clip is NaN")
        return import_elementwise(node, cls(minimum, maximum))


@op
@dataclass(frozen=True)
class ClipGrad(Op):
    """dx = dy where minimum <= x <= maximum, else 0 (for NaN too)."""

    minimum: float
    maximum: float

    no_gradient = "second derivatives are not used"
    elementwise = True

    def infer(self, dy: TensorType, x: TensorType) -> TensorType:
        return same_type(dy, x)

    def reference(self, run: Run, dy: Array, x: Array) -> Array:
        inside = (x >= np.float32(self.minimum)) & (x <= np.float32(self.maximum))
        return np.where(inside, dy, np.float32(0))

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_clip_grad_f32", to.real(self.minimum), to.real(self.maximum))


def clip(x: Array, minimum: float, maximum: float) -> Array:
    """The reference of Clip, for other ops that clip too."""
    low, high = np.float32(minimum), np.float32(maximum)
    above = np.where(x > low, x, low)
    return np.where(above < high, above, high)
