"""`edgetrain bench results`: the page with all figures."""

from __future__ import annotations

from pathlib import Path

import click

from toolkit.cli.bench_runs import read_kept
from toolkit.cli.options import compiler_option, examples, json_option
from toolkit.cli.output import check_file, file_at_once, progress, result


@click.command(
    epilog=examples(
        "edgetrain bench results -o benchmarks/RESULTS.md",
        "edgetrain bench results --quick -o results.md --json",
    )
)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The page, Markdown.")
@click.option(
    "--records", type=click.Path(path_type=Path, file_okay=False), default=Path("benchmarks"), show_default=True,
    help="The folder with what takes hours and was measured before.",
)
@click.option("--quick", is_flag=True, help="Small models, few rounds.")
@compiler_option
@json_option
def results(output: Path, records: Path, quick: bool, compiler: str | None, as_json: bool) -> None:
    """Measure instructions, memory and time, and write all tables with the commands that give them.

    Accuracy, transfer and the memory of every scheme take hours: those tables come from the records, and say so.
    """
    from toolkit.bench.results import results_page

    check_file(output)
    with progress() as bar:
        page = results_page(quick, records, read_kept, compiler, bar)
    with file_at_once(output) as part:
        part.write_text(page)
    sections = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    result(as_json, {"output": str(output), "sections": sections}, f"{output}: {', '.join(sections)}")
