"""A PC's session with a board: numbered requests, each executed at most once however often it is sent."""

from __future__ import annotations

import secrets
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from types import TracebackType
from typing import Any, Self

from toolkit.errors import UserError
from toolkit.link.frames import Decoder, Frame, encode
from toolkit.link.streams import Stream, open_stream


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


class Region(IntEnum):
    """Memory of the board that can be read and written."""

    INPUT = 0
    LABEL = 1
    OUTPUT = 2
    PARAMS = 3
    ARENA = 4


ANSWER = 0x80
READY = 0xFE
TRAP = 0xFF
REFUSALS = {
    1: "does not know this request",
    2: "got a request of a wrong length",
    3: "has no such memory",
    4: "has been reset since the session began",
    5: "got requests out of order",
}
_INFO = struct.Struct("<BH16s" + "QI" * len(Region))
_RUN = struct.Struct("<Bi4s")
_SCALARS = struct.Struct("<4sIIi")
_STATS = struct.Struct("<QII")
_SAVED = struct.Struct("<BIQ")
_COUNTED = struct.Struct("<BiII")
_NO_SESSION = 4
_TRAP = struct.Struct("<QQQ")
_WRITE_HEADER = 5
# Bytes of memory in one frame of a line that damages nearly everything.
_LEAST_CHUNK = 32
# Seconds that an answer may always take, however quick the board has been.
_LEAST_WAIT = 0.03
# Part of a new measurement in the expected time of an answer.
_SHARE = 0.125


class BoardReset(UserError):
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
class Info:
    """What a board says of itself.

    Attributes:
        sha256: first 16 bytes of the model's digest.
        payload_bytes: largest payload of a frame.
        regions: address and size in bytes.
    """

    name: str
    sha256: bytes
    trainable: bool
    accumulates: bool
    fma: bool
    stores: bool
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


@dataclass
class Traffic:
    """What has gone over the line.

    Attributes:
        sent, received: bytes.
        retries: requests that were sent again.
    """

    sent: int = 0
    received: int = 0
    requests: int = 0
    retries: int = 0


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


