"""Planned bytes against the linker's and those that a run in the emulator touches; the peak beside its bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from codegen.board import load_board
from codegen.program import aligned
from toolkit.bench.rv32 import LOSS, TARGET
from toolkit.errors import UserError
from toolkit.fit.candidates import schemes as suitable
from toolkit.pipeline import Compiled, Options, compile_model, load
from toolkit.sim.device import DeviceBackend
from toolkit.sim.parity import random_samples
from toolkit.train.codecs import parse_save
from toolkit.train.step import TrainingOptions

# Of a request: what the firmware answers soon takes long where many processes share this machine.
_PATIENCE = 60.0
# For all saved tensors of `--train all`, beside the schemes, each of which keeps its tensors as they are.
SAVES = ("recompute", "fp16", "bf16", "int8", "mask:2")


@dataclass(frozen=True)
class Case:
    """What is planned, linked and run: a model, --train, --save, and a profile of the board."""

    model: str
    scheme: str
    save: str
    profile: str

    def compiled(self) -> Compiled:
        """The model as planned."""
        training = TrainingOptions(loss=LOSS.get(self.model, "cross-entropy"))
        board = load_board(TARGET).with_profile(self.profile)
        options = Options(self.scheme, training, fma=board.fma, isa=board.cpu.isa, save=parse_save(self.save))
        return compile_model(self.model, options)


@dataclass(frozen=True)
class MemoryRow:
    """One model with one scheme.

    Attributes:
        save: in what form tensors wait for the backward pass; "" as they are.
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
    save: str
    profile: str
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
    def case(self) -> Case:
        """What was measured."""
        return Case(self.model, self.scheme, self.save, self.profile)

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


def memory_cases(model: str, profile: str, schemes: Sequence[str] = (), saves: Sequence[str] = ()) -> list[Case]:
    """What is measured of a model.

    Args:
        schemes, saves: each with each; without both, every scheme that suits the model, its tensors kept as they are,
            and every codec with --train all.
    """
    if schemes or saves:
        return [Case(model, scheme, save, profile) for scheme in schemes or ("all",) for save in saves or ("",)]
    words = dict.fromkeys(("none", "head", *suitable(load(model, Options()))))
    if "last:1" in words and "last:2" not in words:
        words |= {"last:2": None} if _suits(Case(model, "last:2", "", profile)) else {}
    found = [Case(model, scheme, "", profile) for scheme in words]
    coded = [Case(model, "all", save, profile) for save in SAVES]
    return found + [case for case in coded if _suits(case)]


def _suits(case: Case) -> bool:
    """Whether a model has what the case names: as many layers, or a tensor that the codec keeps."""
    try:
        case.compiled()
    except UserError:
        return False
    return True


def measure_memory(case: Case, kept: MemoryRow | None = None, compiler: str | None = None) -> MemoryRow:
    """Plans, links and runs one inference and, unless the scheme is none, one training step.

    Args:
        kept: measured earlier; it is given back as long as the plan is the same.
    """
    compiled = case.compiled()
    program = compiled.program
    planned = (program.arena_bytes, program.lower_bound, program.params_bytes)
    if kept is not None and (kept.arena, kept.bound, kept.params) == planned:
        return kept
    inputs, label = next(random_samples(compiled, 0))
    board = load_board(TARGET).with_profile(case.profile)
    with DeviceBackend(compiled, board, None, compiler, timeout=_PATIENCE) as device:
        device.infer(inputs)
        if compiled.trainable:
            assert label is not None
            device.train_step(inputs, label)
        touched, sizes = device.arena_touched(), device.image.sizes
    return MemoryRow(
        case.model, case.scheme, case.save, case.profile, *planned,
        # C has no empty arrays and structs: one byte stands for them.
        sizes["arena"] if program.arena_bytes else 0, sizes["params"] if program.params_bytes else 0,
        touched.arena_bytes, touched.outside, sizes["stack_counted"], touched.stack_bytes,
    )  # fmt: skip


def row_of(**values: Any) -> MemoryRow:
    """A row from what `as_dict` gave.

    Raises:
        TypeError: it is none.
    """
    return MemoryRow(**{name: value for name, value in values.items() if name in MemoryRow.__dataclass_fields__})


def memory_markdown(rows: Sequence[MemoryRow]) -> str:
    """A table, and how many rows are exact and at their bound."""
    lines = [
        "| model | options | arena | bound | linked | touched | weights | linked | stack counted | touched | exact |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        numbers = (
            row.arena, row.bound, row.linked_arena, row.touched_arena, row.params, row.linked_params,
            row.stack_counted, row.stack_touched,
        )  # fmt: skip
        cells = " | ".join(f"{number:,}" for number in numbers)
        options = f"--train {row.scheme}" + (f" --save {row.save}" if row.save else "")
        lines.append(f"| {row.model} | {options} | {cells} | {'yes' if row.exact else 'NO'} |")
    return "\n".join([*lines, "", _counted(rows)])


def memory_by_model(rows: Sequence[MemoryRow]) -> str:
    """One line for each model: how many cases, and how far the worst of them is from its bound."""
    lines = [
        "| model | cases | exact | at the bound | largest peak / bound | arena, bytes |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        worst = max(row.arena / row.bound for row in own)
        arenas = [row.arena for row in own]
        lines.append(
            f"| {model} | {len(own)} | {sum(row.exact for row in own)} | {sum(row.at_bound for row in own)} "
            f"| {worst:.4f} | {min(arenas):,} to {max(arenas):,} |"
        )
    return "\n".join([*lines, "", _counted(rows)])


def _counted(rows: Sequence[MemoryRow]) -> str:
    exact, bound = sum(row.exact for row in rows), sum(row.at_bound for row in rows)
    share = 100 * bound // max(len(rows), 1)
    return f"{exact} of {len(rows)} exact, {bound} at the lower bound ({share} %)"
