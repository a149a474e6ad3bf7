"""Losses: which op computes each, what labels it takes, and which final activation it includes already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from toolkit.errors import UserError
from toolkit.ir import TensorType
from toolkit.ops.base import Op
from toolkit.ops.log_softmax import LogSoftmax
from toolkit.ops.mean_squared_error import MeanSquaredError
from toolkit.ops.softmax import Softmax
from toolkit.ops.softmax_cross_entropy import SoftmaxCrossEntropy
from toolkit.ops.squared_hinge import SquaredHinge


@dataclass(frozen=True)
class Loss:
    """A loss.

    Attributes:
        op: of (output, label) -> (loss, ...).
        label: type of the labels for the type of the model's output.
        includes: final activations that the loss contains: the model is trained on what goes into them.
        counts_classes: whether labels are class numbers, so that accuracy has a meaning.
    """

    op: Op
    label: Callable[[TensorType], TensorType]
    includes: tuple[type[Op], ...] = ()
    counts_classes: bool = False


def _class_numbers(output: TensorType) -> TensorType:
    return TensorType(output.shape[:1], "int32")


def _like_output(output: TensorType) -> TensorType:
    return output


LOSSES: dict[str, Loss] = {
    "cross-entropy": Loss(SoftmaxCrossEntropy(), _class_numbers, (Softmax, LogSoftmax), True),
    "soft-cross-entropy": Loss(SoftmaxCrossEntropy(), _like_output, (Softmax, LogSoftmax)),
    "mse": Loss(MeanSquaredError(), _like_output),
    "squared-hinge": Loss(SquaredHinge(), _class_numbers, (), True),
}


def find_loss(name: str) -> Loss:
    """The loss of this name.

    Raises:
        UserError: there is none.
    """
    if name not in LOSSES:
        near = get_close_matches(name, LOSSES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(LOSSES)}"
        raise UserError(f"unknown loss '{name}'", where="--loss", hint=hint)
    return LOSSES[name]
