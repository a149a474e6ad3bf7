"""HardSwish: y = x * clip(madd(1/6, x, 1/2), 0, 1), 1/6 rounded to float32. NaN gives NaN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import madd
from toolkit.ops.base import Op, Run, op
from toolkit.ops.clip import clip
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.elementwise import import_elementwise, lower_elementwise, same_type


@op
@dataclass(frozen=True)
class HardSwish(Op):
    """Any shape, float32."""

    onnx = ("HardSwish",)
    elementwise = True

    def infer(self, x: TensorType) -> TensorType:
        return same_type(x)

    def reference(self, run: Run, x: Array) -> Array:
        return x * clip(madd(np.float32(1 / 6), x, np.float32(0.5), run.fma), 0.0, 1.0)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (back.apply(HardSwishGrad(), dy, back.input(0)),)

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_hard_swish_f32")

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        return import_elementwise(node, cls())


@op
@dataclass(frozen=True)
class HardSwishGrad(Op):
    """dx = 0 where x <= -3; dy where x >= 3; else dy * madd(1/3, x, 1/2), for NaN too."""

    no_gradient = "second derivatives are not used"
    elementwise = True

    def infer(self, dy: TensorType, x: TensorType) -> TensorType:
        return same_type(dy, x)

    def reference(self, run: Run, dy: Array, x: Array) -> Array:
        inner = dy * madd(np.float32(1 / 3), x, np.float32(0.5), run.fma)
        return np.where(x <= -3, np.float32(0), np.where(x >= 3, dy, inner))

    def lower(self, to: Lowering) -> None:
        lower_elementwise(to, "et_hard_swish_grad_f32")
