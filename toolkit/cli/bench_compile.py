"""`edgetrain bench compile`: how long users wait for their C."""

from __future__ import annotations

from pathlib import Path

import click

from toolkit.cli.bench_runs import write_kept
from toolkit.cli.options import examples, json_option
from toolkit.cli.output import check_file, progress, result
from toolkit.errors import UserError


@click.command(
    name="compile",
    epilog=examples(
        "edgetrain bench compile",
        "edgetrain bench compile proxyless --quant dorefa:w2a4g8 --rounds 5 --json",
        "edgetrain bench compile resnet8 --target host --make",
    ),
)
@click.argument("models", nargs=-1)
@click.option("--quant", default="none", show_default=True, help="As for `edgetrain compile`.")
@click.option("--train", "scheme", default="all", show_default=True, help="As for `edgetrain compile`.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="As for `edgetrain compile`.")
@click.option("--target", default="qemu-rv32", show_default=True, help="As for `edgetrain compile`.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Of each command.")
@click.option("--make", is_flag=True, help="Build what was written as well.")
@click.option("--results", type=click.Path(path_type=Path), help="Writes the rows there, one JSON object a line.")
@json_option
def compile_time(
    models: tuple[str, ...],
    quant: str,
    scheme: str,
    batch: int,
    target: str,
    rounds: int,
    make: bool,
    results: Path | None,
    as_json: bool,
) -> None:
    """Time `edgetrain --help`, and `edgetrain compile` of MODELS (default: the zoo), as processes on this PC.

    Close other programs first.
    """
    from toolkit.bench.compile_time import compile_markdown, time_compile, time_help
    from toolkit.bench.host import machine
    from toolkit.zoo import nearest, zoo_names

    check_file(results)
    for model in models:
        if model not in zoo_names():
            raise UserError(f"the zoo has no model named '{model}'", hint=f"did you mean {nearest(model)}?")
    chosen = models or tuple(zoo_names())
    options = ["--train", scheme, "--target", target]
    options += ["--quant", quant] if quant != "none" else []
    options += ["--batch", str(batch)] if batch != 1 else []
    with progress() as bar:
        rows = [time_help(rounds)]
        for number, model in enumerate(chosen):
            bar("timing", number, len(chosen), model)
            rows += time_compile(model, options, rounds, make)
        bar("timing", len(chosen), len(chosen))
    write_kept(results, rows)
    result(as_json, {"machine": machine(), "rows": [row.as_dict() for row in rows]}, compile_markdown(rows))