class Session:
    """Requests to a board.

    A request is sent again when its answer takes much longer than answers to such requests have taken; that is safe,
    for the board executes it once. Memory is sent in frames that get smaller while the line damages them.

    Args:
        stream: see toolkit.link.streams.
        wait_ready: seconds to wait for a board that is just starting; 0 for one that runs already.
        timeout: most seconds until a request is sent again.
        run_timeout: seconds until a request that runs the model, or the flash, is given up.
        attempts: how often a request is sent at least, and how many timeouts pass, before it is given up.

    Raises:
        UserError: the board does not answer.
    """

    def __init__(
        self,
        stream: Stream,
        wait_ready: float = 0.0,
        timeout: float = 2.0,
        run_timeout: float = 120.0,
        attempts: int = 4,
    ) -> None:
        self._stream = stream
        self._decoder = Decoder()
        self._timeout, self._run_timeout, self._attempts = timeout, run_timeout, attempts
        self._usual: dict[tuple[Request, int], float] = {}
        self._chunk = 0xFFFF
        self.traffic = Traffic()
        if wait_ready:
            self._await_ready(wait_ready)
        self._begin()

    def _begin(self) -> None:
        self._sequence = secrets.randbelow(1 << 16)
        # Zero means none to the board.
        self._session = 1 + secrets.randbelow((1 << 32) - 1)
        self.board = self.info()

    @classmethod
    def open(cls, url: str, baud: int = 115200, timeout: float = 2.0) -> Session:
        """A session over a serial port, or any URL of pyserial.

        Raises:
            UserError: it cannot be opened, or nothing answers.
        """
        return cls(open_stream(url, baud), timeout=timeout)

    def info(self) -> Info:
        """The model and the memory of the board."""
        answer = self._request(Request.INFO, struct.pack("<I", self._session))
        flags, payload_bytes, digest, *places = _unpack(_INFO, answer[: _INFO.size], Request.INFO)
        regions = {region: (places[2 * region], places[2 * region + 1]) for region in Region}
        name = answer[_INFO.size :].decode("ascii", "replace")
        trainable, accumulates, fma, stores = (bool(flags & flag) for flag in (1, 2, 4, 8))
        return Info(name, digest, trainable, accumulates, fma, stores, payload_bytes, regions)

    def write_region(self, region: Region, data: bytes, offset: int = 0) -> None:
        """Writes bytes into the board's memory."""
        done = 0
        while done < len(data):
            header = struct.pack("<BI", region, offset + done)
            rest = data[done:]
            size = self._in_chunks(Request.WRITE, len(rest), _WRITE_HEADER, lambda n: header + rest[:n])[0]  # noqa: B023
            done += size

    def read_region(self, region: Region, length: int | None = None, offset: int = 0) -> bytes:
        """Bytes of the board's memory; all from `offset` on where no length is given."""
        length = self.board.regions[region][1] - offset if length is None else length
        data = b""
        while len(data) < length:
            place, left = offset + len(data), length - len(data)
            # An answer to an attempt with a larger frame may be the one that arrives: its length says what it holds.
            part = self._in_chunks(Request.READ, left, 1, lambda n: struct.pack("<BIH", region, place, n))[1]  # noqa: B023
            if not 0 < len(part) <= left:
                raise _unknown(Request.READ)
            data += part
        return data

    def init(self) -> Outcome:
        """Weights and states as they were compiled in."""
        return self._run(Request.INIT)

    def infer(self) -> Outcome:
        """Inference from the input region to the output region."""
        return self._run(Request.INFER)

    def train(self) -> Outcome:
        """One training step on the input and label regions."""
        return self._run(Request.TRAIN)

    def update(self) -> Outcome:
        """Applies the gradients that were accumulated."""
        return self._run(Request.UPDATE)

    def evaluate(self) -> Counted:
        """Inference on the input region, and how many outputs agree with the label region."""
        return Counted(*_unpack(_COUNTED, self._request(Request.EVAL, patience=self._run_timeout), Request.EVAL))

    def save(self, mark: int = 0) -> Saved:
        """Weights, states and scalars to flash.

        Args:
            mark: 64 bits to find there later.
        """
        return self._stored(Request.SAVE, struct.pack("<Q", mark))

    def load(self) -> Saved:
        """The newest state from flash, as the board does when it starts."""
        return self._stored(Request.LOAD)

    def rollback(self) -> Saved:
        """Gives up the newest state and loads the one before."""
        return self._stored(Request.ROLLBACK)

    def reset(self) -> None:
        """Starts the firmware over, and a session with it: it loads the newest state."""
        # Refused where the answer was lost: the second request has reached a board that knows no session.
        with suppress(BoardReset):
            self._request(Request.RESET)
        self.reopen()

    def reopen(self) -> None:
        """A session with a board that was reset.

        Raises:
            UserError: there is other firmware on it than before, or it does not answer.
        """
        before = self.board
        self._begin()
        if (self.board.sha256, self.board.regions) != (before.sha256, before.regions):
            raise UserError("other firmware runs on the board than at the start", where=self.board.name)

    def _stored(self, request: Request, payload: bytes = b"") -> Saved:
        return Saved(*_unpack(_SAVED, self._request(request, payload, patience=self._run_timeout), request))

    def set_scalars(
        self, learning_rate: float | None = None, seed: int | None = None, step: int | None = None
    ) -> None:
        """Sets those that are given."""
        given = (learning_rate is not None) | (seed is not None) << 1 | (step is not None) << 2
        self._request(Request.SET, struct.pack("<BfII", given, learning_rate or 0.0, seed or 0, step or 0))

    def scalars(self) -> Scalars:
        """Learning rate, seed, step and failed_step."""
        rate, seed, step, failed_step = _unpack(_SCALARS, self._request(Request.GET), Request.GET)
        return Scalars(struct.unpack("<f", rate)[0], seed, step, failed_step)

    def stats(self) -> Stats:
        """Counts of instructions and high-water marks."""
        return Stats(*_unpack(_STATS, self._request(Request.STATS), Request.STATS))

    def exit(self, code: int = 0) -> None:
        """Ends the firmware. The board may be gone before its answer is out."""
        try:
            self._request(Request.EXIT, bytes([code]), attempts=1)
        except (UserError, ConnectionError):
            return

    def close(self) -> None:
        """Closes the stream; the board runs on."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, request: Request) -> Outcome:
        return Outcome(*_unpack(_RUN, self._request(request, patience=self._run_timeout), request))

    def _in_chunks(
        self, request: Request, left: int, overhead: int, payload: Callable[[int], bytes]
    ) -> tuple[int, bytes]:
        """A request for as many bytes as the line takes in one frame: how many it was, and the answer.

        All attempts begin at the same place: whichever of them the board has executed, the bytes of the last are there.
        """
        most = self.board.payload_bytes - overhead
        size = 0

        def attempt() -> bytes:
            nonlocal size
            if size:
                self._chunk = max(self._chunk // 2, _LEAST_CHUNK)
            size = min(self._chunk, most, left)
            return payload(size)

        self._chunk = min(self._chunk, most)
        answer = self._request(request, attempt)
        self._chunk = min(2 * self._chunk, most)
        return size, answer

    def _request(
        self,
        request: Request,
        payload: bytes | Callable[[], bytes] = b"",
        patience: float = 0.0,
        attempts: int | None = None,
    ) -> bytes:
        """Sends a request until it is answered; the answer without its first byte.

        Args:
            payload: or what makes it for each attempt.
            patience: seconds to go on for, at least.

        Raises:
            UserError: no answer, a refusal, or a trap.
        """
        self._sequence = (self._sequence + 1) & 0xFFFF
        attempts = attempts or self._attempts
        start = time.monotonic()
        wait = 0.0
        done = 0
        while done < attempts or time.monotonic() - start < max(patience, attempts * self._timeout):
            sent_at = time.monotonic()
            # A zero first: what noise has left in the board's decoder ends there.
            data = payload if isinstance(payload, bytes) else payload()
            self._send(b"\0" + encode(Frame(request, self._sequence, data)))
            self.traffic.requests += not done
            self.traffic.retries += bool(done)
            done += 1
            kind = _kind(request, data)
            usual = self._usual.get(kind, self._timeout)
            wait = min(max(2 * wait, _LEAST_WAIT + 4 * usual), self._timeout)
            answer = self._answer(request | ANSWER, wait)
            if answer is None:
                continue
            taken = time.monotonic() - sent_at
            self._usual[kind] = _SHARE * taken + (1 - _SHARE) * self._usual.get(kind, taken)
            if not answer.payload or answer.payload[0] != 0:
                code = answer.payload[0] if answer.payload else 0
                refused = BoardReset if code == _NO_SESSION else UserError
                raise refused(f"the board {REFUSALS.get(code, f'refuses with {code}')}", where=request.name)
            return answer.payload[1:]
        raise UserError(
            "the board does not answer",
            where=request.name,
            hint="check the cable, the baud rate, and that the firmware was built by this version of edgetrain",
        )

    def _answer(self, kind: int, timeout: float) -> Frame | None:
        """The answer to the request just sent; answers to older ones are dropped. None where it is not coming."""
        end = time.monotonic() + timeout
        dropped = self._decoder.dropped
        while True:
            for frame in self._receive(end):
                if frame.type == TRAP and len(frame.payload) == _TRAP.size:
                    raise Trapped(*_TRAP.unpack(frame.payload))
                if frame.type == kind and frame.sequence == self._sequence:
                    return frame
            # A damaged frame was most likely the answer: there is nothing to wait for.
            if time.monotonic() >= end or self._decoder.dropped != dropped:
                return None

    def _await_ready(self, timeout: float) -> None:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            for frame in self._receive(end):
                if frame.type == READY:
                    return
                if frame.type == TRAP and len(frame.payload) == _TRAP.size:
                    raise Trapped(*_TRAP.unpack(frame.payload))
        raise UserError("the board does not start", hint="was the firmware built for it?")

    def _receive(self, end: float) -> list[Frame]:
        try:
            data = self._stream.receive(max(end - time.monotonic(), 0.0))
        except ConnectionError as error:
            raise _gone(error) from None
        self.traffic.received += len(data)
        return self._decoder.feed(data)

    def _send(self, data: bytes) -> None:
        self.traffic.sent += len(data)
        try:
            self._stream.send(data)
        except ConnectionError as error:
            raise _gone(error) from None


def _kind(request: Request, payload: bytes) -> tuple[Request, int]:
    """Requests that take about as long: of one type, and of a size between two powers of 2."""
    size = int.from_bytes(payload[-2:], "little") if request is Request.READ else len(payload)
    return request, size.bit_length()


def _unpack(structure: struct.Struct, answer: bytes, request: Request) -> tuple[Any, ...]:
    """The fields of an answer."""
    if len(answer) != structure.size:
        raise _unknown(request)
    return structure.unpack(answer)


def _unknown(request: Request) -> UserError:
    hint = "was the firmware built by this version of edgetrain?"
    return UserError("the board answers in a form that is not known here", where=request.name, hint=hint)


def _gone(error: ConnectionError) -> UserError:
    return UserError(f"the connection to the board is lost: {error}", hint="is it still powered, or running?")
