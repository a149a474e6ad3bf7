"""What flashing tools take, made from a linked firmware: a flat binary, or UF2."""

from __future__ import annotations

import struct
from pathlib import Path

from codegen.build import load_image
from codegen.errors import BackendError

_ERASED = b"\xff"
_LARGEST_GAP = 1 << 20
# UF2: https://github.com/microsoft/uf2, "File format".
_UF2_START = (0x0A324655, 0x9E5D5157)
_UF2_END = 0x0AB16F30
_UF2_HAS_FAMILY = 0x2000
_UF2_PAYLOAD, _UF2_DATA = 256, 476


def flat_binary(elf: Path) -> tuple[int, bytes]:
    """The lowest address at which anything is stored, and the bytes from there on; gaps as erased flash reads.

    Raises:
        BackendError: it is no firmware, or its parts are stored far apart.
    """
    parts = sorted(load_image(elf))
    if not parts:
        raise BackendError("holds nothing to flash", where=str(elf))
    start, image = parts[0][0], b""
    for address, content in parts:
        gap = address - start - len(image)
        if not 0 <= gap <= _LARGEST_GAP:
            raise BackendError(f"what is stored at 0x{address:x} is too far from the rest", where=str(elf))
        image += _ERASED * gap + content
    return start, image


def uf2(address: int, content: bytes, family: int) -> bytes:
    """Blocks of 512 bytes, each with 256 of the content and the address where they go; the last is filled up."""
    pieces = [content[at : at + _UF2_PAYLOAD] for at in range(0, len(content), _UF2_PAYLOAD)]
    blocks = []
    for number, piece in enumerate(pieces):
        place = address + number * _UF2_PAYLOAD
        head = (*_UF2_START, _UF2_HAS_FAMILY, place, _UF2_PAYLOAD, number, len(pieces), family)
        data = piece.ljust(_UF2_PAYLOAD, _ERASED).ljust(_UF2_DATA, b"\0")
        blocks.append(struct.pack("<8I", *head) + data + struct.pack("<I", _UF2_END))
    return b"".join(blocks)
