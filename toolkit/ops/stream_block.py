"""What follows a binary convolution in a stream of integers: scale, shortcut, shifts and a PRelu of powers of two.

    v  = (sum << factor[c]) >> right                    strict: the scale is a power of two, nothing is multiplied
    v  = (sum * factor[c] + 2^(right - 1)) >> right     else; the half is 0 where right is 0
    h  = v + shortcut + b1[c]                           without the shortcut where there is none
    y  = (h >= 0 ? h : (h << up) >> slope[c]) + b2[c]   int16

StreamBlock takes the sums of BinaryConv. StreamProjection is a 1x1 convolution of codes with signs, whose sums are
codes added and subtracted; it gives v alone, clipped to [-largest, largest]. All sums are int32; right shifts round
towards minus infinity. Who makes the parameters proves that nothing overflows (toolkit.quant.ab_inference).

    parameters int16 [C, 4]: factor, b1, slope, b2
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Lowering
from toolkit.ops.signs import unpack_signs
from toolkit.ops.stream import LARGEST, NO_GRADIENT, require_codes

PARAMETERS = 4


def scaled(sums: Array, factor: Array, right: int, strict: bool) -> Array:
    """v of int32 sums; int32, wrapping as C does."""
    if strict:
        return (sums << factor.astype(np.int32)) >> np.int32(right)
    return (sums * factor.astype(np.int32) + np.int32(1 << right >> 1)) >> np.int32(right)


@op
@dataclass(frozen=True)
class StreamBlock(Op):
    """(sums int16 [..., C], parameters int16 [C, 4][, shortcut int16 [..., C]]) -> y int16, which may be either.

    Attributes:
        strict: the factors are left shifts.
        right: shift of the scaled sums; up: of negative values in front of their slope. Both are 0 to 30.
    """

    strict: bool = False
    right: int = 0
    up: int = 0

    no_gradient = NO_GRADIENT

    def infer(self, sums: TensorType, parameters: TensorType, shortcut: TensorType | None = None) -> TensorType:
        require_codes(sums)
        expected = TensorType((sums.shape[-1], PARAMETERS), "int16")
        require(parameters == expected, f"{parameters} do not fit {sums}")
        require(shortcut in (None, sums), f"the shortcut {shortcut} does not fit {sums}")
        return sums

    def reference(self, run: Run, sums: Array, parameters: Array, shortcut: Array | None = None) -> Array:
        factor, b1, slope, b2 = parameters.T.astype(np.int32)
        h: Array = scaled(sums.astype(np.int32), factor, self.right, self.strict) + b1
        if shortcut is not None:
            h = h + shortcut.astype(np.int32)
        bent = (h << np.int32(self.up)) >> slope
        return np.asarray(np.where(h >= 0, h, bent) + b2, np.int32).astype(np.int16)

    def lower(self, to: Lowering) -> None:
        shape = to.input_type(0).shape
        to.call(
            "et_block_b1" if self.strict else "et_block_i16",
            to.size(prod(shape[:-1])), to.size(shape[-1]), to.size(self.right), to.size(self.up),
            to.read(0), to.read(1), to.read(2), to.write(0, in_place=(0, 2)),
        )  # fmt: skip


@op
@dataclass(frozen=True)
class StreamProjection(Op):
    """(codes int16 [..., IC], signs uint8 [OC, 1, ceil(IC / 8)], factors int16 [OC]) -> v int16 [..., OC].

    Attributes:
        strict, right: as for StreamBlock.
        largest: magnitude of a code that comes out.
    """

    strict: bool = False
    right: int = 0
    largest: int = LARGEST

    no_gradient = NO_GRADIENT

    def infer(self, codes: TensorType, signs: TensorType, factors: TensorType) -> TensorType:
        require_codes(codes)
        outputs = signs.shape[0]
        fits = signs == TensorType((outputs, 1, -(-codes.shape[-1] // 8)), "uint8")
        require(fits and factors == TensorType((outputs,), "int16"), f"{signs} and {factors} do not fit {codes}")
        return TensorType((*codes.shape[:-1], outputs), "int16")

    def reference(self, run: Run, codes: Array, signs: Array, factors: Array) -> Array:
        weights = unpack_signs(signs, (), codes.shape[-1]).astype(np.int32)
        sums = np.matmul(codes.astype(np.int32), weights, dtype=np.int32)
        v = scaled(sums, factors, self.right, self.strict)
        return np.clip(v, -self.largest, self.largest).astype(np.int16)

    def lower(self, to: Lowering) -> None:
        shape = to.input_type(0).shape
        to.call(
            "et_projection_b1" if self.strict else "et_projection_i16",
            to.size(prod(shape[:-1])), to.size(shape[-1]), to.size(to.output_type().shape[-1]), to.size(self.right),
            to.size(self.largest), to.read(0), to.read(1), to.read(2), to.write(0),
        )  # fmt: skip

    def macs(self, codes: TensorType, signs: TensorType, factors: TensorType) -> int:
        return codes.size * signs.shape[0]
