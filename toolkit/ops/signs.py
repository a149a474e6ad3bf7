"""Packed signs: one bit per weight, and how weights of +1 and -1 lie in them.

    bits uint8 [OC][taps][ceil(IC / 8)]    bit j of byte b stands for channel 8 b + j: 1 is +1, 0 is -1

Channels beyond the last are 0 bits and count as nothing. IC is the channels of one group.
"""

from __future__ import annotations

from math import prod

import numpy as np

from toolkit.ir import Array

Shape = tuple[int, ...]


def packed_signs_shape(shape: Shape) -> Shape:
    """The shape of the bits of weights [taps..., IC, OC]."""
    return shape[-1], prod(shape[:-2]), -(-shape[-2] // 8)


def pack_signs(positive: Array) -> Array:
    """Bits uint8 [OC, taps, ceil(IC / 8)] of a mask [taps..., IC, OC] that is true for +1."""
    moved = positive.reshape(-1, *positive.shape[-2:]).transpose(2, 0, 1)
    return np.packbits(moved.astype(np.bool_), axis=-1, bitorder="little")


def unpack_signs(bits: Array, kernel: Shape, channels: int) -> Array:
    """Weights int8 [kernel..., channels, OC] of +1 and -1."""
    unpacked = np.unpackbits(bits, axis=-1, count=channels, bitorder="little").astype(np.int8)
    signs = (2 * unpacked - 1).astype(np.int8).transpose(1, 2, 0)
    return signs.reshape(*kernel, channels, bits.shape[0])
