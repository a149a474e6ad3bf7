"""`edgetrain plan --train auto`: its options, and the search that they ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from toolkit.cli.options import Request, Size
from toolkit.cli.output import Progress, check_file, file_at_once, note
from toolkit.errors import UserError

if TYPE_CHECKING:
    from toolkit.data import Dataset
    from toolkit.fit.search import Outcome
    from toolkit.report.memory import Budget

Command = TypeVar("Command", bound=Callable[..., Any])
AUTO = "auto"
# Of the learning rate that is asked for: a scheme that trains little stands a higher one than one that trains all.
_RATES = (1.0, 0.25)


@dataclass(frozen=True)
class AutoOptions:
    """What only the search takes.

    Attributes:
        probe, probe_epochs: samples that each probe trains on, and how often.
        finals, final_epochs: how many of the best are trained on all samples, and how often these are.
        time_limit: seconds.
    """

    data: str | None
    macs: int | None
    arena: int | None
    lr: float | None
    probe: int
    probe_epochs: int
    finals: int
    final_epochs: int
    time_limit: float
    seed: int
    front: Path | None

    def check(self, request: Request) -> None:
        """Raises UserError for what only a search understands, where there is none."""
        given = {"--data": self.data, "--macs": self.macs, "--lr": self.lr, "--front": self.front}
        given |= {"--arena": self.arena}
        for option, value in given.items():
            if value is not None and request.train != AUTO:
                raise UserError("is for the search alone", where=option, hint="add --train auto")


def auto_options(function: Command) -> Command:
    """Adds the options; the function gets them as `auto`."""

    @wraps(function)
    def run(*given: Any, **values: Any) -> Any:
        taken = {each.name: values.pop(each.name) for each in fields(AutoOptions)}
        return function(*given, auto=AutoOptions(**taken), **values)

    options = [
        click.option("--data", help="For --train auto: samples, in the formats of `edgetrain train --data`."),
        click.option("--macs", type=click.IntRange(min=1), help="For --train auto: MACs that a step may take."),
        click.option("--arena", type=Size(), metavar="SIZE", help="For --train auto: size of the arena alone."),
        click.option("--lr", type=click.FloatRange(min=0, min_open=True), help="Of probes; default: the optimizer's."),
        click.option(
            "--probe", type=click.IntRange(min=1), default=256, show_default=True, help="Samples that each trains on."
        ),
        click.option(
            "--probe-epochs", type=click.IntRange(min=1), default=1, show_default=True, help="How often it does so."
        ),
        click.option(
            "--finals",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="Train so many of the best on all samples, and take the best of them.",
        ),
        click.option(
            "--final-epochs", type=click.IntRange(min=1), default=1, show_default=True, help="How often these do so."
        ),
        click.option(
            "--time-limit", type=click.FloatRange(min=0), default=180.0, show_default=True, help="Seconds for it."
        ),
        click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the probes."),
        click.option("--front", type=click.Path(path_type=Path), help="Draw the Pareto front (.png, .svg, .pdf)."),
    ]
    wrapped: Any = run
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]


def find(
    request: Request, auto: AutoOptions, budget: Budget, build: bool, compiler: str | None, bar: Progress
) -> tuple[Request, Outcome]:
    """The request with what the search has chosen.

    Raises:
        UserError: no data, data that does not suit the model, or a budget that nothing fits.
    """
    from toolkit.fit.probe import ProbeSettings
    from toolkit.fit.search import Limits, Search
    from toolkit.train.optimizers import parse_optimizer

    if request.save:
        raise UserError("auto chooses how tensors are saved", where=f"--save {request.save}", hint="leave it out")
    check_file(auto.front)
    if auto.front is not None and auto.data is None:
        raise UserError("the front is of what was measured", where="--front", hint="add --data")
    plain = replace(request, train="none").options()
    if plain.quant.of_frozen and request.calibrate is None:
        if auto.data is None:
            raise UserError("frozen layers on int8 calibrate on samples", where="--train auto", hint="add --data")
        request = replace(request, calibrate=auto.data)
    rate = auto.lr if auto.lr is not None else parse_optimizer(request.optimizer).default_learning_rate
    rates = tuple(rate * share for share in _RATES)
    settings = ProbeSettings(
        auto.probe, max(auto.probe // 2, 1), rates, auto.seed, auto.probe_epochs, auto.finals, auto.final_epochs
    )
    limits = Limits(budget, auto.macs, auto.time_limit, auto.arena)
    data = None if auto.data is None else _load(auto.data, request)
    if data is None:
        note("without --data nothing is measured: what trains most parameters is taken")
    search = Search(request.model, plain, request.board(), limits, data, settings, bar, compiler, build)
    outcome = search.run()
    if not outcome.complete:
        note(f"ended by --time-limit {auto.time_limit:g}: what was found depends on this machine's speed")
    if auto.front is not None:
        from toolkit.report.plot_front import plot_front

        with file_at_once(auto.front) as part:
            points = [
                (each.candidate.words.removeprefix("--train "), each.ram, each.gain, each.fits)
                for each in outcome.tried
                if each.measured
            ]
            plot_front(points, budget.ram, part, f"{request.model}: what fits, and how much it learns")
        note(f"{auto.front}: the Pareto front")
    chosen = outcome.chosen.candidate
    quant = chosen.quant or ("none" if plain.quant.of_frozen else request.quant)
    return replace(request, train=chosen.scheme, save=chosen.save, quant=quant), outcome


def _load(path: str, request: Request) -> Dataset:
    from toolkit.data import load_dataset
    from toolkit.ir import TensorType
    from toolkit.pipeline import load
    from toolkit.train.losses import find_loss

    model = load(request.model, replace(request, train="none").options())
    if len(model.inputs) != 1:
        raise UserError(f"the model has {len(model.inputs)} inputs; --train auto takes models with one", where=path)
    side, out = model.interface[model.inputs[0]], model.interface[model.outputs[0]]
    classes = out.shape[-1] if find_loss(request.loss).counts_classes else None
    dataset = load_dataset(path, TensorType(side.shape), classes)
    for remark in dataset.notes:
        note(remark)
    if len(dataset) < 3 * side.shape[0]:
        raise UserError(f"{len(dataset)} samples are too few to learn from some and measure on others", where=path)
    return dataset
