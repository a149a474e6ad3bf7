"""Identity: y is x, the same bytes under another name; no code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.elementwise import import_elementwise


@op
@dataclass(frozen=True)
class Identity(Op):
    """Any type."""

    onnx = ("Identity",)
    smooth = True

    def infer(self, x: TensorType) -> TensorType:
        return x

    def reference(self, run: Run, x: Array) -> Array:
        return x

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (dy,)

    def lower(self, to: Lowering) -> None:
        to.alias()

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        return import_elementwise(node, cls())
