"""Cycles that a core would take, from the blocks of instructions that the emulator runs and a table of latencies.

A block is run in a model of the pipeline: one instruction in a cycle, in order, each as soon as what it needs is there.
It follows itself there, as in a loop, so that a result of its end may be late for its beginning. Memory answers at
once: caches, flash and bus are not in the model.
"""

from __future__ import annotations

import atexit
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from codegen.cores import Core
from toolkit.errors import UserError

_SOURCE = Path(__file__).with_name("blocks.c")
_REGISTER = re.compile(r"\b(?:zero|ra|sp|gp|tp|fp|[ast]\d+|s1[01]|f[ast]\d+)\b")
_NARROW = {"lb", "lbu", "lh", "lhu"}
_LOADS = {*_NARROW, "lw", "flw", "lr.w"}
_STORES = {"sb", "sh", "sw", "fsw"}
_JUMPS = {"j", "jal", "jalr", "jr", "ret", "call", "tail"}
_BRANCH = re.compile(r"b(eq|ne|lt|ge|gt|le)u?z?")
_PREDICTORS = ("two-bit", "last-backward")


@dataclass(frozen=True)
class Instruction:
    """What the pipeline sees of one.

    Attributes:
        writes: the register, "" for none.
        stored: the register whose value a store writes, "" for none; it is not among `reads`.
    """

    name: str
    writes: str
    reads: frozenset[str]
    stored: str = ""


@dataclass(frozen=True)
class Ran:
    """A block between two readings of the counter.

    Attributes:
        missed: predictor -> how often its branch went the other way.
    """

    body: tuple[Instruction, ...]
    times: int
    missed: dict[str, int]


def parse(line: str) -> Instruction:
    """One line of the emulator's disassembly: bytes, name, operands."""
    words = line.split("#")[0].split(None, 2)
    name, operands = words[1], (words[2] if len(words) > 2 else "").strip()
    parts = operands.split(",") if operands else []
    registers = [_REGISTER.findall(part) for part in parts]
    if name in _STORES:
        return Instruction(name, "", frozenset(r for part in registers[1:] for r in part), registers[0][0])
    if _BRANCH.fullmatch(name) or name in ("j", "jr", "ret"):
        return Instruction(name, "", frozenset(r for part in registers for r in part))
    writes = registers[0][0] if registers and registers[0] else "ra" if name in ("jal", "jalr", "call") else ""
    reads = frozenset(r for part in registers[1:] for r in part)
    return Instruction(name, "" if writes == "zero" else writes, reads)


def cycles(body: Sequence[Instruction], core: Core) -> int:
    """Of a block that follows itself, its branch predicted rightly."""
    ready: dict[str, int] = {}
    clock, started, free = 0, 0, 0
    for turn in range(2):
        if turn:
            started = clock
        for one in body:
            kind = _kind(one.name)
            needed = one.reads | ({one.stored} if core.cost.store_waits and one.stored else frozenset())
            clock = max([clock, *(ready.get(register, 0) for register in needed)])
            blocks = {"multiply": core.cost.multiply_blocks, "divide": core.cost.divide_blocks}.get(kind, False)
            if blocks:
                clock = max(clock, free)
            latency = getattr(core.latency, kind) if kind else 1
            if blocks:
                free = clock + latency
            if one.writes:
                ready[one.writes] = clock + latency
            clock += core.cost.jump if one.name in _JUMPS else 1
    return clock - started


def total_cycles(ran: Sequence[Ran], core: Core) -> int:
    """Of all that ran, with the branches that were not predicted."""
    missed = sum(block.missed[core.cost.predictor] for block in ran)
    return sum(block.times * cycles(block.body, core) for block in ran) + missed * core.cost.mispredicted


def instructions(ran: Sequence[Ran]) -> int:
    """How many there were."""
    return sum(block.times * len(block.body) for block in ran)


@cache
def plugin() -> Path:
    """The plugin, built for the emulator that is installed.

    Raises:
        UserError: there is no C compiler.
    """
    folder = Path(tempfile.mkdtemp(prefix="edgetrain-plugin-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = folder / "blocks.so"
    command = ["cc", "-O2", "-shared", "-fPIC", f"-DPLUGIN_VERSION={_version()}", str(_SOURCE), "-o", str(library)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except OSError:
        raise UserError("cycles need a C compiler", where="--cycles", hint="apt-get install gcc") from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"the plugin does not build: {error.stderr.strip()}", where="--cycles") from None
    return library


def _version() -> int:
    """Of the plugin interface: QEMU refuses versions that are too old for it, or too new."""
    said = subprocess.run(["qemu-system-riscv32", "--version"], capture_output=True, text=True, check=True).stdout
    major = int(re.findall(r"version (\d+)", said)[0])
    return 1 if major < 9 else 2 if major < 10 else 4


def read(path: Path) -> list[list[Ran]]:
    """What ran between readings of the counter, as the plugin has written it."""
    bodies: dict[int, tuple[Instruction, ...]] = {}
    found: list[list[Ran]] = []
    # The emulator may be writing the last line.
    lines = iter(path.read_text(errors="replace").rpartition("\n")[0].splitlines())
    for line in lines:
        words = line.split()
        if words[0] == "block":
            texts = [next(lines, "") for _ in range(int(words[3]))]
            if texts[-1]:  # else it was still being written
                bodies[int(words[1])] = tuple(parse(text) for text in texts)
        elif words[0] == "read":
            found.append([])
        elif len(words) == 5 and found:
            number, times, *missed = map(int, words[1:])
            found[-1].append(Ran(bodies[number], times, dict(zip(_PREDICTORS, missed, strict=True))))
    return found


def _kind(name: str) -> str:
    """The field of `Latency` that says how long it takes; "" where that is one cycle."""
    if name in _LOADS:
        return "narrow_load" if name in _NARROW else "load"
    if name.startswith("mul"):
        return "multiply"
    if name.startswith(("div", "rem")):
        return "divide"
    return "csr" if name.startswith("csr") else ""
