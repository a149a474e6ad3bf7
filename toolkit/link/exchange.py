"""Numbered requests over a line that may lose, damage, double and delay: each is executed once, and answered."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from toolkit.errors import UserError
from toolkit.link.frames import Decoder, Frame, encode
from toolkit.link.messages import (
    ANSWER,
    DAMAGED,
    NO_SESSION,
    OUT_OF_ORDER,
    READY,
    TRAP,
    TRAP_FIELDS,
    BoardReset,
    Refused,
    Request,
    Trapped,
    Unanswered,
)  # fmt: skip
from toolkit.link.streams import Stream

# Bytes of memory in one frame of a line that damages nearly everything.
LEAST_CHUNK = 32
# Seconds that an answer may always take, however quick the board has been.
_LEAST_WAIT = 0.03
# Part of a new measurement in the expected time of an answer.
_SHARE = 0.125


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


class Exchange:
    """Sends requests until they are answered.

    A request is sent again when the board says that what it got was damaged, when its answer is damaged, and when its
    answer takes much longer than answers to such requests have taken; that is safe, for the board executes it once.

    Args:
        timeout: most seconds until a request is sent again.
        attempts: how often a request is sent at least, and how many timeouts pass, before it is given up.
    """

    def __init__(self, stream: Stream, timeout: float, attempts: int) -> None:
        self._stream = stream
        self._decoder = Decoder()
        self._timeout, self._attempts = timeout, attempts
        self._usual: dict[tuple[Request, int], float] = {}
        self._sequence = 0
        self.traffic = Traffic()

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
            attempts: give up after so many, without patience.

        Raises:
            UserError: no answer, a refusal, or a trap.
        """
        self._sequence = (self._sequence + 1) & 0xFFFF
        self.traffic.requests += 1
        return self._ask(request, payload, patience, attempts)

    def _ask(
        self, request: Request, payload: bytes | Callable[[], bytes], patience: float, attempts: int | None = None
    ) -> bytes:
        """`_request` with the number of the last one."""
        start = time.monotonic()
        least = attempts or self._attempts
        patience = 0.0 if attempts else max(patience, least * self._timeout)
        wait, done = 0.0, 0
        while done < least or time.monotonic() - start < patience:
            sent_at = time.monotonic()
            # A zero first: what noise has left in the board's decoder ends there.
            data = payload if isinstance(payload, bytes) else payload()
            self._send(b"\0" + encode(Frame(request, self._sequence, data)))
            self.traffic.retries += bool(done)
            done += 1
            kind = _kind(request, data)
            wait = min(max(wait, _LEAST_WAIT + 4 * self._usual.get(kind, self._timeout)), self._timeout)
            answer = self._answer(request | ANSWER, wait)
            taken = time.monotonic() - sent_at
            if answer is None:
                # After silence more patience than before; after damage there is no reason for it.
                wait *= 2 if taken >= wait else 1
                continue
            self._usual[kind] = _SHARE * taken + (1 - _SHARE) * self._usual.get(kind, taken)
            code = answer.payload[0] if answer.payload else 0xFF
            if code:
                raise (BoardReset if code == NO_SESSION else Refused)(request, code)
            return answer.payload[1:]
        raise Unanswered(request)

    def _was_executed(self, patience: float) -> bool:
        """Whether the board has executed the last request, whose answer did not come. If it has not, it never will.

        Only one request can have a number: a query with the same one is answered where the number was still free.
        """
        try:
            self._ask(Request.GET, b"", patience)
        except Refused as refused:
            if refused.code != OUT_OF_ORDER:
                raise
            return True
        return False

    def _answer(self, kind: int, timeout: float) -> Frame | None:
        """The answer to the request just sent; answers to older ones are dropped. None where it is not coming."""
        end = time.monotonic() + timeout
        dropped = self._decoder.dropped
        while True:
            damaged = False
            for frame in self._receive(end):
                if frame.type == TRAP and len(frame.payload) == TRAP_FIELDS.size:
                    raise Trapped(*TRAP_FIELDS.unpack(frame.payload))
                if frame.type == kind and frame.sequence == self._sequence:
                    return frame
                damaged |= frame.type == DAMAGED
            # A damaged frame was most likely the answer: there is nothing to wait for.
            if damaged or time.monotonic() >= end or self._decoder.dropped != dropped:
                return None

    def _await_ready(self, timeout: float) -> None:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            for frame in self._receive(end):
                if frame.type == READY:
                    return
                if frame.type == TRAP and len(frame.payload) == TRAP_FIELDS.size:
                    raise Trapped(*TRAP_FIELDS.unpack(frame.payload))
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


def _gone(error: ConnectionError) -> UserError:
    return UserError(f"the connection to the board is lost: {error}", hint="is it still powered, or running?")
