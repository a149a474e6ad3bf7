"""ToReal: the float32 of an integer, exact below 2^24, else rounded once to even."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Lowering

KERNELS = {"int16": "et_to_real_i16", "int32": "et_to_real_i32"}


@op
@dataclass(frozen=True)
class ToReal(Op):
    """x int16 or int32 of any shape -> y float32 of the same shape."""

    elementwise = True

    def infer(self, x: TensorType) -> TensorType:
        require(x.dtype in KERNELS, f"int16 or int32 is needed, not {x}")
        return TensorType(x.shape)

    def reference(self, run: Run, x: Array) -> Array:
        return x.astype(np.float32)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (dy,)

    def lower(self, to: Lowering) -> None:
        x = to.input_type(0)
        to.call(KERNELS[x.dtype], to.size(x.size), to.read(0), to.write(0))
