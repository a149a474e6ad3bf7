"""Planned bytes against the linker's and those that a run in the emulator touches; the peak beside its bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from codegen.board import load_board
from codegen.program import aligned
from toolkit.bench.rv32 import LOSS, TARGET
from toolkit.pipeline import Options, compile_model
from toolkit.sim.device import DeviceBackend
from toolkit.sim.parity import random_samples
from toolkit.train.step import TrainingOptions


@dataclass(frozen=True)
class MemoryRow:
    """One model with one scheme.

    Attributes:
        arena, params: bytes as planned.
        bound: most bytes alive at once: no placement needs less.
        linked_arena, linked_params: bytes of the sections of the firmware.
        touched_arena: up to the highest byte that one inference and one training step have written.
        outside: whether they wrote between the sections.
        stack_counted: worst case over all calls; 0 where a frame has no fixed size.
        stack_touched: the deepest that was seen.
    """

    model: str
    scheme: str
    arena: int
    bound: int
    params: int
    linked_arena: int
    linked_params: int
    touched_arena: int
    outside: bool
    stack_counted: int
    stack_touched: int

    @property
    def exact(self) -> bool:
        """Planned = linked = touched, nothing else touched, and no more stack than was counted.

        The last buffer may end a few bytes before the arena does, where its size is no multiple of the alignment.
        """
        arena = self.arena == self.linked_arena == aligned(self.touched_arena)
        stack = not self.stack_counted or self.stack_touched <= self.stack_counted
        return arena and self.params == self.linked_params and not self.outside and stack

    @property
    def at_bound(self) -> bool:
        """Whether the placement wastes nothing."""
        return self.arena == self.bound

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "exact": self.exact, "at_bound": self.at_bound}


def measure_memory(model: str, scheme: str, profile: str, compiler: str | None = None) -> MemoryRow:
    """Plans, links and runs one inference and, unless the scheme is none, one training step."""
    training = TrainingOptions(loss=LOSS.get(model, "cross-entropy"))
    board = load_board(TARGET).with_profile(profile)
    compiled = compile_model(model, Options(train=scheme, training=training, fma=board.fma, isa=board.cpu.isa))
    inputs, label = next(random_samples(compiled, 0))
    with DeviceBackend(compiled, board, None, compiler) as device:
        device.infer(inputs)
        if compiled.trainable:
            assert label is not None
            device.train_step(inputs, label)
        touched, sizes = device.arena_touched(), device.image.sizes
    program = compiled.program
    return MemoryRow(
        model, scheme, program.arena_bytes, program.lower_bound, program.params_bytes,
        # C has no empty arrays and structs: one byte stands for them.
        sizes["arena"] if program.arena_bytes else 0, sizes["params"] if program.params_bytes else 0,
        touched.arena_bytes,
        touched.outside, sizes["stack_counted"], touched.stack_bytes,
    )  # fmt: skip


def memory_markdown(rows: Sequence[MemoryRow]) -> str:
    """A table, and how many rows are exact and at their bound."""
    lines = [
        "| model | --train | arena | bound | linked | touched | weights | linked | stack counted | touched | exact |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        numbers = (
            row.arena, row.bound, row.linked_arena, row.touched_arena, row.params, row.linked_params,
            row.stack_counted, row.stack_touched,
        )  # fmt: skip
        cells = " | ".join(f"{number:,}" for number in numbers)
        lines.append(f"| {row.model} | {row.scheme} | {cells} | {'yes' if row.exact else 'NO'} |")
    exact, bound = sum(row.exact for row in rows), sum(row.at_bound for row in rows)
    share = 100 * bound // max(len(rows), 1)
    return "\n".join([*lines, "", f"{exact} of {len(rows)} exact, {bound} at the lower bound ({share} %)"])
