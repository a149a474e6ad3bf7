"""A PC's session with a board: what can be asked of it."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from toolkit.errors import UserError
from toolkit.link.exchange import LEAST_CHUNK, Exchange
from toolkit.link.messages import (
    CODED,
    COUNTED,
    INFO,
    RUN,
    SAVED,
    SCALARS,
    STATS,
    TOLD,
    WRITE_HEADER,
    BoardReset,
    Counted,
    Info,
    Outcome,
    Region,
    Request,
    Sample,
    Saved,
    Scalars,
    Stats,
    Unanswered,
    unknown,
    unpack,
)  # fmt: skip
from toolkit.link.streams import Stream, open_stream

# Seconds that a large frame may take on a slow line before the board is given up.
_SLOW = 20.0
# Attempts to get a whole sample through before it is sent in smaller pieces.
_FEW = 3


class Session(Exchange):
    """Requests to a board.

    Memory is sent in frames that get smaller while the line damages them.

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
        super().__init__(stream, timeout, attempts)
        self._run_timeout = run_timeout
        self._chunk = 0xFFFF
        self._table = b""
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
        flags, payload_bytes, digest, *places = unpack(INFO, answer[: INFO.size], Request.INFO)
        regions = {region: (places[2 * region], places[2 * region + 1]) for region in TOLD}
        name = answer[INFO.size :].decode("ascii", "replace")
        trainable, accumulates, fma, stores, samples, codes = (bool(flags & flag) for flag in (1, 2, 4, 8, 16, 32))
        return Info(name, digest, trainable, accumulates, fma, stores, samples, codes, payload_bytes, regions)

    def write_region(self, region: Region, data: bytes, offset: int = 0) -> None:
        """Writes bytes into the board's memory."""
        done = 0
        while done < len(data):
            header = struct.pack("<BI", region, offset + done)
            rest = data[done:]
            size = self._in_chunks(Request.WRITE, len(rest), WRITE_HEADER, lambda n: header + rest[:n])[0]  # noqa: B023
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
                raise unknown(Request.READ)
            data += part
        return data

    def set_codes(self, table: bytes) -> None:
        """Tells the board what the codes of samples stand for, now and after each of its resets.

        Args:
            table: float32 of the codes from 0 on.
        """
        self._table = table
        self.write_region(Region.CODES, table)

    def init(self) -> Outcome:
        """Weights and states as they were compiled in."""
        return self._run(Request.INIT)

    def infer(self, sample: Sample | None = None) -> Outcome:
        """Inference from the input region to the output region; on a sample, which is put there, where one is given."""
        return self._run(Request.INFER, sample)

    def train(self, sample: Sample | None = None) -> Outcome:
        """One training step on the input and label regions; on a sample, likewise."""
        return self._run(Request.TRAIN, sample)

    def update(self) -> Outcome:
        """Applies the gradients that were accumulated."""
        return self._run(Request.UPDATE)

    def evaluate(self, sample: Sample | None = None) -> Counted:
        """Inference on the input region, or a sample, and how many outputs agree with the label region."""
        return Counted(*unpack(COUNTED, self._on_sample(Request.EVAL, sample), Request.EVAL))

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
        self.write_region(Region.CODES, self._table)

    def _stored(self, request: Request, payload: bytes = b"") -> Saved:
        return Saved(*unpack(SAVED, self._request(request, payload, patience=self._run_timeout), request))

    def set_scalars(self, learning_rate: float | None = None, seed: int | None = None, step: int | None = None) -> None:
        """Sets those that are given."""
        given = (learning_rate is not None) | (seed is not None) << 1 | (step is not None) << 2
        self._request(Request.SET, struct.pack("<BfII", given, learning_rate or 0.0, seed or 0, step or 0))

    def scalars(self) -> Scalars:
        """Learning rate, seed, step and failed_step."""
        rate, seed, step, failed_step = unpack(SCALARS, self._request(Request.GET), Request.GET)
        return Scalars(struct.unpack("<f", rate)[0], seed, step, failed_step)

    def stats(self) -> Stats:
        """Counts of instructions and high-water marks."""
        # The board looks through all of its memory for paint.
        return Stats(*unpack(STATS, self._request(Request.STATS, patience=self._run_timeout), Request.STATS))

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

    def _run(self, request: Request, sample: Sample | None = None) -> Outcome:
        return Outcome(*unpack(RUN, self._on_sample(request, sample), request))

    def _on_sample(self, request: Request, sample: Sample | None) -> bytes:
        """The answer to a request that runs the model, with as much of a sample as one frame takes, the rest before it.

        A frame that does not get through in a few attempts is given up, unless the board turns out to have executed it,
        and a smaller one is sent: what a request does must not depend on which of its attempts has arrived.
        """
        while sample is not None:
            inputs, label, whole = sample.inputs, sample.label, self.board.regions[Region.INPUT][1]
            head, size = (Region.CODED_INPUT, whole // 4) if sample.coded else (Region.INPUT, whole)
            most = min(self._chunk, self.board.payload_bytes)
            if not self.board.samples or len(label) > most or len(inputs) != size:
                self.write_region(head, inputs)
                self.write_region(Region.LABEL, label)
                break
            tail = min(most - len(label), len(inputs))
            self.write_region(head, inputs[: len(inputs) - tail])
            payload = inputs[len(inputs) - tail :] + label
            try:
                attempts = _FEW if len(payload) > LEAST_CHUNK else None
                asked = CODED[request] if sample.coded else request
                answer = self._request(asked, payload, self._run_timeout, attempts)
                self._chunk = min(2 * self._chunk, self.board.payload_bytes)
                return answer
            except Unanswered:
                if attempts is None:
                    raise
                if self._was_executed(self._run_timeout):
                    return self._ask(asked, b"", self._run_timeout)
                self._chunk = max(min(self._chunk, len(payload)) // 2, LEAST_CHUNK)
        return self._request(request, patience=self._run_timeout)

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
                self._chunk = max(self._chunk // 2, LEAST_CHUNK)
            size = min(self._chunk, most, left)
            return payload(size)

        self._chunk = min(self._chunk, most)
        answer = self._request(request, attempt, _SLOW)
        self._chunk = min(2 * self._chunk, most)
        return size, answer
