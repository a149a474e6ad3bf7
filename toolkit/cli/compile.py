"""`edgetrain compile`: a folder of C."""

from __future__ import annotations

from pathlib import Path

import click

from toolkit import __version__
from toolkit.cli.options import Request, examples, json_option, model_command
from toolkit.cli.output import check_folder, progress, result, written_at_once


@click.command(
    epilog=examples(
        "edgetrain compile lenet --train last:2 --target qemu-rv32 -o lenet-firmware && make -C lenet-firmware",
        "edgetrain compile model.onnx --target host -o model-c",
    )
)
@model_command()
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The folder; new or empty.")
@click.option("--force", is_flag=True, help="Replace a folder that edgetrain wrote earlier.")
@json_option
def command(request: Request, output: Path, force: bool, as_json: bool) -> None:
    """Write all the C that MODEL needs on a board, with its Makefile, linker script and start-up code."""
    from codegen.emit import emit
    from codegen.project import write_project
    from toolkit.report.fitting import check_fits

    check_folder(output, force)
    board = request.board()
    with progress() as bar:
        bar("compiling the model", 0, None)
        compiled = request.compiled()
        memory = check_fits(compiled, board)
        tool = f"edgetrain {__version__}"
        with written_at_once(output, force) as place:
            emit(compiled.program, place, tool)
            write_project(place, compiled.program, board, tool)
    files = sorted(path.name for path in output.iterdir())
    data = {"model": request.model, "target": board.id, "output": str(output), "files": files, **memory.as_dict()}
    lines = [
        f"{output}: {len(files)} files for {board.id}; read model.h first",
        f"  RAM    {memory.weights:,} B weights · {memory.arena:,} B arena · {memory.stack:,} B stack",
        f"  flash  {memory.flash_weights:,} B weights, and the code",
        f"  build  make -C {output}",
    ]
    result(as_json, data, "\n".join(lines))
