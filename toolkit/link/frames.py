"""Frames on a serial line: header, payload and CRC-32, COBS-encoded, ended by a zero byte. The PC side of et_link.c."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

VERSION = 1
HEADER = struct.Struct("<BBHH")
CRC = struct.Struct("<I")
OVERHEAD = HEADER.size + CRC.size
# A sender that never ends a frame must not fill the memory.
_LONGEST = 2 * (0xFFFF + OVERHEAD)


@dataclass(frozen=True)
class Frame:
    """One frame, decoded.

    Attributes:
        type: of the request or answer, 0 to 255.
        sequence: 0 to 65535.
        payload: up to 65535 bytes.
    """

    type: int
    sequence: int
    payload: bytes = b""


def encode(frame: Frame) -> bytes:
    """The bytes on the line, the ending zero included."""
    from cobs import cobs

    body = HEADER.pack(VERSION, frame.type, frame.sequence, len(frame.payload)) + frame.payload
    return bytes(cobs.encode(body + CRC.pack(zlib.crc32(body)))) + b"\0"


def decode(encoded: bytes) -> Frame | None:
    """The frame between two zero bytes; None where it is damaged, cut short or of another version."""
    from cobs import cobs

    try:
        raw = bytes(cobs.decode(encoded))
    except cobs.DecodeError:
        return None
    if len(raw) < OVERHEAD:
        return None
    version, kind, sequence, length = HEADER.unpack_from(raw)
    body = raw[: -CRC.size]
    if version != VERSION or length != len(raw) - OVERHEAD or CRC.unpack(raw[-CRC.size :])[0] != zlib.crc32(body):
        return None
    return Frame(kind, sequence, body[HEADER.size :])


class Decoder:
    """Bytes as they come in -> the good frames among them; everything else is dropped.

    Attributes:
        dropped: how many pieces between two zeros were no good frame.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Takes bytes; gives the frames that they complete."""
        self._pending += data
        *complete, rest = bytes(self._pending).split(b"\0")
        self._pending = bytearray(rest if len(rest) <= _LONGEST else b"")
        frames = [decode(encoded) for encoded in complete if encoded]
        good = [frame for frame in frames if frame is not None]
        self.dropped += len(frames) - len(good)
        return good
