"""`edgetrain bench kernels`: single layers of odd shapes."""

from __future__ import annotations

from pathlib import Path

import click

from toolkit.cli.bench_runs import write_kept
from toolkit.cli.options import compiler_option, examples, json_option
from toolkit.cli.output import check_file, progress, result


@click.command(
    epilog=examples(
        "edgetrain bench kernels",
        "edgetrain bench kernels --profile rv32imafcv --results vectors.jsonl --json",
        "edgetrain bench kernels --quant int8 --profile rv32imac",
    )
)
@click.option(
    "--quant", type=click.Choice(["none", "int8"]), default="none", show_default=True, help="int8: inference alone."
)
@click.option("--profile", default="rv32imafc", show_default=True, help="A profile of qemu-rv32.")
@click.option("--results", type=click.Path(path_type=Path), help="Writes the rows there, one JSON object a line.")
@compiler_option
@json_option
def kernels(quant: str, profile: str, results: Path | None, compiler: str | None, as_json: bool) -> None:
    """Count the instructions per MAC of single layers, with strides, dilations, groups and padding of all kinds.

    Each is trained for one step in the emulator: forward, the gradient of its input, and the update of its weights.
    With int8 it is run forward, from codes to codes.
    """
    from toolkit.bench.shapes import SHAPES, measure_shapes, shapes_markdown

    check_file(results)
    rows = []
    with progress() as bar:
        bar("running in the emulator", 0, len(SHAPES))
        for row in measure_shapes(SHAPES, profile, compiler, quant):
            rows.append(row)
            bar("running in the emulator", len(rows), len(SHAPES))
    write_kept(results, rows)
    result(as_json, {"rows": [row.as_dict() for row in rows]}, shapes_markdown(rows))
