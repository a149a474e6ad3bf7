"""RangeMask: one bit for each element, set where it lies in a range."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Lowering
from toolkit.ops.pass_masked import mask_type, pack_mask

ABOVE_ZERO = float(np.nextafter(np.float32(0), np.float32(1)))


@op
@dataclass(frozen=True)
class RangeMask(Op):
    """x float32 of any shape -> uint8 [ceil(size / 8)]: bit i % 8 of byte i / 8 where minimum <= x[i] <= maximum.

    NaN compares false; bits beyond the last element are 0. Read by PassMasked.

    Attributes:
        minimum, maximum: rounded to float32; ABOVE_ZERO is the least number above 0.
    """

    minimum: float = ABOVE_ZERO
    maximum: float = inf

    no_gradient = "it is only used for gradients"

    def infer(self, x: TensorType) -> TensorType:
        require(x.dtype == "float32", f"float32 is needed, not {x}")
        return mask_type(x)

    def reference(self, run: Run, x: Array) -> Array:
        return pack_mask((x >= np.float32(self.minimum)) & (x <= np.float32(self.maximum)))

    def lower(self, to: Lowering) -> None:
        bounds = (to.real(self.minimum), to.real(self.maximum))
        to.call("et_range_mask_f32", to.size(to.input_type(0).size), *bounds, to.read(0), to.write(0))
