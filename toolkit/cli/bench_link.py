"""`edgetrain bench link`: what the serial line costs."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

import click

from toolkit.cli.options import compiler_option, examples, json_option
from toolkit.cli.output import progress, result


@click.command(epilog=examples("edgetrain bench link", "edgetrain bench link lenet --pieces 20 --json"))
@click.argument("model", default="ds-cnn")
@click.option("--pieces", type=click.IntRange(min=1), default=9, show_default=True, help="Measurements of each rate.")
@compiler_option
@json_option
def link(model: str, pieces: int, compiler: str | None, as_json: bool) -> None:
    """Measure how much of the emulated line the link uses, and compute its part of a training step of MODEL.

    The rates depend on this PC; they are compared with what the line carries at the same time to a board that only
    reads it. The part of a training step is computed, for 921,600 baud and each board's clock, from bytes on the line
    and counts of instructions, which are exact.
    """
    from toolkit.bench.link import measure_overhead, measure_throughput, overhead_markdown, throughput_markdown

    with progress() as bar:
        bar("counting instructions", 0, None)
        overheads = measure_overhead(model, compiler)
        bar("counting instructions", 1, 1)
        rates = measure_throughput(pieces, compiler, partial(bar, "measuring rates"))
    data = {
        "model": model,
        "throughput": [asdict(row) for row in rates],
        "overhead": [row.as_dict() for row in overheads],
    }
    result(as_json, data, f"{throughput_markdown(rates)}\n\n{model}, one training step, batch 1:\n\n"
           + overhead_markdown(overheads))  # fmt: skip
