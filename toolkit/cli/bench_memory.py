"""`edgetrain bench memory`: planned bytes against linked and touched ones."""

from __future__ import annotations

from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit.cli.bench_runs import read_kept, run_all, write_kept
from toolkit.cli.options import compiler_option, examples, json_option
from toolkit.cli.output import check_file, note, progress, result

if TYPE_CHECKING:
    from toolkit.bench.memory import Case, MemoryRow


@click.command(
    epilog=examples(
        "edgetrain bench memory --results memory.jsonl --by-model",
        "edgetrain bench memory lenet resnet8 --train all --train last:2 --json",
        "edgetrain bench memory ds-cnn --train all --save int8 --save recompute",
    )
)
@click.argument("models", nargs=-1)
@click.option("--train", "schemes", multiple=True, metavar="SCHEME", help="May be given several times; default: all "
              "that suit the model, and every codec with --train all.")  # fmt: skip
@click.option("--save", "saves", multiple=True, metavar="CODEC", help="May be given several times.")
@click.option("--profile", default="rv32imafc", show_default=True, help="A profile of qemu-rv32.")
@click.option("--by-model", is_flag=True, help="Print one line for each model.")
@click.option("--jobs", "workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    help="Keeps every row; what is in the file, and is planned the same, is not run again.",
)
@compiler_option
@json_option
@click.pass_context
def memory(
    context: click.Context,
    models: tuple[str, ...],
    schemes: tuple[str, ...],
    saves: tuple[str, ...],
    profile: str,
    by_model: bool,
    workers: int,
    results: Path | None,
    compiler: str | None,
    as_json: bool,
) -> None:
    """Compare planned bytes of MODELS (default: the zoo) with the linker's and with those touched in the emulator.

    Exits with 1 unless all are the same.
    """
    from toolkit.bench.memory import memory_by_model, memory_cases, memory_markdown, row_of
    from toolkit.zoo import zoo_names

    check_file(results)
    kept = {row.case: row for row in read_kept(results, row_of)}
    rows = dict(kept)
    with progress() as bar:
        bar("choosing schemes", 0, None)
        cases = [case for model in models or zoo_names() for case in memory_cases(model, profile, schemes, saves)]
        bar("running in the emulator", 0, len(cases))
        measure = partial(_measure, compiler=compiler)
        for number, (case, row) in enumerate(run_all(measure, [(case, kept.get(case)) for case in cases], workers), 1):
            rows[case] = row
            bar("running in the emulator", number, len(cases))
            if row == kept.get(case):
                continue
            note(f"{row.model} --train {row.scheme} {row.save}: {row.arena:,} B{'' if row.exact else ', NOT exact'}")
            # In one order, however they came.
            write_kept(results, [rows[each] for each in sorted(rows, key=astuple)])
    own = [rows[case] for case in cases]
    text = memory_by_model(own) if by_model else memory_markdown(own)
    result(as_json, {"rows": [row.as_dict() for row in own]}, text)
    if not all(row.exact for row in own):
        context.exit(1)


def _measure(work: tuple[Case, MemoryRow | None], compiler: str | None) -> tuple[Case, MemoryRow]:
    from toolkit.bench.memory import measure_memory

    return work[0], measure_memory(*work, compiler)
