"""`edgetrain zoo`: models built from code."""

from __future__ import annotations

from pathlib import Path

import click

from toolkit.cli.options import examples, json_option, parse_dimensions
from toolkit.cli.output import file_at_once, result


@click.command(
    epilog=examples("edgetrain zoo", "edgetrain zoo lenet -o lenet.onnx --input-shape 1,32,32 --classes 12")
)
@click.argument("name", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The ONNX file; default NAME.onnx.")
@click.option("--input-shape", metavar="1,28,28", help="Of one sample.")
@click.option("--classes", type=click.IntRange(min=1), help="Size of the output.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the random weights.")
@json_option
def command(
    name: str | None, output: Path | None, input_shape: str | None, classes: int | None, seed: int, as_json: bool
) -> None:
    """Write the model NAME of the zoo as an ONNX file; without a name, list the models."""
    from toolkit.report.tables import table
    from toolkit.zoo import build, describe, zoo_names

    if name is None:
        models = {each: describe(each) for each in zoo_names()}
        result(as_json, {"models": models}, table(("model", "what it is"), list(models.items())))
        return
    shape = parse_dimensions(input_shape, "--input-shape") if input_shape else None
    model = build(name, shape, classes, seed)
    path = output or Path(f"{name}.onnx")
    with file_at_once(path) as part:
        part.write_bytes(model.SerializeToString(deterministic=True))
    size = path.stat().st_size
    result(as_json, {"model": name, "output": str(path), "bytes": size}, f"{path}: {size:,} bytes")
