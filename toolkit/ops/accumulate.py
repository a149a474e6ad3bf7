"""Accumulate: adds a gradient to the sum of several training steps, a state the size of the weight."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Arrays, Op, Run, op
from toolkit.ops.contexts import Lowering
from toolkit.ops.elementwise import lower_elementwise, same_type


@op
@dataclass(frozen=True)
class Accumulate(Op):
    """accumulator + gradient, one rounding; the result replaces the accumulator in place."""

    no_gradient = "it is part of the optimizer"
    elementwise = True

    def infer(self, accumulator: TensorType, gradient: TensorType) -> TensorType:
        return same_type(accumulator, gradient)

    def reference(self, run: Run, accumulator: Array, gradient: Array) -> Arrays:
        return accumulator + gradient

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_add_f32")
