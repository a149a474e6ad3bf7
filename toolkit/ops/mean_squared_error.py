"""MeanSquaredError: the mean over all elements of the squared difference.

loss = (sum of d * d: multiply-adds, ascending index, from 0) * (float32) (1 / count), with d = prediction - target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codegen.program import reading
from toolkit.ir import Array, TensorType
from toolkit.numerics import madd
from toolkit.ops.base import Op, Run, op
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.elementwise import same_type
from toolkit.ops.mul import Mul


@op
@dataclass(frozen=True)
class MeanSquaredError(Op):
    """(prediction, target: float32 of one shape) -> loss float32 ()."""

    smooth = True

    def infer(self, prediction: TensorType, target: TensorType) -> TensorType:
        same_type(prediction, target)
        return TensorType(())

    def reference(self, run: Run, prediction: Array, target: Array) -> Array:
        return sum_of_squares(prediction - target, run) * np.float32(1 / prediction.size)

    def gradient(self, back: Backward, dloss: str | None) -> Sequence[str | None]:
        """`dloss` None stands for 1. The target is a label and gets no gradient."""
        gradient = back.apply(MeanSquaredErrorGrad(), back.input(0), back.input(1))
        return (gradient if dloss is None else back.apply(Mul(), gradient, dloss), None)

    def lower(self, to: Lowering) -> None:
        count = to.input_type(0).size
        to.call(
            "et_mean_squared_error_f32", to.size(count), to.real(1 / count), to.read(0), to.read(1), to.write(0)
        )

    def adds_samples(self) -> bool:
        return True

    def lower_part(self, to: Lowering) -> None:
        count, total = to.input_type(0).size, to.kept(())
        to.call(
            "et_mean_squared_error_on_f32",
            to.size(count), to.by_part("false", "true"), to.read(0), to.read(1), total,
        )  # fmt: skip
        to.call_last("et_scale_f32", to.size(1), to.real(1 / (count * to.parts)), reading(total), to.write(0))


@op
@dataclass(frozen=True)
class MeanSquaredErrorGrad(Op):
    """(prediction - target) * (float32) (2 / count)."""

    no_gradient = "second derivatives are not used"

    def infer(self, prediction: TensorType, target: TensorType) -> TensorType:
        return same_type(prediction, target)

    def reference(self, run: Run, prediction: Array, target: Array) -> Array:
        return (prediction - target) * np.float32(2 / prediction.size)

    def is_per_sample(self) -> bool:
        return True

    def lower(self, to: Lowering) -> None:
        count = to.input_type(0).size
        to.call(
            "et_mean_squared_error_grad_f32",
            to.size(count), to.real(2 / (count * to.parts)), to.read(0), to.read(1), to.write(0, in_place=(0,)),
        )


def sum_of_squares(x: Array, run: Run) -> Array:
    """Scalar: madd(x[i], x[i], sum) in ascending row-major order, from 0."""
    total = np.zeros((), np.float32)
    for value in x.reshape(-1):
        total = madd(value, value, total, run.fma)
    return total
