"""PassMasked: a gradient that passes where a bit of a mask is set: dx = dy there, 0 elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Lowering


def pack_mask(mask: Array) -> Array:
    """Bits uint8 [ceil(size / 8)] of a boolean array: bit i % 8 of byte i / 8, elements in row-major order."""
    return np.packbits(mask.reshape(-1), bitorder="little")


def mask_type(x: TensorType) -> TensorType:
    """The type of a mask with one bit for each element of a tensor."""
    return TensorType((-(-x.size // 8),), "uint8")


@op
@dataclass(frozen=True)
class PassMasked(Op):
    """(dy float32 of any shape, mask uint8 [ceil(size / 8)]) -> dx float32, the shape of dy."""

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType, mask: TensorType) -> TensorType:
        require(dy.dtype == "float32" and mask == mask_type(dy), f"{mask} is not a mask of {dy}")
        return dy

    def reference(self, run: Run, dy: Array, mask: Array) -> Array:
        passes = np.unpackbits(mask, count=dy.size, bitorder="little").reshape(dy.shape)
        return np.where(passes, dy, np.float32(0))

    def lower(self, to: Lowering) -> None:
        count = to.size(to.input_type(0).size)
        to.call("et_pass_masked_f32", count, to.read(0), to.read(1), to.write(0, in_place=(0,)))
