"""`edgetrain compile`: a folder of C."""

from __future__ import annotations

from pathlib import Path

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
    require_fit,
)
from toolkit.cli.output import check_folder, progress, result, written_at_once

_BUILDS = {
    "platformio": "pio run, in that folder",
    "arduino": "zip the folder; in the Arduino IDE: Sketch, Include Library, Add .ZIP Library",
    "zephyr": "west build -b BOARD sample, in that folder",
    "esp-idf": "idf.py build, in that folder",
}


@click.command(
    epilog=examples(
        "edgetrain compile lenet --train last:2 --target qemu-rv32 -o lenet-firmware && make -C lenet-firmware",
        "edgetrain compile model.onnx --target host -o model-c",
        "edgetrain compile lenet --train last:2 --target esp32c3 --wrapper esp-idf -o lenet-idf",
        "edgetrain compile digits-cnn --train all --ram 64K --flash 128K -o digits-firmware",
    )
)
@model_command()
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The folder; new or empty.")
@click.option("--force", is_flag=True, help="Replace a folder that edgetrain wrote earlier.")
@click.option(
    "--wrapper", type=click.Choice(["platformio", "arduino", "zephyr", "esp-idf"]),
    help="A library for that build system, with a small program around it, instead of a firmware.",
)
@budget_options
@compiler_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    request: Request,
    output: Path,
    force: bool,
    wrapper: str | None,
    ram: int | None,
    flash: int | None,
    compiler: str | None,
    as_json: bool,
) -> None:
    """Write all the C that MODEL needs on a board, with its Makefile, linker script and start-up code."""
    from codegen.emit import emit
    from codegen.project import why_nothing_is_kept, write_project
    from codegen.wrappers import write_wrapper
    from toolkit.report.memory import Budget

    check_folder(output, force)
    board = request.board()
    with progress() as bar:
        bar("compiling the model", 0, None)
        budget = Budget(ram, flash)
        compiled = compiled_within(request, board, budget, compiler, build=bool(budget))
        memory = require_fit(context, compiled, board, budget, compiler, trains=False)
        tool = f"edgetrain {__version__}"
        with written_at_once(output, force) as place:
            if wrapper:
                write_wrapper(place, compiled.program, board, tool, wrapper)
            else:
                emit(compiled.program, place, tool)
                write_project(place, compiled.program, board, tool)
    files = sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())
    build = _BUILDS[wrapper] if wrapper else f"make -C {output}"
    lost = None if board.is_host or wrapper else why_nothing_is_kept(board, compiled.program.params_bytes)
    data = {
        "model": request.model, "target": board.id, "output": str(output), "files": files, **memory.as_dict(),
        "save_refused": lost,
    }  # fmt: skip
    lines = [
        f"{output}: {len(files)} files for {board.id}; read model.h first",
        f"  RAM    {memory.weights:,} B weights · {memory.arena:,} B arena · {memory.stack:,} B stack",
        f"  flash  {memory.flash_weights:,} B weights, and the code",
        f"  build  {build}",
    ]
    lines += [f"  SAVE   is refused: {lost}"] if lost else []
    result(as_json, data, "\n".join(lines))
