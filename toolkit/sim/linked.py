"""A model at the other end of a serial line, whatever it runs on, as one more backend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codegen.program import ALIGNMENT, Array, Port, aligned
from toolkit.errors import UserError
from toolkit.link.codes import Codes
from toolkit.link.messages import Counted, Outcome, Region, Sample, Stats
from toolkit.link.session import Session
from toolkit.pipeline import Compiled
from toolkit.sim.backend import STATUS, Backend, read_params


class LinkedBackend(Backend):
    """A model that a session speaks to.

    Args:
        session: with a board whose firmware was made from this model.

    Raises:
        UserError: it was made from another model, or with other options.
    """

    def __init__(self, compiled: Compiled, session: Session, name: str) -> None:
        super().__init__(compiled)
        self.name = name
        self.session = session
        self._codes: Codes | None = None
        check_firmware(compiled, session, name)

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

    def use_codes(self, codes: Codes | None) -> bool:
        """From now on inputs all of whose values have codes are sent so; whether the board takes any."""
        self._codes = codes if self.session.board.codes else None
        if self._codes is not None:
            self.session.set_codes(self._codes.table)
        return self._codes is not None

    def init(self) -> None:
        _check(self.session.init())

    def put_sample(self, inputs: Sequence[Array], label: Array) -> None:
        """Writes inputs and label without running anything."""
        sample = self.bytes_of(inputs, label)
        self._write(Region.INPUT, sample.inputs)
        self._write(Region.LABEL, sample.label)

    def infer(self, inputs: Sequence[Array]) -> list[Array]:
        program = self.compiled.program
        _check(self.session.infer(self._sample(inputs)))
        return _split(self._read(Region.OUTPUT), program.outputs)

    def train_step(self, inputs: Sequence[Array], label: Array) -> tuple[str, np.float32]:
        outcome = self.session.train(self._sample(inputs, label))
        return STATUS[outcome.status], np.float32(np.frombuffer(outcome.loss, np.float32)[0])

    def evaluate(self, inputs: Sequence[Array], label: Array) -> Counted:
        """How many rows of the batch the board gets right."""
        return self.session.evaluate(self._sample(inputs, label))

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

    def close(self) -> None:
        self.session.close()

    def _sample(self, inputs: Sequence[Array], label: Array | None = None) -> Sample | None:
        """What goes with a request; None where it is in the board's memory already."""
        sample = self.bytes_of(inputs, label)
        codes = None if self._codes is None else self._codes.encoded(np.frombuffer(sample.inputs, np.float32))
        return sample if codes is None else Sample(codes, sample.label, coded=True)

    def bytes_of(self, inputs: Sequence[Array], label: Array | None = None) -> Sample:
        """A sample as it lies in the board's memory."""
        program = self.compiled.program
        joined = _join(inputs, program.inputs)
        if label is None:
            return Sample(joined)
        assert program.label is not None
        return Sample(joined, np.ascontiguousarray(label, program.label.dtype).tobytes())

    def _read(self, region: Region) -> bytes:
        return self.session.read_region(region)

    def _write(self, region: Region, data: bytes, offset: int = 0) -> None:
        self.session.write_region(region, data, offset)


def check_firmware(compiled: Compiled, session: Session, name: str) -> None:
    """Raises UserError unless the firmware at the other end was made from this model with these options."""
    program, board = compiled.program, session.board
    told, wanted = board.sha256, bytes.fromhex(str(program.facts["sha256"]))[: len(board.sha256)]
    if told != wanted:
        raise UserError(
            f"its firmware holds another model: '{board.name}', sha256 {told.hex()[:8]}..., not {wanted.hex()[:8]}...",
            where=name,
            hint="compile this model for the board and flash it, or name the model that it holds",
        )
    label = program.label.bytes if program.label else 0
    # The structs of a firmware without inputs or params hold one byte.
    sizes = {Region.LABEL: label, Region.PARAMS: program.params_bytes, Region.ARENA: program.arena_bytes}
    found = {region: board.regions[region][1] for region in sizes}
    told_flags = (board.trainable, board.fma, board.accumulates)
    flags = (compiled.trainable, program.fma, "update" in program.functions)
    if found != sizes or told_flags != flags:
        raise UserError(
            "its firmware was compiled from this model, but with other options",
            where=name,
            hint="give the options of its manifest.json: --train, --optimizer, --batch, --accumulate, --quant, --fma",
        )


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
