"""`edgetrain bench transfer`: accuracy against training RAM, as a table and a picture."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit.cli.bench_runs import data_folder, read_kept, run_all, write_kept
from toolkit.cli.options import examples, json_option
from toolkit.cli.output import check_file, file_at_once, note, progress, result
from toolkit.errors import UserError

if TYPE_CHECKING:
    from toolkit.bench.transfer import Job, Outcome
    from toolkit.bench.transfer_table import Row
    from toolkit.report.plot_transfer import Panel

DEFAULT = ("mobilenetv2", "lenet", "ds-cnn", "resnet8")


@click.command(
    epilog=examples(
        "edgetrain bench transfer --data shared/data --results transfer.jsonl --plot transfer.png",
        "edgetrain bench transfer digits-cnn --seeds 1 --plot digits.svg",
        "edgetrain bench transfer ds-cnn --only head --only 'auto, 128 KiB' --json",
    )
)
@click.argument("models", nargs=-1)
@click.option(
    "--data", "folder", type=click.Path(path_type=Path), help="Folder with the data sets; default: $EDGETRAIN_DATA."
)
@click.option("--only", multiple=True, metavar="ROW", help="Only these rows, as the table names them; default: all.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Seeds 0, 1, ...")
@click.option("--jobs", "workers", type=click.IntRange(min=1), default=2, show_default=True, help="Processes.")
@click.option(
    "--results", type=click.Path(path_type=Path), help="Keeps every outcome; what is in the file is not run again."
)
@click.option(
    "--work", type=click.Path(path_type=Path), help="Keeps the models that know the old task; default: a folder beside "
    "--results, or one that goes away."
)  # fmt: skip
@click.option("--plot", type=click.Path(path_type=Path), help="Draw accuracy against RAM (.png, .svg, .pdf).")
@json_option
def transfer(
    models: tuple[str, ...],
    folder: Path | None,
    only: tuple[str, ...],
    seeds: int,
    workers: int,
    results: Path | None,
    work: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Transfer MODELS from one task to another in generated C on this PC, scheme by scheme and as `auto` chooses.

    mobilenetv2 and resnet8: five classes of CIFAR to the other five; lenet: MNIST digits to turned ones; ds-cnn: five
    keywords to five others; digits-cnn: digits of scikit-learn, for which no --data is needed. Default: the first four.
    """
    from toolkit.bench.transfer import Outcome, jobs
    from toolkit.bench.transfer_table import markdown, rows
    from toolkit.bench.transfer_tasks import TASKS

    check_file(results)
    check_file(plot)
    chosen = models or DEFAULT
    for model in chosen:
        if model not in TASKS:
            raise UserError(f"there is no transfer of '{model}'", where="MODELS", hint=f"one of {', '.join(TASKS)}")
    place = data_folder(folder) if any(TASKS[model].needs_folder for model in chosen) else Path()
    outcomes = read_kept(results, Outcome)
    keep = work or (results.with_suffix(".models") if results else None)
    with nullcontext(str(keep)) if keep else tempfile.TemporaryDirectory() as models_folder:
        waiting: list[Job] = []
        for seed in range(seeds):  # seed by seed, so that an interrupted run has whole pictures first
            for model in chosen:
                done = {each.entry for each in outcomes if (each.task, each.seed) == (model, seed)}
                waiting += jobs(model, seed, place, Path(models_folder), only, done)
        _run(waiting, outcomes, results, workers)
    tables = {
        model: rows(TASKS[model], [o for o in outcomes if o.task == model and o.seed < seeds]) for model in chosen
    }
    if plot is not None:
        from toolkit.report.plot_transfer import plot_transfer

        with file_at_once(plot) as part:
            plot_transfer([_panel(model, tables[model]) for model in chosen], part)
        note(f"{plot}: accuracy against RAM")
    data = {"models": {model: [row.__dict__ for row in table] for model, table in tables.items()}}
    result(as_json, data, "\n\n".join(markdown(TASKS[model], table) for model, table in tables.items()))


def _run(waiting: list[Job], outcomes: list[Outcome], results: Path | None, workers: int) -> None:
    """Adds the outcomes. Models that know the old task come first, so that no two processes make the same one."""
    from toolkit.bench.transfer import prepare, run

    first = list({(job.task, job.seed): job for job in waiting}.values())
    with progress() as bar:
        bar("training on the old tasks", 0, len(first))
        for number, model in enumerate(run_all(prepare, first, workers), 1):
            note(f"{model.name} knows the old task")
            bar("training on the old tasks", number, len(first))
        bar("transferring", 0, len(waiting))
        for number, found in enumerate(run_all(run, waiting, workers), 1):
            outcomes += found
            for each in found:
                said = each.why or f"{each.accuracy:.2f} %, {each.seconds:.0f} s"
                chose = f" ({each.trained})" if each.trained not in ("", each.entry) else ""
                note(f"{each.task}, {each.entry}{chose}, seed {each.seed}: {said}")
            write_kept(results, outcomes)
            bar("transferring", number, len(waiting))


def _panel(model: str, table: list[Row]) -> Panel:
    from toolkit.bench.transfer_tasks import TASKS
    from toolkit.report.plot_transfer import Panel, Point

    def kind(row: Row) -> str:
        return "auto" if row.auto else "mobiletl" if row.entry.startswith("mobiletl") else ""

    points = [
        Point(row.entry, row.ram, row.accuracy, row.deviation, kind(row), row.front) for row in table if not row.why
    ]
    return Panel(model, "arena (KiB)" if TASKS[model].by_arena else "weights and arena (KiB)", points)
