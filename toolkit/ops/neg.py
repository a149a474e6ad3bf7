"""Neg: y = -x, exact: the sign bit is flipped, of NaN too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Arrays, Op, Run, op
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.elementwise import import_elementwise, lower_elementwise, same_type


@op
@dataclass(frozen=True)
class Neg(Op):
    """y = -x; float32, any shape."""

    onnx = ("Neg",)
    elementwise = True
    smooth = True

    def infer(self, x: TensorType) -> TensorType:
        return same_type(x)

    def reference(self, run: Run, x: Array) -> Arrays:
        return -x

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (back.apply(Neg(), dy),)

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_neg_f32")

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        return import_elementwise(node, cls())
