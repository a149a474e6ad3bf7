"""Adam and AdamAdvance: one step of Adam with bias correction, in the order of torch.optim.Adam.

AdamAdvance, once a step:
    powers = (powers[0] * beta1, powers[1] * beta2)    beta1^t and beta2^t; (1, 1) before the first step
Adam, per parameter, where rate, correction are computed once and rate1 = 1 - beta1, rate2 = 1 - beta2 are rounded once:
    rate = learning_rate / (1 - powers[0]);  correction = sqrt(1 - powers[1])
    g = madd(weight_decay, w, gradient)                only with weight decay
    m = madd(rate1, g - m, m)
    v = madd(rate2 * g, g, beta2 * v)
    w = madd(-rate, m / (sqrt(v) / correction + eps), w)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codegen.program import Argument
from toolkit.ir import Array, TensorType
from toolkit.numerics import all_finite, madd, sqrt
from toolkit.ops.base import Arrays, Op, Run, StepAborted, Types, op, require
from toolkit.ops.contexts import Lowering
from toolkit.ops.elementwise import same_type
from toolkit.ops.update_channels import ChannelwiseUpdate


@op
@dataclass(frozen=True)
class AdamAdvance(Op):
    """powers float32 [2] -> powers' [2]."""

    beta1: float = 0.9
    beta2: float = 0.999

    no_gradient = "it is part of the optimizer"

    def infer(self, powers: TensorType) -> TensorType:
        require(powers == TensorType((2,)), "the powers are float32 [2]")
        return powers

    def reference(self, run: Run, powers: Array) -> Array:
        return powers * np.array([self.beta1, self.beta2], np.float32)

    def lower(self, to: Lowering) -> None:
        betas = (to.real(self.beta1), to.real(self.beta2))
        to.call("et_adam_advance_f32", *betas, to.read(0), to.write(0, in_place=(0,)))


@op
@dataclass(frozen=True)
class Adam(ChannelwiseUpdate):
    """(w, gradient, learning_rate scalar, m, v, powers' [2]) -> (w', m', v'); any shape, float32.

    A non-finite gradient ends the step with ET_NONFINITE_GRADIENT before anything is changed.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    no_gradient = "it is the optimizer"
    elementwise = True

    def infer(
        self, w: TensorType, gradient: TensorType, learning_rate: TensorType, m: TensorType, v: TensorType,
        powers: TensorType,
    ) -> Types:
        require(learning_rate == TensorType(()), "the learning rate is a float32 scalar")
        require(powers == TensorType((2,)), "the powers are float32 [2]")
        same_type(w, gradient, m, v)
        return (w, m, v)

    def reference(
        self, run: Run, w: Array, gradient: Array, learning_rate: Array, m: Array, v: Array, powers: Array
    ) -> Arrays:
        if not all_finite(gradient):
            raise StepAborted("ET_NONFINITE_GRADIENT")
        one = np.float32(1)
        rate = learning_rate / (one - powers[0])
        correction = sqrt(one - powers[1])
        rate1, rate2 = np.float32(1 - self.beta1), np.float32(1 - self.beta2)
        g = madd(np.float32(self.weight_decay), w, gradient, run.fma) if self.weight_decay else gradient
        m = madd(rate1, g - m, m, run.fma)
        v = madd(rate2 * g, g, np.float32(self.beta2) * v, run.fma)
        direction = m / (sqrt(v) / correction + np.float32(self.eps))
        return madd(-rate, direction, w, run.fma), m, v

    def lower(self, to: Lowering) -> None:
        self._call(to, to.size(to.input_type(0).size))

    def lower_channels(self, to: Lowering, channels: Argument) -> None:
        self._call(to, channels, "_channels")

    def options(self, to: Lowering) -> Argument:
        """The constants of the kernels."""
        return to.struct(
            "et_adam",
            {
                "rate1": 1 - self.beta1, "beta2": self.beta2, "rate2": 1 - self.beta2, "epsilon": self.eps,
                "weight_decay": self.weight_decay,
            },
            "adam",
        )

    def _call(self, to: Lowering, extent: Argument, which: str = "") -> None:
        layout, part = to.layout(0), to.layout(1 if which else 0)
        to.call(
            f"et_adam{which}_f32",
            extent, to.read(2), self.options(to), to.read(5), to.read(1, part),
            to.read(0, layout), to.write(0, layout, in_place=(0,)),
            to.read(3, part), to.write(1, part, in_place=(3,)),
            to.read(4, part), to.write(2, part, in_place=(4,)),
        )
