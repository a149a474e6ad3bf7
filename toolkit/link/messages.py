"""Requests to a board and its answers, byte by byte as docs/SPEC.md has them; what goes wrong, as errors."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from toolkit.errors import UserError


class Request(IntEnum):
    """Types of requests; those of et_device.h."""

    INFO = 1
    WRITE = 2
    READ = 3
    INIT = 4
    INFER = 5
    TRAIN = 6
    UPDATE = 7
    SET = 8
    GET = 9
    STATS = 10
    EXIT = 11
    SAVE = 12
    LOAD = 13
    ROLLBACK = 14
    EVAL = 15
    RESET = 16
    INFER_CODED = 69
    TRAIN_CODED = 70
    EVAL_CODED = 79


# The same on a sample whose inputs are codes.
CODED = {
    Request.INFER: Request.INFER_CODED, Request.TRAIN: Request.TRAIN_CODED, Request.EVAL: Request.EVAL_CODED
}  # fmt: skip


class Region(IntEnum):
    """Memory of the board that can be read and written; CODED_INPUT only written, with offsets in values."""

    INPUT = 0
    LABEL = 1
    OUTPUT = 2
    PARAMS = 3
    ARENA = 4
    CODES = 5
    CODED_INPUT = 6


# INFO tells of these.
TOLD = (Region.INPUT, Region.LABEL, Region.OUTPUT, Region.PARAMS, Region.ARENA)
# An answer has the type of its request, and this; the others come unasked.
ANSWER = 0x80
DAMAGED = 0xFD
READY = 0xFE
TRAP = 0xFF
NO_SESSION = 4
OUT_OF_ORDER = 5
REFUSALS = {
    1: "does not know this request",
    2: "got a request of a wrong length",
    3: "has no such memory",
    NO_SESSION: "has been reset since the session began",
    OUT_OF_ORDER: "got requests out of order",
}
INFO = struct.Struct("<BH16s" + "QI" * len(TOLD))
RUN = struct.Struct("<Bi4s")
SCALARS = struct.Struct("<4sIIi")
STATS = struct.Struct("<QII")
SAVED = struct.Struct("<BIQ")
COUNTED = struct.Struct("<BiII")
WRITE_HEADER = 5
TRAP_FIELDS = struct.Struct("<QQQ")


class Unanswered(UserError):
    """No answer has come in the time, or to the attempts, that there were."""

    def __init__(self, request: Request) -> None:
        hint = "check the cable, the baud rate, and that the firmware was built by this version of edgetrain"
        super().__init__("the board does not answer", where=request.name, hint=hint)


class Refused(UserError):
    """The board does not do what was asked.

    Attributes:
        code: first byte of its answer.
    """

    def __init__(self, request: Request, code: int) -> None:
        super().__init__(f"the board {REFUSALS.get(code, f'refuses with {code}')}", where=request.name)
        self.code = code


class BoardReset(Refused):
    """The board has started over since the session began: what it had not saved is gone."""


class Trapped(UserError):
    """The board's core has trapped and the firmware has ended.

    Attributes:
        cause, pc, value: mcause, mepc and mtval.
    """

    def __init__(self, cause: int, pc: int, value: int) -> None:
        super().__init__(
            f"the firmware trapped: mcause {cause} at {pc:#x}, mtval {value:#x}",
            hint="mcause 2 is an instruction that this core does not have: check isa in target.toml, or --profile",
        )
        self.cause, self.pc, self.value = cause, pc, value


@dataclass(frozen=True)
class Sample:
    """What a model works on, as it lies in the board's memory.

    Attributes:
        inputs: the whole region, or the codes of all its values.
        label: the whole region; empty for inference.
        coded: which of the two the inputs are.
    """

    inputs: bytes
    label: bytes = b""
    coded: bool = False


@dataclass(frozen=True)
class Info:
    """What a board says of itself.

    Attributes:
        sha256: first 16 bytes of the model's digest.
        samples: INFER, TRAIN and EVAL take a sample with them.
        codes: its inputs may be codes.
        payload_bytes: largest payload of a frame.
        regions: address and size in bytes.
    """

    name: str
    sha256: bytes
    trainable: bool
    accumulates: bool
    fma: bool
    stores: bool
    samples: bool
    codes: bool
    payload_bytes: int
    regions: dict[Region, tuple[int, int]]


@dataclass(frozen=True)
class Outcome:
    """What a function of the model gave.

    Attributes:
        status: number of the et_status.
        failed_step: step of the function that gave the last status other than 0; -1 for none.
        loss: bits of the float32, little-endian.
    """

    status: int
    failed_step: int
    loss: bytes


@dataclass(frozen=True)
class Saved:
    """What SAVE, LOAD or ROLLBACK gave.

    Attributes:
        status: number of the et_status; with 0, the rest counts.
        sequence: one more with each state that was saved.
        mark: what `save` was given.
    """

    status: int
    sequence: int
    mark: int


@dataclass(frozen=True)
class Counted:
    """How many of the samples in one call have their largest output where the label has it."""

    status: int
    failed_step: int
    samples: int
    correct: int


@dataclass(frozen=True)
class Scalars:
    """Scalars of the model's context. learning_rate is exact: a float32."""

    learning_rate: float
    seed: int
    step: int
    failed_step: int


@dataclass(frozen=True)
class Stats:
    """Measured on the board.

    Attributes:
        instructions: of the last infer, train, update or init.
        stack_bytes, arena_bytes: most that was used since reset.
    """

    instructions: int
    stack_bytes: int
    arena_bytes: int


def unpack(structure: struct.Struct, answer: bytes, request: Request) -> tuple[Any, ...]:
    """The fields of an answer."""
    if len(answer) != structure.size:
        raise unknown(request)
    return structure.unpack(answer)


def unknown(request: Request) -> UserError:
    hint = "was the firmware built by this version of edgetrain?"
    return UserError("the board answers in a form that is not known here", where=request.name, hint=hint)
