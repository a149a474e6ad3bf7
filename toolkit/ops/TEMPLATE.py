"""Scale: y = factor * x. Copy this file to add an op: nothing else has to be touched.

An ONNX op that moves no data is a ViewOp with `seen_as` alone, as in flatten.py.

Say here what the op computes, to the rounding: which operations, in which order, and what NaN does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op
from toolkit.ops.contexts import Backward, Import, Lowering


@op
@dataclass(frozen=True)
class Scale(Op):
    """y = factor * x, one rounding; any shape, float32."""

    factor: float = 1.0  # attributes are the fields; validate them in __post_init__

    onnx = ("Scale",)  # the ONNX op types that this file imports
    elementwise = True  # any memory order will do
    smooth = True  # finite differences may test the gradient

    def infer(self, x: TensorType) -> TensorType:
        """Output types for input types; use `require(condition, message)` for what the user may get wrong."""
        return x

    def reference(self, run: Run, x: Array) -> Array:
        """The specification. The C must give these very bits; use toolkit.numerics for anything but + - * /."""
        return x * np.float32(self.factor)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        """One gradient per input; ask `back.needs(i)` before adding nodes for an input that is not trained."""
        return (back.apply(Scale(self.factor), dy),)

    def lower(self, to: Lowering) -> None:
        """Kernel calls, arguments in the order of the C prototype in runtime_c."""
        count = to.size(to.input_type(0).size)
        to.call("et_scale_f32", count, to.real(self.factor), to.read(0), to.write(0, in_place=(0,)))

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        """Reads attributes and says in which axis order the inputs are wanted."""
        x, order = node.stored(0)
        return (node.emit(0, node.apply(cls(float(node.attribute("factor", 1.0))), x)[0], order),)
