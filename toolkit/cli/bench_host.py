"""`edgetrain bench host`: time on this PC, beside other tools."""

from __future__ import annotations

from pathlib import Path

import click

from toolkit.cli.bench_runs import write_kept
from toolkit.cli.options import compiler_option, examples, json_option
from toolkit.cli.output import check_file, note, progress, result
from toolkit.errors import UserError


@click.command(
    epilog=examples(
        "edgetrain bench host",
        "edgetrain bench host resnet8 --rounds 31 --json",
    )
)
@click.argument("models", nargs=-1)
@click.option("--rounds", type=click.IntRange(min=1), default=15, show_default=True, help="Each runs every contestant.")
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), default=0.03, show_default=True,
    help="That a contestant runs in a round, at least.",
)
@click.option(
    "--threads", type=click.IntRange(1, 16), default=1, show_default=True, help="For each that can have some."
)
@click.option("--results", type=click.Path(path_type=Path), help="Writes the rows there, one JSON object a line.")
@compiler_option
@json_option
def host(
    models: tuple[str, ...],
    rounds: int,
    seconds: float,
    threads: int,
    results: Path | None,
    compiler: str | None,
    as_json: bool,
) -> None:
    """Time MODELS (default: five of the zoo) on this PC beside onnxruntime, PyTorch and emx-onnx-cgen.

    Inference at batch 1 and training steps at batch 1 and 32, in one process, round by round, one thread each. Whatever
    is not installed is left out; whatever computes something else is refused. Close other programs first.
    """
    from toolkit.bench.host import MODELS, HostResult, host_markdown, machine, measure_host
    from toolkit.zoo import nearest, zoo_names

    check_file(results)
    for model in models:
        if model not in zoo_names():
            raise UserError(f"the zoo has no model named '{model}'", hint=f"did you mean {nearest(model)}?")
    chosen = models or MODELS
    found = []
    with progress() as bar:
        for number, model in enumerate(chosen):
            bar("timing", number, len(chosen), model)
            found.append(measure_host(model, rounds, seconds, threads, compiler))
            bar("timing", number + 1, len(chosen))
    whole = HostResult(
        tuple(row for each in found for row in each.rows),
        {key: why for each in found for key, why in each.left_out.items()},
    )
    write_kept(results, whole.rows)
    for (model, name), why in whole.left_out.items():
        note(f"{model}: {name} is left out: {why}")
    left_out = [{"model": model, "contestant": name, "why": why} for (model, name), why in whole.left_out.items()]
    data = {"machine": machine(), "rows": [row.as_dict() for row in whole.rows], "left_out": left_out}
    result(as_json, data, host_markdown(whole))
