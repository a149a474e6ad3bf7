"""A probe: how far a short training of one candidate lowers the loss, on samples that it does not train on.

The C of the candidate runs on this PC, batch by batch as the board would, at a learning rate that falls to zero: at one
that stays, the noise of the last steps would hide what was learnt. The loss is measured by the training step
itself at a learning rate of zero, which changes no weight: so any loss and any scheme is measured alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from toolkit.data import Dataset
from toolkit.pipeline import Compiled
from toolkit.sim.backend import Backend, open_backend
from toolkit.sim.trainer import NoFiniteLossError, batch_size, inward, label, train


@dataclass(frozen=True)
class ProbeSettings:
    """What all probes of a search have in common.

    Attributes:
        samples: that each trains on, in an order that the seed says; None for all that are not held.
        held: that the loss is measured on.
        rates: learning rates; the best one counts for each candidate.
        epochs: how often each trains on the samples.
        finals: how many of the best are measured once more, on all samples but the held ones; 0 for none.
        final_epochs: how often these train on them.
    """

    samples: int | None = 256
    held: int = 128
    rates: tuple[float, ...] = (0.01,)
    seed: int = 0
    epochs: int = 1
    finals: int = 0
    final_epochs: int = 1

    def of_finals(self) -> ProbeSettings:
        """Of the same search, for those that are measured on all samples."""
        return replace(self, samples=None, epochs=self.final_epochs)


@dataclass(frozen=True)
class Measured:
    """Mean losses on the held samples; after is the best over the learning rates."""

    before: float
    after: float
    rate: float

    @property
    def gain(self) -> float:
        """By how much the loss fell; never below zero, for one can also not train."""
        return max(self.before - self.after, 0.0)


def probe(compiled: Compiled, data: Dataset, settings: ProbeSettings, compiler: str | None = None) -> Measured:
    """Measures one candidate."""
    learned, held = _parts(data, settings)
    with open_backend(compiled, "host", None, compiler) as backend:
        start = backend.state()
        before = _loss(backend, held)
        best = Measured(before, before, settings.rates[0])
        for rate in settings.rates:
            backend.set_state(start)
            backend.step = 0
            try:
                for _ in train(backend, learned.x, learned.y, settings.epochs, rate, seed=settings.seed):
                    pass
            except NoFiniteLossError:
                continue
            after = _loss(backend, held)
            if after < best.after:
                best = Measured(before, after, rate)
    return best


def _parts(data: Dataset, settings: ProbeSettings) -> tuple[Dataset, Dataset]:
    """Samples to learn from and to measure on, apart from each other."""
    order = np.random.default_rng(settings.seed).permutation(len(data))
    held = min(settings.held, len(data) // 3)
    end = None if settings.samples is None else held + settings.samples
    return data.take(order[held:end]), data.take(order[:held])


def _loss(backend: Backend, data: Dataset) -> float:
    """Mean over whole batches; infinite where one is not finite."""
    batch = batch_size(backend)
    backend.learning_rate = 0.0
    losses = []
    for start in range(0, len(data) - batch + 1, batch):
        part = slice(start, start + batch)
        _, loss = backend.train_step([inward(backend, data.x[part])], label(backend, data.y[part]))
        losses.append(float(loss))
    mean = float(np.mean(losses))
    return mean if np.isfinite(mean) else float("inf")
