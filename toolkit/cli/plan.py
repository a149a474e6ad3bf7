"""`edgetrain plan`: RAM and flash by use, before anything is flashed."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit import __version__
from toolkit.cli.options import (
    Request,
    budget_options,
    compiled_within,
    compiler_option,
    examples,
    json_option,
    model_command,
)  # fmt: skip
from toolkit.cli.output import check_file, file_at_once, note, progress, result
from toolkit.cli.plan_auto import AUTO, AutoOptions, auto_options, find
from toolkit.cli.repeat import repeated

if TYPE_CHECKING:
    from toolkit.pipeline import Compiled

_OF_SEARCH = tuple(each.name for each in fields(AutoOptions))


@click.command(
    epilog=examples(
        "edgetrain plan lenet --train all --target qemu-rv32",
        "edgetrain plan model.onnx --train last:2 --target hifive1 --plot arena.png",
        "edgetrain plan resnet8 --train all --ram 256K",
        "edgetrain plan lenet --train auto --data train.npz --ram 64K --front front.png",
        "edgetrain plan resnet8 --train all --explain relu1",
    )
)
@model_command()
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the arena over time (.png, .svg, .pdf).")
@click.option("--steps", is_flag=True, help="A table of all steps.")
@click.option("--explain", metavar="NAME", help="Only why a tensor is alive, or why a layer of 1-bit weights runs as "
              "it does.")
@click.option("--no-build", is_flag=True, help="Do not build the firmware: code and link count as 0.")
@budget_options
@auto_options
@compiler_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    request: Request,
    plot: Path | None,
    steps: bool,
    explain: str | None,
    no_build: bool,
    ram: int | None,
    flash: int | None,
    auto: AutoOptions,
    compiler: str | None,
    as_json: bool,
) -> None:
    """RAM and flash that MODEL needs on a board; exits with 2 if that is more than there is."""
    from toolkit.fit.front import front_table
    from toolkit.report.account import account, most_saving, steps_text, uses_as_dict
    from toolkit.report.fitting import explain as explain_shortfall
    from toolkit.report.fitting import firmware_sizes, suggestions
    from toolkit.report.memory import Budget, memory_of, shortfalls, step_rows
    from toolkit.report.work import estimate

    check_file(plot)
    budget = Budget(ram, flash)
    board = request.board()
    outcome = None
    auto.check(request)
    with progress() as bar:
        if request.train == AUTO:
            request, outcome = find(request, auto, budget, not no_build, compiler, bar)
        compiled = compiled_within(request, board, budget, compiler, build=not no_build)
        if explain is not None:
            result(as_json, *_explained(compiled, explain))
            return
        sizes = None
        if not no_build and not board.is_host:
            bar("building the firmware", 0, None)
            sizes = firmware_sizes(compiled.program, board, f"edgetrain {__version__}", compiler)
        memory = memory_of(compiled.program, board, sizes)
        falls = shortfalls(memory, board, budget)
        bar("looking for what would save most", 0, None)
        near = suggestions(compiled, memory, board, budget) if falls else []
        explained = explain_shortfall(compiled, memory, falls, near) if falls else []
        saving = most_saving(compiled)
    if plot is not None:
        from toolkit.report.plot import plot_arena

        with file_at_once(plot) as part:
            plot_arena(compiled, part, f"{compiled.program.name}, --train {request.train}")
    if sizes is None:
        note("flash.text and ram.link are 0, and the stack is not counted: no firmware was built")
    functions = compiled.program.functions
    train = functions.get("train_step")
    data: dict[str, Any] = {
        "model": request.model,
        "target": board.id,
        "profile": request.profile,
        "train": request.train,
        "fits": not falls,
        **memory.as_dict(),
        "arena_lower_bound": compiled.program.lower_bound,
        "stack_counted": memory.stack_counted,
        "uses": uses_as_dict(compiled),
        "saves_most": asdict(saving) if saving else None,
        "walks": {name: asdict(walk) for name, walk in compiled.walks.items()},
        "macs": {"infer": functions["infer"].macs, "train": train.macs if train else 0},
        "work": {name: each.as_dict() if (each := estimate(function, board, compiled.program.forms, compiler)) else None
                 for name, function in functions.items()},
    }
    if outcome is not None:
        data["auto"] = {"complete": outcome.complete, "tried": [each.as_dict() for each in outcome.tried]}
    if falls:
        data["excess"] = {fall.region: fall.excess for fall in falls}
        data["fitting"] = [
            {"command": repeated(context, each.options, _OF_SEARCH), "ram": each.ram} for each in near if each.fits
        ]
        explained += [f"Try:  {each['command']}" for each in data["fitting"][:1]]
    if steps:
        data["steps"] = {name: step_rows(function) for name, function in functions.items()}
    profile = f" ({request.profile})" if request.profile else ""
    title = f"{compiled.program.name} on {board.id}{profile}, --train {request.train}"
    text = account(compiled, memory, board, title, not falls, sizes is not None, saving, budget, compiler)
    if outcome is not None:
        found = f"Best that fits: {outcome.chosen.candidate.words}"
        text = "\n".join([front_table(outcome.tried), "", found, "", text])
    result(as_json, data, "\n".join([text, *steps_text(data.get("steps", {})), *(["", *explained] if falls else [])]))
    if plot is not None:
        note(f"{plot}: the arena over time")
    if falls:
        worst = max(falls, key=lambda fall: fall.excess)
        if as_json:
            note("\n".join(explained))
        where = budget.words() or board.id
        note(f"error: {request.model} does not fit {where}: {worst.excess:,} B of {worst.region} too much")
        context.exit(2)


def _explained(compiled: Compiled, name: str) -> tuple[dict[str, Any], str]:
    """A node by its forms, or a tensor by its life.

    Raises:
        UserError: there is neither.
    """
    from toolkit.report.forms import explain_node
    from toolkit.report.tensors import explain_tensor, near_tensors

    nodes = {node.name for graph in compiled.graphs.values() for node in graph.nodes}
    if name not in nodes and near_tensors(compiled, name):
        return explain_tensor(compiled, name)
    return explain_node(compiled, name)
