"""The training loop: any backend, shuffled batches, a learning rate schedule, accuracy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from math import cos, pi
from typing import Any

import numpy as np

from toolkit.errors import UserError
from toolkit.ir import Array
from toolkit.pipeline import check_trainable
from toolkit.sim.backend import Backend

SCHEDULES = ("cosine", "linear", "constant")

NOT_FINITE = ("ET_NONFINITE_LOSS", "ET_NONFINITE_GRADIENT")

# (epoch from 1, steps done, steps in all, mean loss of the epoch so far)
Progress = Callable[[int, int, int, float], None]


class NoFiniteLossError(UserError):
    """No step of a whole epoch had a finite loss."""


@dataclass(frozen=True)
class Schedule:
    """A learning rate over the steps: `cosine` and `linear` fall to zero."""

    kind: str
    peak: float
    steps: int

    def rate(self, step: int) -> float:
        """The learning rate of a step, from 0."""
        left = 1.0 - step / max(self.steps, 1)
        if self.kind == "cosine":
            return self.peak * 0.5 * (1.0 + cos(pi * (1.0 - left)))
        return self.peak * left if self.kind == "linear" else self.peak


@dataclass(frozen=True)
class Epoch:
    """What one pass over the data gave.

    Attributes:
        loss: mean over the steps that had a finite one.
        accuracy: fraction on the samples for evaluation; None without any.
        skipped: steps dropped because a loss or gradient was not finite.
    """

    epoch: int
    steps: int
    loss: float
    accuracy: float | None
    learning_rate: float
    skipped: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For a line of the log."""
        return asdict(self)


def train(
    backend: Backend,
    x: Array,
    y: Array,
    epochs: int,
    learning_rate: float,
    schedule: str = "cosine",
    seed: int = 0,
    evaluate: Callable[[], float] | None = None,
    progress: Progress | None = None,
) -> Iterator[Epoch]:
    """Trains, and yields after each epoch.

    Samples beyond the last whole batch of an epoch wait for another shuffle. With accumulation, an update uses
    `accumulate` batches.

    Args:
        x: float32 [N, ...] in the ONNX layout of the model's input.
        y: labels: int32 [N], or float32 [N, ...] in the layout of the output.
        evaluate: gives the accuracy; called after each epoch.

    Raises:
        UserError: fewer samples than one update needs.
        NoFiniteLossError: no finite loss in a whole epoch.
    """
    compiled = backend.compiled
    check_trainable(compiled)
    batch, accumulate = batch_size(backend), compiled.options.training.accumulate
    per_epoch = len(x) // (batch * accumulate) * accumulate
    if per_epoch == 0:
        raise UserError(
            f"{len(x)} samples are fewer than one update needs, which is {batch * accumulate}",
            where="--batch",
            hint="a smaller --batch or --accumulate",
        )
    rates = Schedule(schedule, learning_rate, epochs * per_epoch)
    generator = np.random.default_rng(seed)
    backend.seed = seed
    for epoch in range(epochs):
        start = time.monotonic()
        order = generator.permutation(len(x))
        losses: list[float] = []
        skipped = 0
        for number in range(per_epoch):
            step = epoch * per_epoch + number
            chosen = order[number * batch : (number + 1) * batch]
            backend.learning_rate = rates.rate(step)
            status, loss = backend.train_step([inward(backend, x[chosen])], label(backend, y[chosen]))
            if status == "ET_OK" and accumulate > 1 and (number + 1) % accumulate == 0:
                status = backend.update()
            skipped += _is_skipped(status)
            if np.isfinite(loss):
                losses.append(float(loss))
            if progress is not None:
                progress(epoch + 1, step + 1, epochs * per_epoch, float(np.mean(losses)) if losses else float("nan"))
        if not losses:
            raise NoFiniteLossError("the loss was not finite in a whole epoch", where="training", hint="a lower --lr")
        accuracy = evaluate() if evaluate is not None else None
        rate, seconds = rates.rate(epoch * per_epoch), time.monotonic() - start
        yield Epoch(epoch + 1, per_epoch, float(np.mean(losses)), accuracy, rate, skipped, round(seconds, 3))


def predict(backend: Backend, x: Array, progress: Callable[[int, int], None] | None = None) -> Array:
    """Outputs for any number of samples, in the ONNX layout; the last batch is filled up.

    Args:
        x: float32 [N, ...] in the ONNX layout of the model's input.
    """
    batch = batch_size(backend)
    side = backend.compiled.model.interface[backend.compiled.model.outputs[0]]
    outputs = []
    for start in range(0, len(x), batch):
        part = x[start : start + batch]
        filled = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)])
        outputs.append(side.outward(backend.infer([inward(backend, filled)])[0])[: len(part)])
        if progress is not None:
            progress(min(start + batch, len(x)), len(x))
    return np.concatenate(outputs)


def accuracy(backend: Backend, x: Array, y: Array) -> float:
    """Fraction of samples whose largest output is that of the label (a class number, or a distribution)."""
    predicted = predict(backend, x).reshape(len(x), -1).argmax(axis=1)
    wanted = y if y.ndim == 1 else y.reshape(len(y), -1).argmax(axis=1)
    return float(np.mean(predicted == wanted))


def batch_size(backend: Backend) -> int:
    """Samples per call."""
    model = backend.compiled.model
    return model.interface[model.inputs[0]].shape[0]


def inward(backend: Backend, x: Array) -> Array:
    """A batch in the layout of the tensor inside."""
    model = backend.compiled.model
    return model.interface[model.inputs[0]].inward(x)


def label(backend: Backend, y: Array) -> Array:
    """Labels of a batch in the layout of the label inside."""
    port = backend.compiled.program.label
    assert port is not None
    if port.dtype != "float32":
        return np.ascontiguousarray(y, port.dtype).reshape(port.shape)
    model = backend.compiled.model
    side = model.interface[model.outputs[0]]
    if y.size != int(np.prod(side.shape)):
        raise UserError(
            f"targets are {list(y.shape[1:])} per sample; the model gives {list(side.shape[1:])}", where="labels"
        )
    return side.inward(y).astype(np.float32)


def _is_skipped(status: str) -> bool:
    if status in NOT_FINITE:
        return True
    if status != "ET_OK":
        raise AssertionError(f"the generated code refused a training step: {status}")
    return False
