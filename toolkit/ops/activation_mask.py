"""ActivationMask, MaskedGradient: what the gradient of an activation needs of every element, in k bits.

    n    = how many borders x lies above                 NaN lies above none
    code = codes[n]                                      k bits
    dx   = factors[code] * dy, rounded once; +0 where the factor is 0

One pair of kernels with many tables: exact for activations made of straight pieces (1 bit), and the steps that come
nearest to the derivative of others. Element i has the bits i * k to i * k + k - 1 of a little-endian stream of bits,
elements in row-major order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codegen.program import Table, Zeros
from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Lowering

MOST_BITS = 4


def pack_codes(codes: Array, bits: int) -> Array:
    """Codes below 2^bits of any shape -> uint8 [ceil(size * bits / 8)]."""
    stream = codes.reshape(-1, 1) >> np.arange(bits) & 1
    packed: Array = np.packbits(stream.astype(np.uint8).reshape(-1), bitorder="little")
    return packed


def unpack_codes(packed: Array, bits: int, shape: tuple[int, ...]) -> Array:
    """The inverse of `pack_codes`, uint8 in a given shape."""
    count = int(np.prod(shape, dtype=np.int64))
    stream = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(-1, bits)
    return np.asarray((stream << np.arange(bits)).sum(axis=1).astype(np.uint8).reshape(shape))


def mask_type(x: TensorType, bits: int) -> TensorType:
    """The type of a mask for the elements of a tensor."""
    return TensorType((-(-x.size * bits // 8),), "uint8")


@op
@dataclass(frozen=True)
class ActivationMask(Op):
    """x float32 of any shape -> uint8 [ceil(size * bits / 8)].

    Attributes:
        bits: of a code, 1 to 4.
        borders: ascending, rounded to float32, at least one.
        codes: one more than there are borders, below 2^bits.
    """

    bits: int
    borders: tuple[float, ...]
    codes: tuple[int, ...]

    no_gradient = "it is made for the gradient of another op"

    def __post_init__(self) -> None:
        require(1 <= self.bits <= MOST_BITS, f"a mask has 1 to {MOST_BITS} bits, not {self.bits}")
        require(len(self.borders) >= 1 and list(self.borders) == sorted(self.borders), "borders ascend")
        fits = len(self.codes) == len(self.borders) + 1 and max(self.codes) < 1 << self.bits
        require(fits, f"codes {self.codes} do not fit {len(self.borders)} borders and {self.bits} bits")

    def infer(self, x: TensorType) -> TensorType:
        require(x.dtype == "float32", f"float32 is needed, not {x}")
        return mask_type(x, self.bits)

    def reference(self, run: Run, x: Array) -> Array:
        above = np.zeros(x.shape, np.uint8)
        for border in self.borders:
            above += x > np.float32(border)
        return pack_codes(np.array(self.codes, np.uint8)[above], self.bits)

    def is_per_sample(self) -> bool:
        return True

    def zeros(self) -> Zeros:
        return "half"

    def lower(self, to: Lowering) -> None:
        borders = Table("float", tuple(float(np.float32(border)) for border in self.borders))
        codes = Table("uint8_t", self.codes)
        bins = to.struct(
            "et_mask_bins", {"bits": self.bits, "borders": len(self.borders), "border": borders, "code": codes}, "bins"
        )
        to.call("et_mask_f32", bins, to.size(to.input_type(0).size), to.read(0), to.write(0))


@op
@dataclass(frozen=True)
class MaskedGradient(Op):
    """(dy float32 of any shape, mask uint8 [ceil(size * bits / 8)]) -> dx float32, the shape of dy.

    Attributes:
        factors: 2^bits of them, rounded to float32.
    """

    factors: tuple[float, ...]

    no_gradient = "second derivatives are not used"

    def __post_init__(self) -> None:
        require(len(self.factors) in (2, 4, 8, 16), f"2, 4, 8 or 16 factors are needed, not {len(self.factors)}")

    @property
    def bits(self) -> int:
        """Of a code."""
        return len(self.factors).bit_length() - 1

    def infer(self, dy: TensorType, mask: TensorType) -> TensorType:
        require(dy.dtype == "float32" and mask == mask_type(dy, self.bits), f"{mask} is not a mask of {dy}")
        return dy

    def reference(self, run: Run, dy: Array, mask: Array) -> Array:
        factor = np.array(self.factors, np.float32)[unpack_codes(mask, self.bits, dy.shape)]
        return np.where(factor == 0, np.float32(0), factor * dy)

    def is_per_sample(self) -> bool:
        return True

    def zeros(self) -> Zeros:
        return "gated"

    def lower(self, to: Lowering) -> None:
        count = to.size(to.input_type(0).size)
        if self.factors == (0.0, 1.0):
            to.call("et_pass_masked_f32", count, to.read(0), to.read(1), to.write(0, in_place=(0,)))
            return
        factor = Table("float", tuple(float(np.float32(value)) for value in self.factors))
        factors = to.struct("et_mask_factors", {"bits": self.bits, "factor": factor}, "factors")
        to.call("et_mask_gradient_f32", factors, count, to.read(0), to.read(1), to.write(0, in_place=(0,)))


PASS_MASKED = MaskedGradient((0.0, 1.0))
