"""`edgetrain plan`: RAM and flash by use, before anything is flashed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit import __version__
from toolkit.cli.options import Request, compiler_option, examples, json_option, model_command
from toolkit.cli.output import check_file, file_at_once, note, progress, result

if TYPE_CHECKING:
    from codegen.board import Board
    from toolkit.pipeline import Compiled
    from toolkit.report.memory import Memory


@click.command(
    epilog=examples(
        "edgetrain plan lenet --train all --target qemu-rv32",
        "edgetrain plan model.onnx --train last:2 --target hifive1 --plot arena.png",
    )
)
@model_command()
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the arena over time (.png, .svg, .pdf).")
@click.option("--steps", is_flag=True, help="A table of all steps.")
@click.option("--explain", metavar="NODE", help="Only why a layer of 1-bit weights runs as it does.")
@click.option("--no-build", is_flag=True, help="Do not build the firmware: code and link count as 0.")
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
    compiler: str | None,
    as_json: bool,
) -> None:
    """RAM and flash that MODEL needs on a board; exits with 2 if that is more than there is."""
    from toolkit.report.fitting import explain as explain_shortfall
    from toolkit.report.fitting import firmware_sizes
    from toolkit.report.forms import explain_node
    from toolkit.report.memory import memory_of, shortfalls, step_rows

    check_file(plot)
    board = request.board()
    with progress() as bar:
        compiled = request.compiled()
        if explain is not None:
            found, text = explain_node(compiled, explain)
            result(as_json, found, text)
            return
        sizes = None
        if not no_build and not board.is_host:
            bar("building the firmware", 0, None)
            sizes = firmware_sizes(compiled.program, board, f"edgetrain {__version__}", compiler)
        memory = memory_of(compiled.program, board, sizes)
        falls = shortfalls(memory, board)
        explained = explain_shortfall(compiled, memory, board, falls) if falls else []
    if plot is not None:
        from toolkit.report.plot import plot_arena

        with file_at_once(plot) as part:
            plot_arena(compiled.program, part, f"{compiled.program.name}, --train {request.train}")
    if sizes is None:
        note("flash.text and ram.link are 0: no firmware was built")
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
        "macs": {"infer": functions["infer"].macs, "train": train.macs if train else 0},
    }
    if falls:
        data["excess"] = {fall.region: fall.excess for fall in falls}
    if steps:
        data["steps"] = {name: step_rows(function) for name, function in functions.items()}
    text = _text(compiled, memory, board, data, sizes is not None)
    result(as_json, data, "\n".join([text, *(["", *explained] if explained else [])]))
    if plot is not None:
        note(f"{plot}: the arena over time")
    if falls:
        worst = max(falls, key=lambda fall: fall.excess)
        if as_json:
            note("\n".join(explained))
        note(f"error: {request.model} does not fit {board.id}: {worst.excess:,} B of {worst.region} too much")
        context.exit(2)


def _text(compiled: Compiled, memory: Memory, board: Board, data: dict[str, Any], built: bool) -> str:
    from toolkit.report.memory import peak_function, peak_step

    program = compiled.program
    function = peak_function(program)
    number = peak_step(function)
    node = function.steps[number].node if function.steps else "-"
    if program.arena_bytes == program.lower_bound:
        bound = "the lower bound is the same"
    else:
        bound = f"the lower bound is {program.lower_bound:,}"
    sizes = {region.name: region.size for region in board.memory}
    regions = {use: board.region(use).name for use in ("arena", "text")} if sizes else {}
    of_ram = f" of {sizes[regions['arena']]:,} B" if sizes else ""
    shared = bool(sizes) and regions["arena"] == regions["text"]
    of_flash = "" if not sizes else " in the same memory" if shared else f" of {sizes[regions['text']]:,} B"
    rows = [
        ("weights", memory.weights, "trained weights and optimizer states" if memory.weights else "all are in flash"),
        ("arena", memory.arena, f"peak in step {number} of {function.name} ({node}); {bound}"),
        ("stack", memory.stack, _stack(memory, built)),
    ]
    rows += [("link", memory.link, "frames and variables of the device")] if built else []
    flash_rows = [("text", memory.text, "code and constant tables")] if built else []
    flash_rows += [("weights", memory.flash_weights, "frozen weights, and what the trained ones start from")]
    profile = f" ({data['profile']})" if data["profile"] else ""
    macs = data["macs"]
    step = f" · {macs['train']:,} a training step" if macs["train"] else ""
    lines = [
        f"{program.name} on {board.id}{profile}, --train {data['train']}: {'fits' if data['fits'] else 'does not fit'}",
        "",
        f"RAM    {memory.ram:>12,} B{of_ram}",
        *(f"  {use:<8} {size:>10,}   {why}" for use, size, why in rows),
        f"Flash  {memory.flash:>12,} B{of_flash}",
        *(f"  {use:<8} {size:>10,}   {why}" for use, size, why in flash_rows),
        f"Work   {macs['infer']:>12,} MACs an inference{step}",
    ]
    return "\n".join([*lines, *_steps(data.get("steps", {}))])


def _stack(memory: Memory, built: bool) -> str:
    if memory.stack_counted:
        return f"reserved; the worst case over all calls is {memory.stack_counted:,}"
    return "reserved; not counted: a frame has no fixed size" if built else "reserved"


def _steps(functions: dict[str, list[dict[str, Any]]]) -> list[str]:
    from toolkit.report.tables import table

    lines = []
    for name, rows in functions.items():
        cells = [
            (row["step"], row["node"], row["kernel"], row["macs"], row["live_bytes"], _offsets(row["offsets"]))
            for row in rows
        ]
        lines += ["", table((name, "node", "kernel", "MACs", "bytes in use", "writes at"), cells)]
    return lines


def _offsets(offsets: list[int]) -> str:
    return " ".join(f"{offset:,}" for offset in offsets)
