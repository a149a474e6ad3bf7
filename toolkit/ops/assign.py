"""Assign: the next value of a state is one that was computed elsewhere. A copy."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op
from toolkit.ops.contexts import Lowering


@op
@dataclass(frozen=True)
class Assign(Op):
    """Inputs: the state as it was, its next value. Output: the next value, in the state's own memory."""

    no_gradient = "only used for what is kept between steps"
    elementwise = True

    def infer(self, old: TensorType, value: TensorType) -> TensorType:
        return old

    def reference(self, run: Run, old: Array, value: Array) -> Array:
        return value

    def lower(self, to: Lowering) -> None:
        layout = to.layout(0)
        to.call("et_copy_f32", to.size(to.input_type(0).size), to.read(1, layout), to.write(0, layout, in_place=(0,)))
