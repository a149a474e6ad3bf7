"""Whether a program fits a board, why not, and which plans near it would."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from codegen.board import Board
from codegen.build import FirmwareImage, build_firmware
from codegen.emit import emit
from codegen.errors import BackendError
from codegen.program import Program
from codegen.project import write_project
from toolkit.errors import UserError
from toolkit.pipeline import Compiled, Options, compile_model, layer_names, load
from toolkit.report.memory import Budget, Memory, Shortfall, largest_causes, memory_of, shortfalls, with_room
from toolkit.train.codecs import SavePlan, parse_save

_SUGGESTIONS = 3
# What --save may say for all tensors, what changes least first: made again to the same bits, then rounded.
CODECS = ("recompute", "fp16", "int8")


@dataclass(frozen=True)
class Suggestion:
    """Options, the RAM and flash that they need, and whether that is there."""

    words: str
    options: Options
    ram: int
    flash: int
    fits: bool


_Group = list[tuple[str, Options]]
_Judge = Callable[[str, Options], Suggestion | None]
_LAYERS: _Group = []  # stands for all of last:K


def firmware_sizes(program: Program, board: Board, tool: str, compiler: str | None = None) -> Mapping[str, int]:
    """Sections of the firmware, built for this purpose and thrown away; also of one that does not fit.

    Raises:
        BackendError: it cannot be built.
    """
    try:
        return _build(program, board, tool, compiler).sizes
    except BackendError:
        if not shortfalls(memory_of(program, board, None), board):
            # Then code, or the buffers of the link, may be what does not fit: the larger board tells.
            sizes = _build(program, with_room(board), tool, compiler).sizes
            if not shortfalls(memory_of(program, board, sizes), board):
                raise
            return sizes
    return _build(program, with_room(board), tool, compiler).sizes


def _build(program: Program, board: Board, tool: str, compiler: str | None) -> FirmwareImage:
    with tempfile.TemporaryDirectory(prefix="edgetrain-plan-") as place:
        folder = Path(place)
        emit(program, folder, tool)
        write_project(folder, program, board, tool)
        return build_firmware(folder, board, compiler, program.optimize)


def check_fits(
    compiled: Compiled,
    board: Board,
    budget: Budget | None = None,
    sizes: Mapping[str, int] | None = None,
    command: Callable[[Options], str] | None = None,
) -> Memory:
    """The memory account of a program.

    Args:
        budget: of RAM and flash, beside what the board has.
        sizes: of its firmware; without them code and link count as 0.
        command: gives what to type for other options, or "" where the command cannot do with them.

    Raises:
        UserError: it cannot fit: by how much, why, and what would.
    """
    memory = memory_of(compiled.program, board, sizes)
    falls = shortfalls(memory, board, budget)
    if falls:
        found = suggestions(compiled, memory, board, budget)
        place = budget.words() if budget else board.id
        lines = [f"does not fit {place}", *explain(compiled, memory, falls, found)]
        commands = [command(each.options) for each in found if each.fits] if command is not None else []
        lines += [f"Try:  {text}" for text in commands if text][:1]
        raise UserError("\n".join(lines), where=compiled.program.name, hint="edgetrain plan shows all of it")
    return memory


def explain(
    compiled: Compiled, memory: Memory, falls: list[Shortfall], found: list[Suggestion]
) -> list[str]:  # fmt: skip
    """Lines: by how much, the largest causes, and plans that fit."""
    lines = []
    for fall in falls:
        lines.append(f"{fall.region} needs {fall.needs:,} B of {fall.size:,} B: {fall.excess:,} B too much")
        causes = largest_causes(compiled.program, fall.shares)
        lines.append("Largest causes: " + " · ".join(f"{name} {size:,} B" for name, size in causes))
    width = max((len(each.words) for each in found), default=0)
    lines += [f"Fits: {each.words.ljust(width)}  {each.ram:,} B of RAM" for each in found if each.fits]
    if not any(each.fits for each in found):
        least = next((each for each in found if each.options.train == "none"), None)
        ram, flash = (least.ram, least.flash) if least else (memory.ram, memory.flash)
        lines.append(f"Not even inference fits: --train none needs {ram:,} B of RAM and {flash:,} B of flash")
    return lines


def suggestions(compiled: Compiled, memory: Memory, board: Board, budget: Budget | None = None) -> list[Suggestion]:
    """Plans near the one asked for, the nearest first, until a few that fit are found.

    Code is taken to be as large as that of the plan asked for.
    """
    found: list[Suggestion] = []

    def judge(words: str, options: Options) -> Suggestion | None:
        program = _compile(compiled, options)
        if program is None:
            return None
        account = replace(memory_of(program, board), link=memory.link, text=memory.text)
        return Suggestion(words, options, account.ram, account.flash, not shortfalls(account, board, budget))

    for group in _neighbours(compiled):
        judged = _most_layers(compiled, judge) if group is _LAYERS else _first_that_fits(group, judge)
        if judged is not None:
            found.append(judged)
        if sum(each.fits for each in found) == _SUGGESTIONS:
            break
    return found


def _first_that_fits(group: _Group, judge: _Judge) -> Suggestion | None:
    """The first that fits, else the last that suits the model."""
    judged = None
    for words, options in group:
        judged = judge(words, options) or judged
        if judged is not None and judged.fits:
            break
    return judged


def _most_layers(compiled: Compiled, judge: _Judge) -> Suggestion | None:
    """last:K with the largest K that fits, by bisection: each layer more needs more memory."""
    low, high = 0, len(layer_names(load(compiled.source, compiled.options))) - 1
    best = None
    while low < high:
        middle = (low + high + 1) // 2
        judged = judge(f"--train last:{middle}", replace(compiled.options, train=f"last:{middle}"))
        if judged is not None and judged.fits:
            best, low = judged, middle
        else:
            high = middle - 1
    return best


def _neighbours(compiled: Compiled) -> Iterator[_Group]:
    """Groups of options, of each of which one is enough, the nearest first."""
    options = compiled.options
    if options.batch is not None and options.batch > 1:
        yield [(f"--train {options.train} --batch 1", replace(options, batch=1, walk=None))]
    if options.train != "none":
        if options.training.optimizer != "sgd":
            words = f"--train {options.train} --optimizer sgd"
            yield [(words, replace(options, training=replace(options.training, optimizer="sgd")))]
        if not options.save.text:
            yield [
                (f"--train {options.train} --save {each}", replace(options, save=parse_save(each))) for each in CODECS
            ]
        yield _LAYERS
        yield [("--train bias", replace(options, train="bias"))]
    yield [("--train none", replace(options, train="none", save=SavePlan()))]


def _compile(compiled: Compiled, options: Options) -> Program | None:
    """The program with other options; None where they do not suit the model."""
    try:
        return compile_model(compiled.source, options).program
    except UserError:
        return None
