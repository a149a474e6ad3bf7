"""Sub: y = a - b with broadcasting, one rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Arrays, Op, Run, op
from toolkit.ops.broadcasting import broadcast_type, import_binary, lower_binary
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.neg import Neg


@op
@dataclass(frozen=True)
class Sub(Op):
    """y = a - b; float32, any shapes that broadcast."""

    onnx = ("Sub",)
    broadcasts = True
    smooth = True

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        return broadcast_type(a, b)

    def reference(self, run: Run, a: Array, b: Array) -> Arrays:
        return a - b

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (dy if back.needs(0) else None, back.apply(Neg(), dy) if back.needs(1) else None)

    def lower(self, to: Lowering) -> None:
        lower_binary(to, "sub")

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        return import_binary(node, cls())
