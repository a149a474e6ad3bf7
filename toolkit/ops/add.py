"""Add: y = a + b with broadcasting, one rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codegen.program import Argument
from toolkit.ir import Array, TensorType
from toolkit.ops.base import Arrays, Op, Run, op
from toolkit.ops.broadcasting import broadcast_type, import_binary, lower_binary
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.elementwise import lower_elementwise
from toolkit.ops.kernel_forms import RECTIFY


@op
@dataclass(frozen=True)
class Add(Op):
    """y = a + b; float32, any shapes that broadcast."""

    onnx = ("Add",)
    broadcasts = True
    smooth = True
    relu_form = RECTIFY

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        return broadcast_type(a, b)

    def reference(self, run: Run, a: Array, b: Array) -> Arrays:
        return a + b

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return tuple(dy if back.needs(index) else None for index in range(2))

    def lower(self, to: Lowering) -> None:
        lower_binary(to, "add")

    def ends_in_relu(self, a: TensorType, b: TensorType) -> bool:
        """Whether there is a kernel of both: for equal shapes."""
        return a.shape == b.shape

    def ends_in_gate(self, *inputs: TensorType | None) -> bool:
        """Whether there is a kernel of both: for equal shapes."""
        return inputs[0] == inputs[1]

    def call_kernel(self, to: Lowering, part: str, *options: Argument) -> None:
        """Calls et_add<part>_f32 for equal shapes, with options behind the count."""
        lower_elementwise(to, f"et_add{part}_f32", *options)

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        return import_binary(node, cls())
