"""benchmarks/RESULTS.md: every table with the command that gives it, the machine, the versions and the date.

What the emulator counts and what this PC times is measured anew. What takes hours (accuracy, transfer, memory of every
scheme) is taken from the records beside the page, and said so.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from codegen.compilers import find_host_compilers, find_riscv_compilers, run_tool
from toolkit import __version__
from toolkit.bench.accuracy import Outcome, markdown, rows
from toolkit.bench.compile_time import compile_markdown, time_compile, time_help
from toolkit.bench.host import MODELS, HostResult, host_markdown, machine, measure_host
from toolkit.bench.memory import memory_by_model, row_of
from toolkit.bench.peers import INTERPRETATION, peers_of
from toolkit.bench.recipes import RECIPES
from toolkit.bench.rv32 import Row, measure
from toolkit.bench.rv32 import markdown as rv32_markdown
from toolkit.bench.sets import SETS
from toolkit.bench.shapes import ShapeRow, shapes_markdown
from toolkit.zoo import zoo_names

# What is measured, how far, out of how much.
Progress = Callable[[str, int, int | None], None]
# The outcomes in a file, for what makes one of them.
Read = Callable[[Path, Callable[..., Any]], list[Any]]


@dataclass(frozen=True)
class Section:
    """One part of the page.

    Attributes:
        commands: that give what it shows.
        record: the file that it was taken from; None where it was measured for this page.
    """

    title: str
    commands: tuple[str, ...]
    text: str
    record: str | None = None

    def markdown(self) -> str:
        """For the page."""
        lines = [f"## {self.title}", "", "```", *(f"$ {command}" for command in self.commands), "```", ""]
        if self.record:
            lines += [f"Not measured for this page: taken from {self.record}, which the command adds to.", ""]
        return "\n".join([*lines, self.text])


def results_page(quick: bool, records: Path, read: Read, compiler: str | None, progress: Progress) -> str:
    """The page.

    Args:
        quick: small models only, and few rounds.
        records: the folder with what was measured before, which `read` reads.
        compiler: for the emulator; the best found for None.
    """
    timed = [_timed(quick, progress), *([] if quick else [_threads(progress)]), _waited(quick, progress)]
    sections = [*_counted(quick, compiler, progress), *timed, *_kept(records, read)]
    how = " with QUICK=1: small models, few rounds" if quick else ""
    lines = ["# Results", "", f"Written by `make bench`{how}.", ""]
    lines += [f"- {line}" for line in surroundings()]
    return "\n\n".join(["\n".join(lines), *(section.markdown() for section in sections)]) + "\n"


def surroundings() -> list[str]:
    """Date, machine, and versions of all that took part."""
    found = [f"{date.today().isoformat()}, edgetrain {__version__}, Python {platform.python_version()}", machine()]
    packages = [f"{name} {number}" for name in ("numpy", "onnxruntime", "torch", "emx-onnx-cgen")
                if (number := _version(name))]  # fmt: skip
    found.append(", ".join(packages))
    host, board = find_host_compilers(), find_riscv_compilers()
    found += [f"{kind}: {'; '.join(compiler.version() for compiler in each)}" for kind, each in
              (("compilers for this PC, the first is used", host), ("for RISC-V", board)) if each]  # fmt: skip
    emulator = shutil.which("qemu-system-riscv32")
    if emulator:
        found.append(run_tool([emulator, "--version"]).stdout.splitlines()[0])
    return found


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _counted(quick: bool, compiler: str | None, progress: Progress) -> Iterator[Section]:
    """What the emulator counts."""
    models = ("digits-cnn", "mlp") if quick else MODELS
    option = f" --compiler {compiler}" if compiler else ""

    def counted(title: str, names: Sequence[str], words: str, **options: str) -> Section:
        found = []
        for number, model in enumerate(names):
            progress(title, number, len(names))
            found += measure(model, compiler=compiler, **options)  # type: ignore[arg-type]
        progress(title, len(names), len(names))
        return Section(title, (f"edgetrain bench rv32 {' '.join(names)}{words}{option}",), _beside(found))

    yield counted("Instructions, flash and RAM on rv32imafc, float32", models, "")
    if not quick:
        small = ("ds-cnn", "resnet8")
        yield counted("int8", small, " --quant int8 --train none", quant="int8", scheme="none")
        if "zig" in {each.name for each in find_riscv_compilers()}:
            found = [row for model in ("cnn", *small) for row in measure(model, profile="rv32imafcv", compiler="zig")]
            words = "edgetrain bench rv32 cnn ds-cnn resnet8 --profile rv32imafcv --compiler zig"
            yield Section("Vectors of 128 bits, zig", (words,), _beside(found))
        methods = ("dorefa:w1a2g6,master=int16", "fixed8")
        found = [row for quant in methods
                 for row in measure("mnist-cnn", quant, "all", "rv32imac", compiler, batch_norm="running")]  # fmt: skip
        words = " ".join(f"--quant {quant}" for quant in methods)
        command = f"edgetrain bench rv32 mnist-cnn {words} --profile rv32imac --batch-norm running{option}"
        yield Section("Training without an FPU, rv32imac", (command,), rv32_markdown(found))
    yield _sizes("digits-cnn" if quick else "resnet8", compiler, option)


def _sizes(model: str, compiler: str | None, option: str) -> Section:
    """Code for speed beside code for size."""
    fast, small = measure(model, compiler=compiler), measure(model, compiler=compiler, opt="size")
    lines = ["| phase | code, speed | code, size | | instructions |", "|---|--:|--:|--:|--:|"]
    for a, b in zip(fast, small, strict=True):
        lines.append(
            f"| {a.phase} | {a.text_bytes:,} B | {b.text_bytes:,} B | {_change(a.text_bytes, b.text_bytes)} | "
            f"{_change(a.instructions, b.instructions)} |"
        )
    commands = tuple(f"edgetrain bench rv32 {model} --opt {opt}{option}" for opt in ("speed", "size"))
    return Section(f"--opt size, {model} on rv32imafc", commands, "\n".join(lines))


def _change(before: int, after: int) -> str:
    return f"{100 * (after - before) / before:+.1f} %"


def _beside(found: Sequence[Row]) -> str:
    """Our rows, each followed by what peers need."""
    lines = ["| model | phase | tool | instructions | per MAC | flash, B | RAM, B |", "|---|---|---|--:|--:|--:|--:|"]
    told = False
    for row in found:
        method = "edgetrain" + ("" if row.quant == "none" else f", {row.quant}")
        lines.append(
            f"| {row.model} | {row.phase} | **{method}** | {row.instructions:,} | {row.instructions_per_mac:.2f} | "
            f"{row.flash_bytes:,} | {row.ram_bytes:,} |"
        )
        for peer in peers_of(row.model, row.phase, row.quant) if row.profile == "rv32imafc" else ():
            told = True
            per_mac = "" if peer.per_mac is None else f"{peer.per_mac:.2f}"
            name = peer.tool + (f" ({peer.note})" if peer.note else "")
            sizes = " | ".join(f"{size:,}" if size else "" for size in (peer.flash, peer.ram))
            lines.append(f"| {row.model} | {row.phase} | {name} | | {per_mac} | {sizes} |")
    if told:
        lines += ["", f"{INTERPRETATION} Peers were measured by this project with gcc 12.2, `-O3 -ffast-math`, in the "
                  "same emulator (toolkit/bench/peers.py)."]  # fmt: skip
    return "\n".join(lines)


def _timed(quick: bool, progress: Progress) -> Section:
    """What this PC takes."""
    models, rounds = (("digits-cnn", "mlp"), 3) if quick else (MODELS, 15)
    found = []
    for number, model in enumerate(models):
        progress("timing on this PC", number, len(models))
        found.append(measure_host(model, rounds))
    progress("timing on this PC", len(models), len(models))
    whole = HostResult(
        tuple(row for each in found for row in each.rows),
        {key: why for each in found for key, why in each.left_out.items()},
    )
    command = f"edgetrain bench host {' '.join(models)} --rounds {rounds}"
    return Section("Time on this PC", (command,), host_markdown(whole))


def _threads(progress: Progress) -> Section:
    """The same with two threads, beside one."""
    progress("timing two threads", 0, 1)
    found = measure_host("resnet8", seconds=0.2, threads=2)
    progress("timing two threads", 1, 1)
    command = "edgetrain bench host resnet8 --threads 2 --seconds 0.2"
    return Section("Two threads on this PC", (command,), host_markdown(found))


def _waited(quick: bool, progress: Progress) -> Section:
    """How long users wait for their C."""
    models, options = ("digits-cnn", "mlp") if quick else zoo_names(), ("--train", "all", "--target", "qemu-rv32")
    found = [time_help(1)]
    for number, model in enumerate(models):
        progress("timing edgetrain compile", number, len(models))
        found += time_compile(model, options, 1)
    commands = [f"edgetrain bench compile {' '.join(models) if quick else ''}".rstrip() + " --rounds 1"]
    if not quick:
        found += time_compile("resnet8", ("--train", "all", "--target", "host"), 1, make=True)
        commands.append("edgetrain bench compile resnet8 --target host --make --rounds 1")
    progress("timing edgetrain compile", len(models), len(models))
    return Section("Compile time", tuple(commands), compile_markdown(found))


def _kept(records: Path, read: Read) -> Iterator[Section]:
    """What was measured before; nothing where there is no record."""
    shapes = records / "kernels-rv32imafc.jsonl"
    if shapes.is_file():
        text = shapes_markdown(read(shapes, ShapeRow))
        command = f"edgetrain bench kernels --compiler gcc --results benchmarks/{shapes.name}"
        yield Section("Single layers of odd shapes", (command,), text, f"benchmarks/{shapes.name}")
    for dataset, recipes in RECIPES.items():
        kept = records / f"accuracy-{dataset}.jsonl"
        outcomes = [each for each in read(kept, Outcome) if each.data == dataset]
        if outcomes:
            text = f"{SETS[dataset].summary}\n\n{markdown(rows(outcomes, recipes))}"
            command = f"edgetrain bench accuracy {dataset} --data FOLDER --results benchmarks/{kept.name}"
            yield Section(f"Accuracy, {dataset}", (command,), text, f"benchmarks/{kept.name}")
    memory = records / "memory.jsonl"
    if memory.is_file():
        command = f"edgetrain bench memory --by-model --results benchmarks/{memory.name}"
        text = memory_by_model(read(memory, row_of))
        title = "Planned memory against the linker's and the touched"
        yield Section(title, (command,), text, f"benchmarks/{memory.name}")
    if (records / "transfer.jsonl").is_file():
        command = "edgetrain bench transfer --data FOLDER --results benchmarks/transfer.jsonl --plot transfer.png"
        text = "The tables are in docs/transfer.md, the picture is benchmarks/transfer.png."
        yield Section("Accuracy against training RAM", (command,), text, "benchmarks/transfer.jsonl")
