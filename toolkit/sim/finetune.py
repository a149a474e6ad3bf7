"""Training on a board from the PC: data over the cable, states in its flash, on after resets and interruptions."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from toolkit.errors import UserError
from toolkit.ir import Array
from toolkit.link.messages import BoardReset
from toolkit.sim.backend import STATUS, Backend
from toolkit.sim.linked import LinkedBackend
from toolkit.sim.parity import differing_bits
from toolkit.sim.trainer import NOT_FINITE, Schedule, accuracy, batch_size, inward, label

# (steps done, steps in all, mean loss of the last steps)
Progress = Callable[[int, int, float], None]

_RESETS = 20  # without a state saved in between: then the board does not stay up


@dataclass(frozen=True)
class Plan:
    """What is to be learnt, in which order, and at what rate.

    Attributes:
        x: float32 [N, ...] in the ONNX layout of the model's input.
        y: labels: int32 [N], or float32 [N, ...] in the layout of the output.
        save_every: steps between two states in flash; one is saved at the end of each epoch too.
    """

    x: Array
    y: Array
    epochs: int
    learning_rate: float
    schedule: str = "constant"
    seed: int = 0
    save_every: int = 500

    def identity(self) -> int:
        """A number for this run: a state saved with it can be gone on from."""
        numbers = repr((self.epochs, self.learning_rate, self.schedule, self.seed)).encode()
        return zlib.crc32(numbers, zlib.crc32(self.y.tobytes(), zlib.crc32(np.ascontiguousarray(self.x).tobytes())))

    def order(self, epoch: int) -> Array:
        """Indices of the samples in the order of an epoch: the same however often it is asked for."""
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.x))


@dataclass
class Tally:
    """What came of it.

    Attributes:
        done: training calls that the board's state stands for.
        losses: the last ones, finite.
        skipped: steps dropped because a loss or gradient was not finite.
        resets: how often the board had started over.
        differing_bits, compared_bits: between board and shadow.
    """

    done: int = 0
    losses: list[float] = field(default_factory=list)
    skipped: int = 0
    resets: int = 0
    differing_bits: int = 0
    compared_bits: int = 0
    seconds: float = 0.0

    @property
    def loss(self) -> float:
        """Mean of the last."""
        return float(np.mean(self.losses)) if self.losses else float("nan")


@dataclass(frozen=True)
class _Checkpoint:
    """A state that can be gone on from; `state` only where the board itself cannot keep it."""

    done: int
    step: int
    state: dict[str, Array] | None
    shadow: dict[str, Array] | None


class Tuner:
    """One board, trained step by step.

    Args:
        shadow: does the same steps; what differs is counted.
        restart: begin anew even where the board holds a state of this run.

    Raises:
        UserError: fewer samples than one update needs.
    """

    def __init__(
        self, backend: LinkedBackend, plan: Plan, shadow: Backend | None = None, restart: bool = False
    ) -> None:
        self.backend, self.plan, self.shadow, self.tally = backend, plan, shadow, Tally()
        self._batch, self._accumulate = batch_size(backend), backend.compiled.options.training.accumulate
        self.per_epoch = len(plan.x) // (self._batch * self._accumulate) * self._accumulate
        if self.per_epoch == 0:
            least = self._batch * self._accumulate
            raise UserError(f"{len(plan.x)} samples are fewer than one update needs, which is {least}", where="--data")
        self.total = plan.epochs * self.per_epoch
        self._rates = Schedule(plan.schedule, plan.learning_rate, self.total)
        self._rate: float | None = None
        self._identity = plan.identity()
        self._checkpoint = _Checkpoint(0, 0, None, None)
        if restart or not self._resumed():
            backend.init()
            backend.seed = plan.seed
            self.save()
        elif shadow is not None:
            shadow.set_state(backend.state())
            shadow.step = backend.step
        if shadow is not None:
            shadow.seed = plan.seed
        self.resumed_at = self.tally.done

    def run(self, until: int, stop: Callable[[], bool], progress: Progress | None = None) -> bool:
        """Trains until so many calls are done; False where it was stopped before. A state is saved in either case."""
        start = time.monotonic()
        resets = 0
        stopped = reset = False
        while (self.tally.done < until and not stopped) or reset:
            try:
                if reset:
                    self._recover()
                    reset = False
                stopped = stop()
                if not stopped:
                    self._step(self.tally.done)
                    self.tally.done += 1
                if stopped or self.tally.done % self.plan.save_every == 0 or self.tally.done == until:
                    self.save()
                    resets = 0
            except BoardReset:
                resets += 1
                if resets > _RESETS:
                    raise
                reset = True
            if progress is not None:
                progress(self.tally.done, self.total, self.tally.loss)
        self.tally.seconds += time.monotonic() - start
        return not stopped

    def save(self) -> None:
        """Keeps the state: in the board's flash, or on this PC for a board that has none."""
        backend, stores = self.backend, self.backend.session.board.stores
        self._compare_states()
        if stores:
            saved = backend.session.save(self._identity << 32 | self.tally.done)
            if saved.status:
                raise UserError(f"the board cannot save: {STATUS[saved.status]}", where=backend.name)
        state = None if stores else backend.state()
        shadow = None if self.shadow is None else self.shadow.state()
        self._checkpoint = _Checkpoint(self.tally.done, backend.step, state, shadow)

    def _resumed(self) -> bool:
        """Whether the board's flash holds a state of this run, which it then has loaded."""
        if not self.backend.session.board.stores:
            return False
        found = self.backend.session.load()
        if found.status or found.mark >> 32 != self._identity:
            return False
        self.tally.done = found.mark & 0xFFFFFFFF
        return True

    def _recover(self) -> None:
        """After a reset: the last state, wherever it was kept, and the shadow's of the same moment."""
        self.tally.resets += 1
        self._rate = None
        self.backend.session.reopen()
        kept = self._checkpoint
        if not self._resumed():
            if kept.state is None:
                raise UserError("the board has lost its saved state", where=self.backend.name)
            self.backend.set_state(kept.state)
            self.backend.seed, self.backend.step = self.plan.seed, kept.step
            self.tally.done = kept.done
        # A save whose answer was lost may be newer than the last one known here: the shadow is of that moment.
        if self.shadow is not None and self.tally.done == kept.done and kept.shadow is not None:
            self.shadow.set_state(kept.shadow)
            self.shadow.step = kept.step

    def _step(self, number: int) -> None:
        epoch, within = divmod(number, self.per_epoch)
        chosen = self.plan.order(epoch)[within * self._batch : (within + 1) * self._batch]
        inputs = [inward(self.backend, self.plan.x[chosen])]
        wanted = label(self.backend, self.plan.y[chosen])
        rate = self._rates.rate(number)
        on = [backend for backend in (self.backend, self.shadow) if backend is not None]
        results = []
        for backend in on:
            if rate != self._rate:
                backend.learning_rate = rate
            status, loss = backend.train_step(inputs, wanted)
            if status == "ET_OK" and self._accumulate > 1 and (number + 1) % self._accumulate == 0:
                status = backend.update()
            results.append((status, loss))
        self._rate = rate
        status, loss = results[0]
        if status not in ("ET_OK", *NOT_FINITE):
            raise UserError(f"the board refuses a training step: {status}", where=self.backend.name)
        self.tally.skipped += status != "ET_OK"
        if np.isfinite(loss):
            self.tally.losses = [*self.tally.losses[-self.per_epoch + 1 :], float(loss)]
        for other_status, other in results[1:]:
            self._count(np.array([loss]), np.array([other]))
            self.tally.differing_bits += status != other_status

    def _compare_states(self) -> None:
        if self.shadow is not None:
            wanted = self.shadow.state()
            for name, value in self.backend.state().items():
                self._count(wanted[name], value)

    def _count(self, first: Array, second: Array) -> None:
        self.tally.compared_bits += 8 * first.nbytes
        self.tally.differing_bits += int(differing_bits(first, second).sum())


def board_accuracy(
    backend: LinkedBackend, x: Array, y: Array, progress: Callable[[int, int], None] | None = None
) -> float:
    """Fraction of samples whose largest output is that of the label, counted on the board.

    A last batch that is not full is counted here.
    """
    batch = batch_size(backend)
    whole = len(x) // batch * batch
    correct = 0.0
    for start in range(0, whole, batch):
        part = slice(start, start + batch)
        counted = backend.evaluate([inward(backend, x[part])], label(backend, y[part]))
        if counted.status:
            raise UserError(f"the board cannot evaluate: {STATUS[counted.status]}", where=backend.name)
        correct += counted.correct * batch / max(counted.samples, 1)
        if progress is not None:
            progress(start + batch, len(x))
    if whole < len(x):
        correct += accuracy(backend, x[whole:], y[whole:]) * (len(x) - whole)
    return correct / len(x)
