"""CheckFinite: ends the step where a value is infinite or NaN (numerics N8). What must not happen runs `after` it."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.ir import Array, TensorType
from toolkit.numerics import all_finite
from toolkit.ops.base import Arrays, Op, Run, StepAborted, Types, op
from toolkit.ops.contexts import Lowering
from toolkit.ops.elementwise import same_type


@op
@dataclass(frozen=True)
class CheckFinite(Op):
    """x float32 of any shape; no output.

    Attributes:
        status: name of the et_status that the step returns, such as "ET_NONFINITE_LOSS".
    """

    status: str

    no_gradient = "it has no output"
    elementwise = True

    def is_per_sample(self) -> bool:
        return False  # one status for all samples

    def infer(self, x: TensorType) -> Types:
        same_type(x)
        return ()

    def reference(self, run: Run, x: Array) -> Arrays:
        if not all_finite(x):
            raise StepAborted(self.status)
        return ()

    def lower(self, to: Lowering) -> None:
        status = to.constant(self.status, "et_status")
        to.call("et_check_finite_f32", to.size(to.input_type(0).size), to.read(0, to.layout(0)), status)
