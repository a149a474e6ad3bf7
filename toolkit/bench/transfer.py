"""Accuracy against training RAM: a model that knows one task is trained on the board for another, scheme by scheme.

Each model is trained once for a seed on the old samples, in batches on this PC, and kept. Every way of training then
starts from it: the C that a board would run takes the new samples one at a time with plain SGD, for the same few
epochs, with the running statistics of batch normalizations. It does so at each learning rate of the task; held samples
choose one, and the test samples are looked at with that one alone. `auto` is the search of `plan --train auto`, which
sees the samples to train on and the held ones, and never those for the test.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Container, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codegen.board import load_board
from toolkit.bench.transfer_tasks import FROZEN_CODES, TASKS, Allowance, Parts, Task, row_name
from toolkit.data import Dataset
from toolkit.errors import UserError
from toolkit.fit.candidates import Candidate
from toolkit.fit.probe import ProbeSettings
from toolkit.fit.search import Known, Limits, Search
from toolkit.pipeline import Compiled, Options, compile_model, load
from toolkit.quant import parse_plan
from toolkit.report.memory import Budget
from toolkit.sim.backend import open_backend
from toolkit.sim.trainer import NoFiniteLossError, accuracy, train
from toolkit.train.step import TrainingOptions

# Of a search: so many are trained for as long as the rows of the table.
_FINALS = 3
_OLD_BATCH, _OLD_OPTIMIZER = 64, "sgd:momentum=0.9,weight_decay=1e-4"


@dataclass(frozen=True)
class Job:
    """What one process does at a time: one way of training, or the searches of a task.

    Attributes:
        way: None for searches.
        allowances: what the searches may use.
        folder: of the data sets.
        work: where models that know the old task are kept.
    """

    task: str
    way: Candidate | None
    allowances: tuple[Allowance, ...]
    seed: int
    folder: Path
    work: Path

    @property
    def entries(self) -> tuple[str, ...]:
        """The rows of the table that it gives a number for."""
        return (row_name(self.way),) if self.way is not None else tuple(each.words for each in self.allowances)


@dataclass(frozen=True)
class Outcome:
    """One number of the table.

    Attributes:
        entry: a way of training, or what auto was allowed.
        trained: the way of training; for auto what it has chosen. "" where the model cannot be trained so.
        weights, arena: bytes of RAM; the stack and the link come on top, the same for all.
        accuracy: in percent, on the test samples.
        rate: the learning rate that was chosen.
        why: why the model cannot be trained so.
    """

    task: str
    entry: str
    seed: int
    trained: str = ""
    weights: int = 0
    arena: int = 0
    macs: int = 0
    accuracy: float = 0.0
    rate: float = 0.0
    seconds: float = 0.0
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def jobs(
    task: str, seed: int, folder: Path, work: Path, only: Sequence[str] = (), done: Container[str] = ()
) -> list[Job]:
    """What is to do for a task and a seed.

    Args:
        only: rows of the table; empty for all.
        done: rows that have an outcome.

    Raises:
        UserError: there is no such row.
    """
    given = TASKS[task]
    known = [*map(row_name, given.ways), *(each.words for each in given.allowances)]
    unknown = sorted(set(only) - set(known))
    if unknown:
        raise UserError(f"{task} has no row '{unknown[0]}'", where="--only", hint=f"one of: {'; '.join(known)}")
    wanted = {row for row in only or known if row not in done}
    found = [Job(task, way, (), seed, folder, work) for way in given.ways if row_name(way) in wanted]
    allowances = tuple(each for each in given.allowances if each.words in wanted)
    return found + ([Job(task, None, allowances, seed, folder, work)] if allowances else [])


def prepare(job: Job) -> Path:
    """The model that the job starts from."""
    return pretrained(TASKS[job.task], TASKS[job.task].read(job.folder, job.seed).old, job.seed, job.work)


def run(job: Job) -> list[Outcome]:
    """Trains and tests; one outcome for each entry of the job."""
    task = TASKS[job.task]
    parts = task.read(job.folder, job.seed)
    source = pretrained(task, parts.old, job.seed, job.work)
    if job.way is None:
        known = {codes: Known() for codes in (False, True)}
        return [_found(task, parts, source, job.seed, each, known[each.codes]) for each in job.allowances]
    return [_trained(task, parts, source, job.seed, job.way, row_name(job.way), time.monotonic())]


def pretrained(task: Task, old: Dataset, seed: int, work: Path) -> Path:
    """The model that knows the old task, as an ONNX file; made where it is not there yet."""
    from toolkit.frontend.export import export_model
    from toolkit.zoo import build

    recipe = (task.pretrained, task.model, task.old_epochs, task.old_rate, _OLD_BATCH, _OLD_OPTIMIZER, seed)
    digest = hashlib.sha256(repr(recipe).encode() + old.x.tobytes() + old.y.tobytes()).hexdigest()
    path = work / f"{task.model}-{seed}-{digest[:12]}.onnx"
    if path.is_file():
        return path
    work.mkdir(parents=True, exist_ok=True)
    shape, classes = old.x.shape[1:], int(old.y.max()) + 1
    with tempfile.TemporaryDirectory(dir=work) as folder:
        start, trained = Path(folder) / "start.onnx", Path(folder) / "trained.onnx"
        start.write_bytes(build(task.pretrained, shape, classes, seed).SerializeToString())
        options = Options("all", TrainingOptions(optimizer=_OLD_OPTIMIZER), batch=_OLD_BATCH, name="model")
        with open_backend(compile_model(start, options), "host") as backend:
            for _ in train(backend, old.x, old.y, task.old_epochs, task.old_rate, "cosine", seed):
                pass
            export_model(start, backend.compiled.model, backend.state(), trained)
        if task.pretrained != task.model:
            trained = _folded(trained, task.model, shape, classes)
        os.replace(trained, path)
    return path


def _folded(trained: Path, model: str, shape: tuple[int, ...], classes: int) -> Path:
    """The model without normalizations that computes what the trained one does."""
    from toolkit.frontend.export import export_model
    from toolkit.zoo import build

    bare = trained.with_name("bare.onnx")
    bare.write_bytes(build(model, shape, classes, 0).SerializeToString())
    graph, full = load(bare, Options()), compile_model(trained, Options()).model
    values = {own: full.data[other] for own, other in zip(graph.parameters(), full.parameters(), strict=True)}
    folded = trained.with_name("folded.onnx")
    export_model(bare, graph, values, folded)
    return folded


def _options(parts: Parts, quant: str = "none") -> Options:
    """Of a board: one sample at a time."""
    training = TrainingOptions(optimizer="sgd", batch_norm="running")
    samples = parts.train.x
    return Options("none", training, batch=1, name="model", quant=parse_plan(quant), samples=lambda _: samples)


def _found(task: Task, parts: Parts, source: Path, seed: int, allowance: Allowance, known: Known) -> Outcome:
    start = time.monotonic()
    held = len(parts.held)
    settings = ProbeSettings(task.probe, held, task.rates, seed, task.probe_epochs, _FINALS, task.epochs)
    limits = Limits(Budget(allowance.ram), arena=allowance.arena, seconds=float("inf"))
    search = Search(
        str(source), _options(parts, FROZEN_CODES if allowance.codes else "none"), load_board("host"), limits,
        parts.searched, settings, lambda *_: None, known=known,
    )  # fmt: skip
    return _trained(task, parts, source, seed, search.run().chosen.candidate, allowance.words, start)


def _trained(task: Task, parts: Parts, source: Path, seed: int, way: Candidate, entry: str, start: float) -> Outcome:
    try:
        compiled = compile_model(source, way.options(_options(parts)))
    except UserError as error:
        return Outcome(task.model, entry, seed, why=error.what)
    reached, rate = _best(task, parts, compiled, seed)
    program = compiled.program
    seconds = round(time.monotonic() - start, 1)
    macs = program.functions["train_step"].macs
    weights, arena = program.params_bytes, program.arena_bytes
    return Outcome(task.model, entry, seed, row_name(way), weights, arena, macs, 100 * reached, rate, seconds)


def _best(task: Task, parts: Parts, compiled: Compiled, seed: int) -> tuple[float, float]:
    """Accuracy on the test samples at the learning rate that does best on the held ones, and that rate."""
    best, reached, chosen = -1.0, 0.0, task.rates[0]
    with open_backend(compiled, "host") as backend:
        start = backend.state()
        for rate in task.rates:
            backend.set_state(start)
            backend.step = 0
            try:
                for _ in train(backend, parts.train.x, parts.train.y, task.epochs, rate, "cosine", seed):
                    pass
            except NoFiniteLossError:  # this rate is none for this scheme
                continue
            held = accuracy(backend, parts.held.x, parts.held.y)
            if held > best and all(np.isfinite(value).all() for value in backend.state().values()):
                best, reached, chosen = held, accuracy(backend, parts.test.x, parts.test.y), rate
    return reached, chosen
