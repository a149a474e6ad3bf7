"""BatchNormAffine: batch normalization with its running statistics as one factor and one offset per channel.

    a = gamma / sqrt(var + epsilon),  b = madd(-mean, a, beta)             y = a * x + b
    dgamma = inverse * madd(-mean, db, da),  dbeta = db                    inverse = 1 / sqrt(var + epsilon)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import madd, rsqrt, sqrt
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Lowering


@op
@dataclass(frozen=True)
class BatchNormAffine(Op):
    """(gamma, beta, mean, var) -> a, b; all float32 [C].

    Attributes:
        momentum: of the running statistics, where training takes them.
    """

    epsilon: float = 1e-5
    momentum: float = 0.9

    statistics_inputs = (2, 3)
    bias_inputs = (1,)

    def infer(self, gamma: TensorType, *others: TensorType) -> tuple[TensorType, TensorType]:
        require(all(other == gamma for other in others) and len(gamma.shape) == 1, "vectors of different lengths")
        return gamma, gamma

    def reference(self, run: Run, gamma: Array, beta: Array, mean: Array, var: Array) -> tuple[Array, Array]:
        a = gamma / sqrt(var + np.float32(self.epsilon))
        return a, madd(-mean, a, beta, run.fma)

    def gradient(self, back: Backward, da: str | None, db: str | None) -> Sequence[str | None]:
        mean, var = back.input(2), back.input(3)
        dgamma = back.apply(BatchNormAffineGrad(self.epsilon), da, db, mean, var) if back.needs(0) else None
        return dgamma, db if back.needs(1) else None, None, None

    def lower(self, to: Lowering) -> None:
        channels = to.size(to.input_type(0).size)
        inputs = (to.read(index) for index in range(4))
        to.call("et_batch_norm_affine_f32", channels, to.real(self.epsilon), *inputs, to.write(0), to.write(1))


@op
@dataclass(frozen=True)
class BatchNormAffineGrad(Op):
    """(da, db, mean, var) -> dgamma; all float32 [C]."""

    epsilon: float = 1e-5

    no_gradient = "second derivatives are not used"

    def infer(self, da: TensorType, *others: TensorType) -> TensorType:
        require(all(other == da for other in others), "vectors of different lengths")
        return da

    def reference(self, run: Run, da: Array, db: Array, mean: Array, var: Array) -> Array:
        return np.asarray(rsqrt(var + np.float32(self.epsilon)) * madd(-mean, db, da, run.fma))

    def lower(self, to: Lowering) -> None:
        channels = to.size(to.input_type(0).size)
        inputs = (to.read(index) for index in range(4))
        to.call("et_batch_norm_affine_grad_f32", channels, to.real(self.epsilon), *inputs, to.write(0, in_place=(0,)))
