"""What one model takes on each board with each compiler: the firmware is linked, and its ELF file read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codegen.board import Board
from codegen.build import build_firmware, find_riscv_compilers
from codegen.emit import emit
from codegen.errors import BackendError
from codegen.project import write_project
from toolkit import __version__
from toolkit.errors import UserError
from toolkit.pipeline import Compiled
from toolkit.report.memory import memory_of, shortfalls


@dataclass(frozen=True)
class BoardSize:
    """A firmware, or why there is none. Bytes.

    Attributes:
        flash: what is programmed or loaded: code, constants, initial values.
        ram: variables, trained weights, arena and the reserved stack; code too where it runs from RAM.
        reason: which memory is too small and by how much; "" where it fits.
    """

    board: str
    isa: str
    compiler: str
    flash: int = 0
    ram: int = 0
    weights: int = 0
    arena: int = 0
    stack: int = 0
    reason: str = ""

    def cells(self) -> tuple[object, ...]:
        """A row of the table."""
        if self.reason:
            return (self.board, self.isa, self.compiler, self.reason, None, None, None, None)
        return (self.board, self.isa, self.compiler, self.flash, self.ram, self.weights, self.arena, self.stack)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def board_sizes(
    compiled_for: Callable[[str], tuple[Compiled, Board]],
    boards: Sequence[str],
    compilers: Sequence[str],
    progress: Callable[[int], None],
) -> list[BoardSize]:
    """A row for each board and each compiler that it allows; one row for a board that is too small.

    Args:
        compiled_for: target -> the model compiled for it, and the target.
        compilers: those to use; all that are installed if empty.

    Raises:
        UserError: none of the compilers is installed.
        BackendError: a compiler refuses the code.
    """
    installed = [compiler.name for compiler in find_riscv_compilers()]
    used = [name for name in installed if not compilers or name in compilers]
    if not used:
        raise UserError("no such compiler for RISC-V is installed", where="--compiler",
                        hint=f"found here: {', '.join(installed) or 'none'}; see edgetrain doctor")
    rows: list[BoardSize] = []
    for number, name in enumerate(boards):
        progress(number)
        compiled, board = compiled_for(name)
        falls = shortfalls(memory_of(compiled.program, board), board)
        if falls:
            reason = " · ".join(f"{fall.region} needs {fall.needs:,} B of {fall.size:,} B" for fall in falls)
            rows.append(BoardSize(board.id, board.cpu.isa, "any", reason=f"does not fit: {reason}"))
            continue
        rows += [_linked(compiled, board, compiler) for compiler in used if compiler in board.toolchain.compilers]
    progress(len(boards))
    return rows


def _linked(compiled: Compiled, board: Board, compiler: str) -> BoardSize:
    tool = f"edgetrain {__version__}"
    with tempfile.TemporaryDirectory(prefix="edgetrain-sizes-") as place:
        folder = Path(place)
        emit(compiled.program, folder, tool)
        write_project(folder, compiled.program, board, tool)
        try:
            image = build_firmware(folder, board, compiler, compiled.program.optimize)
        except BackendError as error:
            if "will not fit" not in str(error) and " is full" not in str(error):
                raise
            return BoardSize(board.id, board.cpu.isa, compiler, reason="does not fit once its code is counted")
    parts = image.sizes
    loaded = parts["text"] + parts["rodata"] if board.loads_in_place else 0
    return BoardSize(
        board.id, board.cpu.isa, compiler, image.flash_bytes, image.ram_bytes + loaded,
        parts["params"], parts["arena"], parts["stack"],
    )  # fmt: skip


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown; numbers with thousands apart, to the right."""

    def line(cells: Sequence[object]) -> str:
        texts = ["" if cell is None else f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells]
        return "| " + " | ".join(texts) + " |"

    right = [any(isinstance(row[column], int) for row in rows) for column in range(len(header))]
    return "\n".join([line(header), line(["---:" if number else "---" for number in right]), *map(line, rows)])
