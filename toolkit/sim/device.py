"""The generated C as firmware of a board, in an emulator: driven over the serial line like the real board."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codegen.board import Board
from codegen.build import FirmwareImage, build_firmware
from codegen.emit import emit
from codegen.program import Array
from codegen.project import write_project
from toolkit import __version__
from toolkit.link.messages import Region, Sample
from toolkit.link.session import Session
from toolkit.link.streams import Stream
from toolkit.pipeline import Compiled
from toolkit.sim.emulator import Emulator
from toolkit.sim.linked import LinkedBackend
from toolkit.sim.spike import start_emulator

PAINT = 0xA5
_START_SECONDS = 20.0
_RUN_SECONDS = 600.0
# Requests to an emulator, which gets no time for seconds on a PC that is busy; one that has died is noticed at once.
_SOME = 15
# Requests over a line that something was put into, which may be bad.
_MANY = 200


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


class DeviceBackend(LinkedBackend):
    """A model on an emulated board.

    Args:
        profile: of the board; its own core for None.
        compiler: by name; the best found for None.
        direct: exchange arrays through the emulator's memory where it lets one, rather than over the serial line.
        flash: a file that keeps what the firmware saves; see Emulator.
        through: puts something between the session and the serial line.
        timeout: of the session.

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
        flash: Path | None = None,
        through: Callable[[Stream], Stream] | None = None,
        timeout: float = 2.0,
    ) -> None:
        self.target = board.with_profile(profile)
        self._emulator: Emulator | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="edgetrain-"))
        try:
            self.image = self._build(compiled, compiler)
            self._emulator = self._emulate(flash)
            self._direct = direct and self._emulator.has_memory
            self._emulator.rest()
            line = self._emulator.stream
            session = Session(line, _START_SECONDS, timeout, _RUN_SECONDS, _SOME)
            if through is not None:
                session = Session(through(line), timeout=timeout, run_timeout=_RUN_SECONDS, attempts=_MANY)
            super().__init__(compiled, session, board.id)
        except BaseException:
            self.close()
            raise

    def _build(self, compiled: Compiled, compiler: str | None) -> FirmwareImage:
        program, tool = compiled.program, f"edgetrain {__version__}"
        emit(program, self._folder, tool)
        write_project(self._folder, program, self.target, tool)
        return build_firmware(self._folder, self.target, compiler, program.optimize)

    def _emulate(self, flash: Path | None) -> Emulator:
        return start_emulator(self.image.elf, self.target, flash)

    @property
    def emulator(self) -> Emulator:
        """The emulator that the firmware runs in."""
        assert self._emulator is not None
        return self._emulator

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

    def _sample(self, inputs: Sequence[Array], label: Array | None = None) -> Sample | None:
        if not self._direct:
            return super()._sample(inputs, label)
        sample = self.bytes_of(inputs, label)
        self._write(Region.INPUT, sample.inputs)
        if sample.label:  # a model that only infers has no place for one
            self._write(Region.LABEL, sample.label)
        return None

    def _read(self, region: Region) -> bytes:
        if not self._direct:
            return super()._read(region)
        return self.emulator.peek(*self.session.board.regions[region])

    def _write(self, region: Region, data: bytes, offset: int = 0) -> None:
        if self._direct:
            self.emulator.poke(self.session.board.regions[region][0] + offset, data)
        else:
            super()._write(region, data, offset)
