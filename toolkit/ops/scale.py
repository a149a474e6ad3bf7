"""Scale: y = factor * x for a factor known when compiling; one rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Arrays, Op, Run, op
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.elementwise import lower_elementwise, same_type


@op
@dataclass(frozen=True)
class Scale(Op):
    """y = (float32) factor * x, any shape. The mean of accumulated gradients is one use.

    Attributes:
        factor: rounded to float32 once.
    """

    factor: float

    elementwise = True
    smooth = True

    def infer(self, x: TensorType) -> TensorType:
        return same_type(x)

    def reference(self, run: Run, x: Array) -> Arrays:
        return np.float32(self.factor) * x

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (back.apply(Scale(self.factor), dy),)

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_scale_f32", to.real(self.factor))
