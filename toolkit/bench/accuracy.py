"""Accuracy of a method on a data set: trained and tested in generated C on this PC, one seed at a time."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from toolkit.bench.recipes import Recipe, Stage
from toolkit.bench.sets import SETS, Split, read_split
from toolkit.ir import Array
from toolkit.pipeline import Options, compile_model
from toolkit.quant import parse_plan
from toolkit.sim.backend import open_backend
from toolkit.sim.recalibrate import recalibrate
from toolkit.sim.trainer import accuracy, train
from toolkit.train.codecs import parse_save
from toolkit.train.step import TrainingOptions

CALIBRATION_SAMPLES = 500


@dataclass(frozen=True)
class Job:
    """One number of the table: a recipe, a seed, a split."""

    data: str
    recipe: Recipe
    seed: int
    split: int
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """What a job gave.

    Attributes:
        accuracy: in percent.
    """

    data: str
    method: str
    model: str
    seed: int
    split: int
    accuracy: float
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def run(job: Job) -> Outcome:
    """Trains and tests.

    Weights are drawn and samples shuffled by the seed; stages hand their weights on as ONNX files.
    """
    from toolkit.zoo import build

    start = time.monotonic()
    data = read_split(job.data, job.folder, job.split)
    reached = 0.0
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "start.onnx"
        shape, classes = data.x.shape[1:], int(data.y.max()) + 1
        source.write_bytes(build(job.recipe.model, shape, classes, job.seed).SerializeToString())
        for number, stage in enumerate(job.recipe.stages):
            trained = Path(folder) / f"stage{number}.onnx"
            reached = _run_stage(stage, source, trained, data, job)
            source = trained
    seconds = round(time.monotonic() - start, 1)
    return Outcome(job.data, job.recipe.method, job.recipe.model, job.seed, job.split, 100 * reached, seconds)


def _run_stage(stage: Stage, source: Path, trained: Path, data: Split, job: Job) -> float:
    """The accuracy on the test samples after a stage; writes the trained model."""
    from toolkit.frontend.export import export_model

    samples = _calibration(data, job.seed)
    options = Options(
        train="all" if stage.epochs else "none",
        training=TrainingOptions(optimizer=stage.optimizer),
        batch=job.recipe.batch,
        name="model",
        quant=parse_plan(stage.quant),
        samples=lambda input_type: samples,
        save=parse_save(stage.save),
    )
    with open_backend(compile_model(source, options), "host") as backend:
        if stage.epochs:
            for _ in train(backend, data.x, data.y, stage.epochs, stage.learning_rate, stage.schedule, job.seed):
                pass
            if stage.recalibrate:
                recalibrate(backend, data.x, seed=job.seed)
            export_model(source, backend.compiled.model, backend.state(), trained)
        return accuracy(backend, data.test_x, data.test_y)


def _calibration(data: Split, seed: int) -> Array:
    chosen = np.random.default_rng(seed).permutation(len(data.x))[:CALIBRATION_SAMPLES]
    return data.x[chosen]


def jobs(data: str, recipes: Sequence[Recipe], seeds: int, folder: Path) -> list[Job]:
    """All jobs of a table, seed by seed, so that an interrupted run has whole rows first."""
    splits = range(SETS[data].splits)
    return [Job(data, recipe, seed, split, folder) for seed in range(seeds) for recipe in recipes for split in splits]


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        mean, deviation: percent, over seeds (each seed the mean over its splits); the deviation is 0 for one seed.
        gap: points below float32 on the same data; None where that was not measured.
    """

    data: str
    method: str
    model: str
    mean: float
    deviation: float
    gap: float | None
    bar: float | None
    seeds: int
    seconds: float


def rows(outcomes: Sequence[Outcome], recipes: Sequence[Recipe]) -> list[Row]:
    """The table, in the order of the recipes; methods without an outcome are left out."""
    table: list[Row] = []
    base: float | None = None
    for recipe in recipes:
        own = [outcome for outcome in outcomes if outcome.method == recipe.method]
        if not own:
            continue
        seeds = sorted({outcome.seed for outcome in own})
        means = [mean(outcome.accuracy for outcome in own if outcome.seed == seed) for seed in seeds]
        average = mean(means)
        base = average if recipe.method == "float32" else base
        table.append(
            Row(
                own[0].data,
                recipe.method,
                recipe.model,
                round(average, 2),
                round(stdev(means), 2) if len(means) > 1 else 0.0,
                None if base is None else round(base - average, 2) + 0.0,
                recipe.bar,
                len(seeds),
                round(mean(outcome.seconds for outcome in own), 1),
            )
        )
    return table


def markdown(table: Sequence[Row]) -> str:
    """The table for a README."""
    lines = ["| method | model | test %, mean | deviation | below float32 | bar |", "|---|---|---|---|---|---|"]
    for row in table:
        gap = "" if row.gap is None or row.method == "float32" else f"{row.gap:.2f}"
        bar = "" if row.bar is None else f"{row.bar:g}"
        cells = (row.method, row.model, f"{row.mean:.2f}", f"{row.deviation:.2f}", gap, bar)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
