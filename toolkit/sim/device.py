"""The generated C as firmware of a board, in an emulator: driven over the serial line like the real board."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codegen.board import Board
from codegen.build import FirmwareImage, build_firmware
from codegen.emit import emit
from codegen.program import ALIGNMENT, Array, Port, aligned
from codegen.project import write_project
from toolkit import __version__
from toolkit.link.session import Outcome, Region, Session, Stats
from toolkit.pipeline import Compiled
from toolkit.sim.backend import STATUS, Backend, read_params
from toolkit.sim.emulator import Emulator
from toolkit.sim.spike import start_emulator

PAINT = 0xA5
_START_SECONDS = 20.0
_RUN_SECONDS = 600.0


@dataclass(frozen=True)
class Touched:
    """What has been written of the RAM that was painted at start.

    Attributes:
        arena_bytes: up to the highest byte of the arena.
        stack_bytes: down to the lowest word of the stack.
        outside: whether anything between params and arena, or between arena and reserved stack, was written.
    """

    arena_bytes: int
    stack_bytes: int
    outside: bool


class DeviceBackend(Backend):
    """A model on an emulated board.

    Args:
        profile: of the board; its own core for None.
        compiler: by name; the best found for None.
        direct: exchange arrays through the emulator's memory where it lets one, rather than over the serial line.

    Raises:
        BackendError: no compiler, or the firmware does not fit.
        UserError: no emulator, or it does not start.
    """

    def __init__(
        self,
        compiled: Compiled,
        board: Board,
        profile: str | None = None,
        compiler: str | None = None,
        direct: bool = True,
    ) -> None:
        super().__init__(compiled)
        self.name = board.id
        self.target = board.with_profile(profile)
        self._emulator: Emulator | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="edgetrain-"))
        try:
            self.image = self._build(compiler)
            self._emulator = start_emulator(self.image.elf, self.target)
            self._direct = direct and self._emulator.has_memory
            self.session = Session(
                self._emulator.stream, wait_ready=_START_SECONDS, run_timeout=_RUN_SECONDS, attempts=2
            )
        except BaseException:
            self.close()
            raise

    def _build(self, compiler: str | None) -> FirmwareImage:
        program, tool = self.compiled.program, f"edgetrain {__version__}"
        emit(program, self._folder, tool)
        write_project(self._folder, program, self.target, tool)
        return build_firmware(self._folder, self.target, compiler)

    @property
    def emulator(self) -> Emulator:
        """The emulator that the firmware runs in."""
        assert self._emulator is not None
        return self._emulator

    @property
    def learning_rate(self) -> float:
        """The context's learning rate."""
        return self.session.scalars().learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self.session.set_scalars(learning_rate=value)

    @property
    def seed(self) -> int:
        """The context's seed."""
        return self.session.scalars().seed

    @seed.setter
    def seed(self, value: int) -> None:
        self.session.set_scalars(seed=value)

    @property
    def step(self) -> int:
        """The context's step counter."""
        return self.session.scalars().step

    @step.setter
    def step(self, value: int) -> None:
        self.session.set_scalars(step=value)

    @property
    def failed_step(self) -> int:
        """Step of the function that gave the last status other than ET_OK."""
        return self.session.scalars().failed_step

    def init(self) -> None:
        _check(self.session.init())

    def infer(self, inputs: Sequence[Array]) -> list[Array]:
        program = self.compiled.program
        self._write(Region.INPUT, _join(inputs, program.inputs))
        _check(self.session.infer())
        return _split(self._read(Region.OUTPUT), program.outputs)

    def train_step(self, inputs: Sequence[Array], label: Array) -> tuple[str, np.float32]:
        program = self.compiled.program
        assert program.label is not None
        self._write(Region.INPUT, _join(inputs, program.inputs))
        self._write(Region.LABEL, np.ascontiguousarray(label, program.label.dtype).tobytes())
        outcome = self.session.train()
        return STATUS[outcome.status], np.float32(np.frombuffer(outcome.loss, np.float32)[0])

    def update(self) -> str:
        return STATUS[self.session.update().status]

    def state(self) -> dict[str, Array]:
        return read_params(self.compiled.program, self._read(Region.PARAMS))

    def set_state(self, values: dict[str, Array]) -> None:
        offsets = self.compiled.program.param_offsets()
        for buffer in self.compiled.program.params:
            if buffer.name in values:
                self._write(Region.PARAMS, buffer.pack(values[buffer.name]).tobytes(), offsets[buffer.name])

    def stats(self) -> Stats:
        """Instructions of the last call, and high-water marks."""
        return self.session.stats()

    def arena_touched(self) -> Touched:
        """How far arena and stack have been used since the start, and whether anything else was.

        Without the emulator's memory, `outside` only says whether the stack outgrew its reserve.
        """
        at = self.image.symbols
        stats = self.session.stats()
        reserved = at["__stack_top"] - at["__stack_limit"]
        if not self.emulator.has_memory:
            return Touched(stats.arena_bytes, stats.stack_bytes, stats.stack_bytes > reserved)
        arena = self._painted("et_arena_start", "et_arena_end")
        used = np.flatnonzero(~arena)
        gaps = (("et_params_end", "et_arena_start"), ("et_arena_end", "__stack_limit"))
        intact = all(bool(self._painted(first, last).all()) for first, last in gaps)
        return Touched(int(used[-1]) + 1 if used.size else 0, stats.stack_bytes, not intact)

    def close(self) -> None:
        if self._emulator is not None:
            self._emulator.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _painted(self, first: str, last: str) -> Array:
        """For each byte between two symbols, whether it still has its paint."""
        start, end = self.image.symbols[first], self.image.symbols[last]
        memory: Array = np.frombuffer(self.emulator.peek(start, max(end - start, 0)), np.uint8)
        return np.equal(memory, PAINT)

    def _read(self, region: Region) -> bytes:
        address, size = self.session.board.regions[region]
        return self.emulator.peek(address, size) if self._direct else self.session.read_region(region)

    def _write(self, region: Region, data: bytes, offset: int = 0) -> None:
        if self._direct:
            self.emulator.poke(self.session.board.regions[region][0] + offset, data)
        else:
            self.session.write_region(region, data, offset)


def _join(arrays: Sequence[Array], ports: Sequence[Port]) -> bytes:
    """Arrays as they lie in the board's region: one after another, each aligned."""
    parts = []
    for value, port in zip(arrays, ports, strict=True):
        array = np.ascontiguousarray(value, port.dtype)
        if array.shape != port.shape:
            raise AssertionError(f"{port.name} is {array.shape}, not {port.shape}")
        parts.append(array.tobytes() + bytes(-array.nbytes % ALIGNMENT))
    return b"".join(parts)


def _split(memory: bytes, ports: Sequence[Port]) -> list[Array]:
    """The inverse of `_join`."""
    arrays, start = [], 0
    for port in ports:
        arrays.append(np.frombuffer(memory[start : start + port.bytes], port.dtype).reshape(port.shape).copy())
        start += aligned(port.bytes)
    return arrays


def _check(outcome: Outcome) -> None:
    if outcome.status:
        raise AssertionError(f"the board gives {STATUS[outcome.status]} at step {outcome.failed_step}")
