"""The page that `plan` prints: RAM and flash by use, the peak beside its bound, and what would save most."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from codegen.board import Board
from toolkit.errors import UserError
from toolkit.pipeline import Compiled, Options, compile_model, load
from toolkit.report.fitting import CODECS
from toolkit.report.memory import Budget, Memory, peak_function, peak_step
from toolkit.report.tables import table
from toolkit.report.uses import Piece, arena_uses, forward_steps, largest_saved, params_uses, weight_gradients_from
from toolkit.report.work import work_lines
from toolkit.train.codecs import parse_save
from toolkit.train.schemes import layers


@dataclass(frozen=True)
class Saving:
    """What dropping the largest saved tensor takes, and gives.

    Attributes:
        needed_for: backward nodes that read it.
        words: options that do without it; "" where none was found.
        bytes: that they save of the RAM.
        codecs: --save with the form of all saved tensors, and the bytes that it saves, the most first.
    """

    tensor: str
    tensor_bytes: int
    needed_for: tuple[str, ...]
    words: str = ""
    bytes: int = 0
    codecs: tuple[tuple[str, int], ...] = ()

    def text(self) -> str:
        """One line, and one more for the codecs."""
        what = f"{self.tensor} {self.tensor_bytes:,} B, kept for {', '.join(self.needed_for)}"
        what += f"; {self.words} saves {self.bytes:,} B" if self.words else ""
        forms = " · ".join(f"{words} saves {size:,} B" for words, size in self.codecs)
        return f"{what}\n            {forms}" if forms else what


def most_saving(compiled: Compiled) -> Saving | None:
    """The largest tensor saved at the peak, and the nearest scheme without it; None where nothing is saved."""
    piece = largest_saved(compiled)
    if piece is None:
        return None
    function = compiled.program.functions["train_step"]
    forward = forward_steps(compiled, function)
    readers = tuple(dict.fromkeys(function.steps[number].node for number in piece.read if not forward[number]))
    saving = Saving(piece.label, piece.span.bytes, readers, codecs=_codecs(compiled))
    words = _scheme_without(compiled, piece)
    if not words:
        return saving
    less = _saved_by(compiled, replace(compiled.options, train=words))
    return replace(saving, words=f"--train {words}", bytes=less) if less > 0 else saving


def _codecs(compiled: Compiled) -> tuple[tuple[str, int], ...]:
    """What each codec saves where it has all saved tensors; nothing where the user has chosen."""
    if compiled.options.save.text:
        return ()
    found = [(f"--save {each}", _saved_by(compiled, replace(compiled.options, save=parse_save(each))))
             for each in CODECS]  # fmt: skip
    return tuple(sorted((each for each in found if each[1] > 0), key=lambda each: -each[1]))


def _saved_by(compiled: Compiled, options: Options) -> int:
    """Bytes of the RAM that other options save; 0 where they do not suit the model."""
    try:
        other = compile_model(compiled.source, options).program
    except UserError:
        return 0
    program = compiled.program
    return program.arena_bytes + program.params_bytes - other.arena_bytes - other.params_bytes


def _scheme_without(compiled: Compiled, piece: Piece) -> str:
    """last:K that begins behind the layers whose gradients need a piece; "" where that is no layer, or all are."""
    needed = set(weight_gradients_from(compiled, piece))
    model = layers(load(compiled.source, compiled.options))
    behind = [number for number, layer in enumerate(model) if needed.intersection(layer.parameters)]
    count = len(model) - 1 - max(behind) if behind else 0
    return f"last:{count}" if count > 0 else ""


def uses_as_dict(compiled: Compiled) -> dict[str, dict[str, int]]:
    """Bytes by use, for --json."""
    return {"arena": arena_uses(compiled), "params": params_uses(compiled)}


def account(
    compiled: Compiled, memory: Memory, board: Board, title: str, fits: bool, built: bool, saving: Saving | None,
    budget: Budget, compiler: str | None = None,
) -> str:  # fmt: skip
    """The page as text.

    Args:
        budget: of RAM and of flash, in place of what the board has.
        compiler: that builds the firmware; None for the board's first.
    """
    program = compiled.program
    function = peak_function(program)
    number = peak_step(function)
    node = function.steps[number].node if function.steps else "-"
    bound = program.lower_bound
    rest = "the lower bound is the same" if program.arena_bytes == bound else f"the lower bound is {bound:,}"
    macs = program.functions["infer"].macs
    train = program.functions.get("train_step")
    step = f" · {train.macs:,} a training step" if train else ""
    params = [(use, size) for use, size in params_uses(compiled).items() if size]
    ram: list[tuple[str, int | None, str]] = [("weights", memory.weights, _of_weights(params))]
    ram += [(f"  {use}", size, "") for use, size in params] if len(params) > 1 else []
    ram += [("arena", memory.arena, f"peak in step {number} of {function.name} ({node}); {rest}")]
    ram += [(f"  {use}", size, "") for use, size in arena_uses(compiled).items() if size]
    ram += [("stack", memory.stack, _of_stack(memory, built))]
    ram += [("link", memory.link, "frames and variables of the device")] if built else []
    flash: list[tuple[str, int | None, str]] = [("text", memory.text, "code and constant tables")] if built else []
    flash += [("weights", memory.flash_weights, "frozen weights, and what the trained ones start from")]
    of_ram, of_flash = _limits(board, budget)
    lines = [
        f"{title}: {'fits' if fits else 'does not fit'}",
        "",
        f"RAM    {memory.ram:>16,} B{of_ram}",
        *(f"  {use:<17}{size:>10,}   {why}".rstrip() for use, size, why in ram),
        f"Flash  {memory.flash:>16,} B{of_flash}",
        *(f"  {use:<17}{size:>10,}   {why}".rstrip() for use, size, why in flash),
        f"Work   {macs:>16,} MACs an inference{step}",
        *work_lines(program, board, compiler),
        *(f"Walk   {name}: {walk.text()}" for name, walk in compiled.walks.items()),
    ]
    return "\n".join([*lines, *([f"Saves most: {saving.text()}"] if saving else [])])


def _of_weights(params: list[tuple[str, int]]) -> str:
    if not params:
        return "all are in flash"
    return "trained" if len(params) == 1 else "trained, and what training keeps from step to step"


def _of_stack(memory: Memory, built: bool) -> str:
    if memory.stack_counted:
        return f"reserved; the worst case over all calls is {memory.stack_counted:,}"
    return "reserved; not counted: a frame has no fixed size" if built and memory.stack else "reserved"


def _limits(board: Board, budget: Budget) -> tuple[str, str]:
    sizes = {region.name: region.size for region in board.memory}
    regions = {use: board.region(use).name for use in ("arena", "text")} if sizes else {}
    of_ram = f" of {sizes[regions['arena']]:,} B" if sizes else ""
    shared = bool(sizes) and regions["arena"] == regions["text"]
    of_flash = "" if not sizes else " in the same memory" if shared else f" of {sizes[regions['text']]:,} B"
    if budget.ram is not None:
        of_ram = f" of {budget.ram:,} B (--ram)"
    if budget.flash is not None:
        of_flash = f" of {budget.flash:,} B (--flash)"
    return of_ram, of_flash


def steps_text(functions: dict[str, list[dict[str, Any]]]) -> list[str]:
    """A table for each function of `step_rows`."""
    lines = []
    for name, rows in functions.items():
        cells = [
            (
                row["step"], row["node"], row["kernel"], row["macs"], row["live_bytes"],
                " ".join(f"{offset:,}" for offset in row["offsets"]),
            )
            for row in rows
        ]
        lines += ["", table((name, "node", "kernel", "MACs", "bytes in use", "writes at"), cells)]
    return lines
