"""A serial line that goes wrong, between a session and a stream: nothing may be lost and nothing done twice."""

from __future__ import annotations

import random

from toolkit.link.streams import Stream


class FaultyStream:
    """Damages, loses and cuts what goes over a stream, both ways, as a seed says.

    Args:
        byte_errors: probability that a byte arrives changed.
        lost: probability that a message (all that is sent at once, or arrives at once) never arrives.
        disconnect_every: messages between two breaks of the connection, on average; 0: none. A message is cut somewhere
            by it, and what was on its way back is lost.
    """

    def __init__(
        self, stream: Stream, byte_errors: float = 0.01, lost: float = 0.01, disconnect_every: int = 0, seed: int = 0
    ) -> None:
        self._stream = stream
        self._byte_errors, self._lost, self._disconnect_every = byte_errors, lost, disconnect_every
        self._random = random.Random(seed)
        self.damaged = self.dropped = self.disconnected = 0

    def send(self, data: bytes) -> None:
        data = self._disturbed(data)
        if self._disconnect_every and self._random.random() * self._disconnect_every < 1:
            self.disconnected += 1
            self._stream.send(data[: self._random.randrange(len(data) + 1)])
            self._stream.receive(0.0)
            raise ConnectionError("the cable was pulled")
        self._stream.send(data)

    def receive(self, timeout: float) -> bytes:
        return self._disturbed(self._stream.receive(timeout))

    def close(self) -> None:
        self._stream.close()

    def _disturbed(self, data: bytes) -> bytes:
        if data and self._random.random() < self._lost:
            self.dropped += 1
            return b""
        changed = bytearray(data)
        for place in range(len(changed)):
            if self._random.random() < self._byte_errors:
                changed[place] ^= self._random.randrange(1, 256)
                self.damaged += 1
        return bytes(changed)
