"""RISC-V instructions as far as the stack and the addresses that code makes depend on them.

Formats: The RISC-V Instruction Set Manual, volume I, chapters "RV32/64G Instruction Set Listings" and "C Standard
Extension".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ZERO, RETURN, STACK, GLOBAL = 0, 1, 2, 3
_LUI, _AUIPC, _JAL, _JALR, _BRANCH, _IMMEDIATE, _REGISTER = 0x37, 0x17, 0x6F, 0x67, 0x63, 0x13, 0x33
# Of float instructions, by their upper five bits, those that write an integer: comparisons, conversions and moves.
_FLOAT, _FLOAT_TO_INTEGER = 0x53, (0x14, 0x18, 0x1C)


@dataclass(frozen=True)
class Instruction:
    """What matters of one: sizes, the stack pointer, jumps.

    Attributes:
        kind: "other", "jump" (by value, link in rd), "pointer" (jump to rs + value, link in rd), "branch" (by value),
            "constant" (rd = value), "here" (rd = place + value), "load" (rd = what lies at rs + value),
            "add" (rd = rs + value), "sum" and "difference" (rd = rs + or - rt), "align" (rd = rs & value).
    """

    size: int
    kind: str
    rd: int = 0
    rs: int = 0
    rt: int = 0
    value: int = 0


def decode(text: bytes, at: int, bits: int) -> Instruction:
    """The instruction that begins at byte `at` of `text`, for a core of so many bits."""
    half = int.from_bytes(text[at : at + 2], "little")
    if half & 3 == 3:
        return _decode_32(int.from_bytes(text[at : at + 4], "little"))
    return _decode_16(half, bits)


def _decode_32(word: int) -> Instruction:
    opcode, rd, rs, rt, function = word & 0x7F, word >> 7 & 31, word >> 15 & 31, word >> 20 & 31, word >> 12 & 7
    immediate = signed(word >> 20, 12)
    if opcode in (_LUI, _AUIPC):
        return Instruction(4, "constant" if opcode == _LUI else "here", rd, value=signed(word >> 12, 20) << 12)
    if opcode == _JAL:
        return Instruction(4, "jump", rd, value=_bits(word, ((31, 1, 20), (12, 8, 12), (20, 1, 11), (21, 10, 1)), 21))
    if opcode == _JALR:
        return Instruction(4, "pointer", rd, rs, value=immediate)
    if opcode == _BRANCH:
        parts = ((31, 1, 12), (7, 1, 11), (25, 6, 5), (8, 4, 1))
        return Instruction(4, "branch", value=_bits(word, parts, 13))
    if opcode == _IMMEDIATE and function == 0:
        return Instruction(4, "add", rd, rs, value=immediate)
    if opcode == _IMMEDIATE and function == 7 and rs == STACK:
        return Instruction(4, "align", rd, rs, value=immediate)
    if opcode == _REGISTER and function == 0 and word >> 25 in (0, 0x20):
        return Instruction(4, "difference" if word >> 25 else "sum", rd, rs, rt)
    if opcode == 0x03:
        return Instruction(4, "load", rd, rs, value=immediate)
    writes = opcode in (_IMMEDIATE, _REGISTER, 0x1B, 0x3B, 0x2F, 0x73)  # field rd of a store is part of its offset
    writes = writes or (opcode == _FLOAT and word >> 27 in _FLOAT_TO_INTEGER)
    return Instruction(4, "other", rd if writes else ZERO)


def _decode_16(half: int, bits: int) -> Instruction:
    parts: Sequence[tuple[int, int, int]]
    quadrant, function = half & 3, half >> 13
    full, short, second = half >> 7 & 31, 8 + (half >> 7 & 7), half >> 2 & 31
    six = _bits(half, ((12, 1, 5), (2, 5, 0)), 6)
    if quadrant == 1:
        if (function == 1 and bits == 32) or function == 5:
            parts = ((12, 1, 11), (11, 1, 4), (9, 2, 8), (8, 1, 10), (7, 1, 6), (6, 1, 7), (3, 3, 1), (2, 1, 5))
            return Instruction(2, "jump", ZERO if function == 5 else RETURN, value=_bits(half, parts, 12))
        if function == 0:
            return Instruction(2, "add", full, full, value=six)
        if function == 2:
            return Instruction(2, "constant", full, value=six)
        if function == 3 and full == STACK:
            parts = ((12, 1, 9), (6, 1, 4), (5, 1, 6), (3, 2, 7), (2, 1, 5))
            return Instruction(2, "add", STACK, STACK, value=_bits(half, parts, 10))
        if function == 3:
            return Instruction(2, "constant", full, value=six << 12)
        if function >= 6:
            parts = ((12, 1, 8), (10, 2, 3), (5, 2, 6), (3, 2, 1), (2, 1, 5))
            return Instruction(2, "branch", value=_bits(half, parts, 9))
        return Instruction(2, "other", short if function == 4 else full)
    if quadrant == 0:
        if function == 0:
            parts = ((11, 2, 4), (7, 4, 6), (6, 1, 2), (5, 1, 3))
            return Instruction(2, "add", 8 + (half >> 2 & 7), STACK, value=_bits(half, parts, 11))
        return Instruction(2, "other", 8 + (half >> 2 & 7) if function in (2, 3) else ZERO)
    if function == 4 and second == 0:
        linked = half >> 12 & 1
        return Instruction(2, "pointer", RETURN if linked else ZERO, full)
    if function == 4:
        if half >> 12 & 1:
            return Instruction(2, "sum", full, full, second)
        return Instruction(2, "add", full, second)
    return Instruction(2, "other", full if function in (0, 2) or (function == 3 and bits == 64) else ZERO)


def signed(value: int, bits: int) -> int:
    """The number that the lowest bits are in two's complement."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _bits(word: int, parts: Sequence[tuple[int, int, int]], bits: int) -> int:
    """A signed number from (first bit in the word, count, first bit in the number)."""
    value = 0
    for source, count, target in parts:
        value |= (word >> source & ((1 << count) - 1)) << target
    return signed(value, bits)
