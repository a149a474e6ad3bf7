"""Div: y = a / b with broadcasting, the correctly rounded IEEE quotient (numerics N3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Arrays, Op, Run, op
from toolkit.ops.broadcasting import broadcast_type, import_binary, lower_binary
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.mul import Mul
from toolkit.ops.neg import Neg


@op
@dataclass(frozen=True)
class Div(Op):
    """y = a / b; float32, any shapes that broadcast."""

    onnx = ("Div",)
    broadcasts = True
    smooth = True

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        return broadcast_type(a, b)

    def reference(self, run: Run, a: Array, b: Array) -> Arrays:
        return a / b

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        """da = dy / b;  db = -((da) * y), which saves a division where both are wanted."""
        quotient = back.apply(Div(), dy, back.input(1))
        da = quotient if back.needs(0) else None
        db = back.apply(Neg(), back.apply(Mul(), quotient, back.output())) if back.needs(1) else None
        return (da, db)

    def lower(self, to: Lowering) -> None:
        lower_binary(to, "div")

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        return import_binary(node, cls())
