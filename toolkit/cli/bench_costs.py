"""`edgetrain bench costs`: the formulas that `plan` estimates instructions and cycles with."""

from __future__ import annotations

import json
from pathlib import Path

import click

from toolkit.cli.options import compiler_option, examples
from toolkit.cli.output import check_file, file_at_once, note, progress


@click.command(
    "costs",
    epilog=examples("edgetrain bench costs --compiler gcc", "edgetrain bench costs --model lenet -o costs.json"),
)
@click.option("--model", "models", multiple=True, help="Only these; default: all that formulas are fitted to.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: the file that `plan` reads.")
@compiler_option
def costs(models: tuple[str, ...], output: Path | None, compiler: str | None) -> None:
    """Fit formulas for instructions and cycles of kernels to runs in the emulator.

    Counts every step of many models, with and without float instructions, and writes what `edgetrain plan` estimates
    with for this compiler. Needs QEMU and a C compiler for this PC.
    """
    from codegen.compilers import find
    from toolkit.bench.costs import builds, cases, record, sample
    from toolkit.bench.formulas import Sample
    from toolkit.report.work import PROFILES, RECORD

    path = output or RECORD
    check_file(path)
    family = find(compiler, "riscv").family
    todo = [
        (profile, case)
        for profile in PROFILES
        if builds(compiler, profile)
        for case in cases(profile)
        if not models or case.model in models
    ]
    samples: dict[str, list[Sample]] = {}
    with progress() as bar:
        for number, (profile, case) in enumerate(todo):
            bar(f"{case.words}, {profile}", number, len(todo))
            samples.setdefault(profile, []).extend(sample(case, profile, compiler))
    found = record(samples, compiler)
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    with file_at_once(path) as part:
        part.write_text(json.dumps(known | {family: found}, indent=1) + "\n", encoding="utf-8")
    for profile, own in found["profiles"].items():
        note(f"{profile}: {len(own['kernels'])} kernels, of a model that is left out median error "
             f"{own['median_error']}, largest {own['largest_error']}")  # fmt: skip
    note(f"{path}: what plan estimates with")
