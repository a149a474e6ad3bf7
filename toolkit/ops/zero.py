"""Zero: empties a state, such as a gradient accumulator after the update."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Arrays, Op, Run, op
from toolkit.ops.contexts import Lowering
from toolkit.ops.elementwise import same_type


@op
@dataclass(frozen=True)
class Zero(Op):
    """All +0 in the type of the input, whose values are not read, in the input's own memory where it is a state."""

    no_gradient = "it is part of the optimizer"
    elementwise = True

    def infer(self, state: TensorType) -> TensorType:
        return same_type(state)

    def reference(self, run: Run, state: Array) -> Arrays:
        return np.zeros_like(state)

    def lower(self, to: Lowering) -> None:
        to.call("et_zero_f32", to.size(to.output_type().size), to.write(0, to.layout(0), in_place=(0,)))
