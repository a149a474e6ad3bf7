"""SquaredHinge: the mean over all elements of max(0, 1 - target * score)^2, with targets of +1 and -1.

h = madd(-target, score, 1) where that is > 0, else 0 (for NaN too);
loss = (sum of h * h: multiply-adds, ascending index, from 0) * (float32) (1 / (N * C)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import madd
from toolkit.ops.base import Op, Run, op
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.mean_squared_error import sum_of_squares
from toolkit.ops.mul import Mul
from toolkit.ops.softmax_cross_entropy import check_classes, one_hot


@op
@dataclass(frozen=True)
class SquaredHinge(Op):
    """(scores float32 [N, C], labels) -> loss float32 ().

    Labels are int32 [N], class numbers (target +1 for that class, -1 for the others), or float32 [N, C], the targets.
    A class number outside [0, C) ends the step with ET_BAD_LABEL before anything is written.
    """

    def infer(self, scores: TensorType, labels: TensorType) -> TensorType:
        check_classes(self, scores, labels)
        return TensorType(())

    def reference(self, run: Run, scores: Array, labels: Array) -> Array:
        return sum_of_squares(_hinge(run, scores, _targets(scores, labels)), run) * np.float32(1 / scores.size)

    def gradient(self, back: Backward, dloss: str | None) -> Sequence[str | None]:
        """`dloss` None stands for 1."""
        gradient = back.apply(SquaredHingeGrad(), back.input(0), back.input(1))
        return (gradient if dloss is None else back.apply(Mul(), gradient, dloss), None)

    def lower(self, to: Lowering) -> None:
        _lower(to, "squared_hinge", 1.0, ())


@op
@dataclass(frozen=True)
class SquaredHingeGrad(Op):
    """(h * target) * (float32) (-2 / (N * C))."""

    no_gradient = "second derivatives are not used"

    def infer(self, scores: TensorType, labels: TensorType) -> TensorType:
        return check_classes(self, scores, labels)

    def reference(self, run: Run, scores: Array, labels: Array) -> Array:
        target = _targets(scores, labels)
        return (_hinge(run, scores, target) * target) * np.float32(-2 / scores.size)

    def lower(self, to: Lowering) -> None:
        _lower(to, "squared_hinge_grad", -2.0, (0,))


def _targets(scores: Array, labels: Array) -> Array:
    if labels.dtype == np.float32:
        return labels
    return one_hot(labels, scores.shape[1]) * np.float32(2) - np.float32(1)


def _hinge(run: Run, scores: Array, target: Array) -> Array:
    margin = madd(-target, scores, np.float32(1), run.fma)
    return np.where(margin > 0, margin, np.float32(0))


def _lower(to: Lowering, name: str, numerator: float, in_place: tuple[int, ...]) -> None:
    scores = to.input_type(0)
    kind = "" if to.input_type(1).dtype == "int32" else "soft_"
    n, classes = scores.shape
    to.call(
        f"et_{kind}{name}_f32",
        to.size(n), to.size(classes), to.real(numerator / scores.size),
        to.read(0), to.read(1), to.write(0, in_place=in_place),
    )
