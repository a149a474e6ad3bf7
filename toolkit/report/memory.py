"""RAM and flash of a program on a board, by use, to the byte; and whether it fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from codegen.board import Board, Use
from codegen.program import Function, Program, aligned, needs_image
from codegen.schedule import lifetimes


@dataclass(frozen=True)
class Memory:
    """Bytes by use.

    Attributes:
        weights: trained weights and optimizer states; frozen weights are in flash.
        link: buffers of the link and variables of the device: .data and .bss.
        text: code and constant tables, without weights; 0 where no firmware was built.
        flash_weights: frozen weights, and the initial values of the trained ones.
        stack: reserved by the linker script.
        stack_counted: the most of it that is ever used; 0 where no firmware was built, or a frame has no fixed size.
    """

    weights: int
    arena: int
    stack: int
    link: int
    text: int
    flash_weights: int
    stack_counted: int = 0

    @property
    def ram(self) -> int:
        """All of RAM."""
        return self.weights + self.arena + self.stack + self.link

    @property
    def flash(self) -> int:
        """All of flash."""
        return self.text + self.flash_weights

    def as_dict(self) -> dict[str, dict[str, int]]:
        """As `plan --json` gives it."""
        return {
            "ram": {
                "weights": self.weights, "arena": self.arena, "stack": self.stack, "link": self.link, "total": self.ram,
            },
            "flash": {"text": self.text, "weights": self.flash_weights, "total": self.flash},
        }


@dataclass(frozen=True)
class Shortfall:
    """A memory of the board that is too small.

    Attributes:
        shares: use -> bytes, of all that lies in it.
    """

    region: str
    needs: int
    size: int
    shares: Mapping[str, int]

    @property
    def excess(self) -> int:
        """Bytes too many."""
        return self.needs - self.size


def memory_of(program: Program, board: Board, sizes: Mapping[str, int] | None = None) -> Memory:
    """The account of a program.

    Args:
        sizes: sections of the linked firmware (codegen.build); without them text and link are 0.
    """
    stack = 0 if board.is_host else board.board.stack_bytes
    weights = program.flash_bytes
    if sizes is None:
        return Memory(program.params_bytes, program.arena_bytes, stack, 0, 0, weights)
    # Initial values of variables lie in flash too, unless a loader puts the variables themselves in place.
    copied = 0 if board.is_host or board.loads_in_place else sizes["data"]
    text = sizes["text"] + sizes["rodata"] + copied - weights
    link, counted = sizes["data"] + sizes["bss"], sizes.get("stack_counted", 0)
    return Memory(program.params_bytes, program.arena_bytes, stack, link, text, weights, counted)


@dataclass(frozen=True)
class Budget:
    """Bytes that a plan may use, where that is not all that the board has."""

    ram: int | None = None
    flash: int | None = None

    def __bool__(self) -> bool:
        return self.ram is not None or self.flash is not None

    def words(self) -> str:
        """As on the command line."""
        named = (("--ram", self.ram), ("--flash", self.flash))
        return " ".join(f"{option} {size}" for option, size in named if size is not None)


def shortfalls(memory: Memory, board: Board, budget: Budget | None = None) -> list[Shortfall]:
    """The memories of a board that are too small, those of this PC never are; and what a budget is too small for."""
    over = _over_budget(memory, budget) if budget is not None else []
    return over + ([] if board.is_host else _over_board(memory, board))


def _over_budget(memory: Memory, budget: Budget) -> list[Shortfall]:
    ram = {"data": memory.link, "weights": memory.weights, "arena": memory.arena, "stack": memory.stack}
    limits = (("RAM (--ram)", budget.ram, ram), ("flash (--flash)", budget.flash, {"text": memory.flash}))
    found = [Shortfall(name, sum(share.values()), size, share) for name, size, share in limits if size is not None]
    return [fall for fall in found if fall.excess > 0]


def _over_board(memory: Memory, board: Board) -> list[Shortfall]:
    uses: dict[Use, int] = {
        "text": memory.flash,
        "data": memory.link,
        "weights": memory.weights,
        "arena": memory.arena,
        "stack": memory.stack,
    }
    shares: dict[str, dict[str, int]] = {}
    for use, size in uses.items():
        shares.setdefault(board.region(use).name, {})[use] = size
    sizes = {region.name: region.size for region in board.memory}
    found = [Shortfall(name, sum(share.values()), sizes[name], share) for name, share in shares.items()]
    return [fall for fall in found if fall.excess > 0]


def with_room(board: Board) -> Board:
    """The same board with memories that hold anything: to learn the size of what does not fit."""
    room = 1 << 28
    return replace(board, memory=tuple(replace(region, size=max(region.size, room)) for region in board.memory))


def largest_causes(program: Program, region_uses: Mapping[str, int], count: int = 3) -> list[tuple[str, int]]:
    """What takes most of a memory: trained tensors, and the tensors alive at the peak of the arena.

    Args:
        region_uses: the uses that lie in the memory, as in Shortfall.shares.
    """
    causes: dict[str, int] = {}
    if "weights" in region_uses:
        causes.update({buffer.name: aligned(buffer.bytes) for buffer in program.params})
    if "arena" in region_uses:
        function = peak_function(program)
        step = peak_step(function)
        causes.update(
            {_tensor_label(span.name): span.bytes for span in lifetimes(function) if span.first <= step <= span.last}
        )
    if "text" in region_uses:
        stored = (*program.flash, *(buffer for buffer in program.params if needs_image(buffer)))
        causes.update({f"{buffer.name} in flash": aligned(buffer.bytes) for buffer in stored})
    return sorted(causes.items(), key=lambda item: -item[1])[:count]


def peak_function(program: Program) -> Function:
    """The function that needs the most arena."""
    return max(program.functions.values(), key=lambda function: function.peak)


def peak_step(function: Function) -> int:
    """The first step during which the most bytes are alive."""
    live = live_bytes(function)
    return live.index(max(live)) if live else 0


def live_bytes(function: Function) -> list[int]:
    """Bytes of the arena in use during each step."""
    live = [0] * len(function.steps)
    for span in lifetimes(function):
        for step in range(span.first, span.last + 1):
            live[step] += span.bytes
    return live


def step_rows(function: Function) -> list[dict[str, Any]]:
    """For each step: number, node, kernel, multiply-accumulates, bytes in use, and what it writes where."""
    live = live_bytes(function)
    rows = []
    for number, step in enumerate(function.steps):
        roots = [function.storage.get(name, name) for name in step.writes()]
        offsets = [function.offsets[root] for root in roots if root in function.offsets]
        rows.append(
            {
                "step": number,
                "node": step.node,
                "kernel": step.kernel,
                "macs": step.macs,
                "live_bytes": live[number],
                "writes": list(step.writes()),
                "offsets": offsets,
            }
        )
    return rows


def _tensor_label(name: str) -> str:
    return name.removesuffix(".out") + " output" if name.endswith(".out") else name
