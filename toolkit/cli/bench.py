"""`edgetrain bench`: measurements that this README and yours can repeat."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from toolkit.cli.bench_compile import compile_time
from toolkit.cli.bench_costs import costs
from toolkit.cli.bench_host import host
from toolkit.cli.bench_kernels import kernels
from toolkit.cli.bench_link import link
from toolkit.cli.bench_memory import memory
from toolkit.cli.bench_results import results
from toolkit.cli.bench_runs import data_folder, read_kept, run_all, write_kept
from toolkit.cli.bench_transfer import transfer
from toolkit.cli.options import compiler_option, examples, json_option
from toolkit.cli.output import check_file, note, progress, result
from toolkit.errors import UserError


@click.group(
    epilog=examples(
        "edgetrain bench rv32 cnn --profile rv32imac --json",
        "edgetrain bench accuracy mnist --data shared/data --seeds 3 --json",
    )
)
def command() -> None:
    """Measure: instructions and memory on emulated RISC-V; time on this PC; accuracy and transfer on real data."""


@command.command(
    epilog=examples(
        "edgetrain bench accuracy mnist --data shared/data --seeds 3",
        "edgetrain bench accuracy kws --method float32 --method 'dorefa w1a2g6' --json",
    )
)
@click.argument("dataset", type=click.Choice(["mnist", "mnist-flat", "kws", "cifar", "kws-saved"]), default="mnist")
@click.option(
    "--data", "folder", type=click.Path(path_type=Path), help="Folder with the data sets; default: $EDGETRAIN_DATA."
)
@click.option("--method", "chosen", multiple=True, help="Only these rows; default: all.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Seeds 0, 1, ...")
@click.option("--jobs", "workers", type=click.IntRange(min=1), default=2, show_default=True, help="Processes.")
@click.option(
    "--results", type=click.Path(path_type=Path), help="Keeps every outcome; what is in the file is not run again."
)
@json_option
def accuracy(
    dataset: str,
    folder: Path | None,
    chosen: tuple[str, ...],
    seeds: int,
    workers: int,
    results: Path | None,
    as_json: bool,
) -> None:
    """Train every method on DATASET in generated C on this PC, and print one table of accuracies.

    mnist: 10,000 images and a small CNN; kws: 1,000 keywords and ds-cnn in five folds; cifar: 4,000 images and resnet8.
    kws-saved: ds-cnn, batch 1, with its saved tensors in several forms (--save). mnist-flat: mlp, batch 1, weights
    in 16 bits.
    """
    from toolkit.bench.accuracy import Outcome, jobs, markdown, rows, run
    from toolkit.bench.recipes import RECIPES
    from toolkit.bench.sets import SETS

    check_file(results)
    recipes = [recipe for recipe in RECIPES[dataset] if not chosen or recipe.method in chosen]
    unknown = sorted(set(chosen) - {recipe.method for recipe in RECIPES[dataset]})
    if unknown:
        known = ", ".join(recipe.method for recipe in RECIPES[dataset])
        raise UserError(f"there is no method '{unknown[0]}'", where="--method", hint=f"one of {known}")
    place = data_folder(folder)
    outcomes = read_kept(results, Outcome)
    done = {(o.data, o.method, o.seed, o.split) for o in outcomes}
    waiting = [
        job for job in jobs(dataset, recipes, seeds, place)
        if (dataset, job.recipe.method, job.seed, job.split) not in done
    ]  # fmt: skip

    def keep(outcome: Outcome) -> None:
        outcomes.append(outcome)
        reached = f"{outcome.method}, seed {outcome.seed}: {outcome.accuracy:.2f} %"
        note(f"{reached}, {outcome.seconds:.0f} s")
        write_kept(results, outcomes)

    with progress() as bar:
        bar("training", 0, len(waiting))
        for number, outcome in enumerate(run_all(run, waiting, workers), 1):
            keep(outcome)
            bar("training", number, len(waiting))
    own = [o for o in outcomes if o.data == dataset and o.seed < seeds]
    table = rows(own, recipes)
    data = {"dataset": dataset, "rows": [row.__dict__ for row in table]}
    result(as_json, data, f"{SETS[dataset].summary}\n\n{markdown(table)}")


@command.command(
    epilog=examples(
        "edgetrain bench rv32 cnn ds-cnn --profile rv32imafc",
        "edgetrain bench rv32 resnet8 --layers --plot resnet8.png",
        "edgetrain bench rv32 mnist-cnn --quant none --quant dorefa:w1a2g6 --profile rv32imac --json",
    )
)
@click.argument("models", nargs=-1)
@click.option("--quant", "quants", multiple=True, default=("none",), help="Methods; may be given several times.")
@click.option("--train", default="all", show_default=True, metavar="SCHEME", help="none leaves the training step out.")
@click.option("--optimizer", default="sgd", show_default=True)
@click.option("--batch-norm", type=click.Choice(["batch", "running"]), default="batch", show_default=True)
@click.option("--profile", default="rv32imafc", show_default=True, help="A profile of qemu-rv32.")
@click.option("--opt", type=click.Choice(["speed", "size"]), default="speed", show_default=True, help="As for compile.")
@click.option("--layers", is_flag=True, help="Every step of the models, one kernel call each, rather than the whole.")
@click.option(
    "--plot", type=click.Path(path_type=Path), help="With --layers: a picture of bars and roofline; .png or .svg."
)
@compiler_option
@json_option
def rv32(
    models: tuple[str, ...],
    quants: tuple[str, ...],
    train: str,
    optimizer: str,
    batch_norm: str,
    profile: str,
    opt: Literal["speed", "size"],
    layers: bool,
    plot: Path | None,
    compiler: str | None,
    as_json: bool,
) -> None:
    """Count the instructions of one inference and one training step of MODELS (default: the zoo) in the emulator.

    Counts are exact and the same on every machine. MACs are those of the float32 form, for every method.
    """
    from toolkit.bench.layers import draw_layers, layers_markdown, measure_layers
    from toolkit.bench.rv32 import SOFT_FLOAT_IS_TOO_LONG, markdown, measure
    from toolkit.zoo import zoo_names

    check_file(plot)
    if plot is not None and not layers:
        raise UserError("there are no steps to draw", where="--plot", hint="give --layers as well")
    if layers and opt != "speed":
        raise UserError("steps are counted of code for speed", where=f"--opt {opt}", hint="leave out --layers or --opt")
    soft = "f" not in profile.partition("_")[0][4:]
    chosen = models or [name for name in zoo_names() if not soft or name not in SOFT_FLOAT_IS_TOO_LONG]
    if not models and len(chosen) < len(zoo_names()):
        left_out = ", ".join(sorted(SOFT_FLOAT_IS_TOO_LONG))
        note(f"left out, for soft float takes minutes: {left_out}; name them to run them")
    rows, steps = [], []
    with progress() as bar:
        total = len(chosen) * len(quants)
        for number, (model, quant) in enumerate((m, q) for m in chosen for q in quants):
            bar("running in the emulator", number, total)
            if layers:
                steps += measure_layers(model, quant, train, profile, compiler, optimizer, batch_norm)
            else:
                rows += measure(model, quant, train, profile, compiler, optimizer, batch_norm, opt)
            bar("running in the emulator", number + 1, total)
    if plot is not None:
        draw_layers(steps, plot)
    text = layers_markdown(steps) if layers else markdown(rows)
    result(as_json, {"rows": [row.as_dict() for row in steps or rows]}, text)


command.add_command(compile_time)
command.add_command(costs)
command.add_command(host)
command.add_command(kernels)
command.add_command(link)
command.add_command(memory)
command.add_command(results)
command.add_command(transfer)
