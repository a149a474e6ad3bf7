"""SoftmaxCrossEntropy: the loss of a classifier, softmax included; the mean over the batch.

With x' = x - max and lse = log(sum of exp(x')), as in Softmax and LogSoftmax:
    class numbers  loss of a sample = lse - x'[label]
    soft labels    loss of a sample = the sum over c of label[c] * (lse - x'[c]): multiply-adds, ascending, from 0
The losses of the samples are added in ascending order from 0 and multiplied by (float32) (1 / N).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codegen.program import reading
from toolkit.ir import Array, TensorType
from toolkit.numerics import exp, log, madd
from toolkit.ops.base import Arrays, Op, Run, StepAborted, Types, op, require
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.mul import Mul
from toolkit.ops.softmax import less_maximum, sum_ascending


@op
@dataclass(frozen=True)
class SoftmaxCrossEntropy(Op):
    """(logits float32 [N, C], labels) -> (loss float32 (), probabilities float32 [N, C]).

    Labels are int32 [N], class numbers, or float32 [N, C], probabilities that sum to 1. A class number outside [0, C)
    ends the step with ET_BAD_LABEL before anything is written.
    """

    smooth = True

    def infer(self, logits: TensorType, labels: TensorType) -> Types:
        check_classes(self, logits, labels)
        return (TensorType(()), logits)

    def reference(self, run: Run, logits: Array, labels: Array) -> Arrays:
        if labels.dtype == np.int32:
            check_labels(labels, logits.shape[1])
        shifted = less_maximum(logits[:, :, None])
        e = exp(shifted)
        total = sum_ascending(e)
        losses = (log(total) - shifted)[:, :, 0]
        if labels.dtype == np.int32:
            samples = np.take_along_axis(losses, labels[:, None].astype(np.int64), axis=1)[:, 0]
        else:
            samples = np.zeros(len(logits), np.float32)
            for c in range(logits.shape[1]):
                samples = madd(labels[:, c], losses[:, c], samples, run.fma)
        mean = sum_ascending(samples[None, :, None]).reshape(()) * np.float32(1 / len(logits))
        return np.asarray(mean), (e / total)[:, :, 0]

    def gradient(self, back: Backward, dloss: str | None, dprobabilities: str | None) -> Sequence[str | None]:
        """`dloss` None stands for 1. The probabilities are for reading only: their gradient is not used."""
        gradient = back.apply(SoftmaxCrossEntropyGrad(), back.output(1), back.input(1))
        return (gradient if dloss is None else back.apply(Mul(), gradient, dloss), None)

    def lower(self, to: Lowering) -> None:
        logits, labels = to.input_type(0), to.input_type(1)
        classes = labels.dtype == "int32"
        kernel = "et_cross_entropy_f32" if classes else "et_soft_cross_entropy_f32"
        to.call(
            kernel,
            to.size(logits.shape[0]), to.size(logits.shape[1]), to.real(1 / logits.shape[0]),
            to.read(0), to.read(1), to.write(0), to.write(1, in_place=(0,) if classes else ()),
        )

    def adds_samples(self) -> bool:
        return True

    def sample_outputs(self) -> tuple[int, ...]:
        return (1,)

    def lower_part(self, to: Lowering) -> None:
        (n, classes), labels = to.input_type(0).shape, to.input_type(1)
        known = labels.dtype == "int32"
        total = to.kept(())
        to.call(
            "et_cross_entropy_on_f32" if known else "et_soft_cross_entropy_on_f32",
            to.size(n), to.size(classes), to.by_part("false", "true"), to.read(0), to.read(1), total,
            to.write(1, in_place=(0,) if known else ()),
        )  # fmt: skip
        to.call_last("et_scale_f32", to.size(1), to.real(1 / (n * to.parts)), reading(total), to.write(0))


@op
@dataclass(frozen=True)
class SoftmaxCrossEntropyGrad(Op):
    """(probabilities [N, C], labels) -> (probabilities - target) * (float32) (1 / N); target: one-hot or soft label."""

    no_gradient = "second derivatives are not used"

    def infer(self, probabilities: TensorType, labels: TensorType) -> TensorType:
        return check_classes(self, probabilities, labels)

    def reference(self, run: Run, probabilities: Array, labels: Array) -> Array:
        target = labels if labels.dtype == np.float32 else one_hot(labels, probabilities.shape[1])
        return (probabilities - target) * np.float32(1 / len(probabilities))

    def is_per_sample(self) -> bool:
        return True

    def lower(self, to: Lowering) -> None:
        probabilities, labels = to.input_type(0), to.input_type(1)
        kernel = "et_cross_entropy_grad_f32" if labels.dtype == "int32" else "et_soft_cross_entropy_grad_f32"
        n, classes = probabilities.shape
        to.call(
            kernel,
            to.size(n), to.size(classes), to.real(1 / (n * to.parts)), to.read(0), to.read(1),
            to.write(0, in_place=(0,)),
        )


def check_classes(op: Op, scores: TensorType, labels: TensorType) -> TensorType:
    """The type of the scores of a classification loss. Raises ShapeError for labels of neither kind."""
    require(len(scores.shape) == 2 and scores.dtype == "float32", f"{op.name} needs float32 [N, C], not {scores}")
    require(
        labels in (TensorType(scores.shape[:1], "int32"), scores),
        f"the labels for {scores} are int32[{scores.shape[0]}] or {scores}, not {labels}",
    )
    return scores


def check_labels(labels: Array, classes: int) -> None:
    """Raises StepAborted where a class number is outside [0, classes)."""
    if np.any((labels < 0) | (labels >= classes)):
        raise StepAborted("ET_BAD_LABEL")


def one_hot(labels: Array, classes: int) -> Array:
    """int32 [N] -> float32 [N, C]. Raises StepAborted for a class number outside [0, C)."""
    check_labels(labels, classes)
    hot: Array = labels[:, None] == np.arange(classes)
    return hot.astype(np.float32)
