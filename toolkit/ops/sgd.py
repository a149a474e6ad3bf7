"""Sgd: one step of stochastic gradient descent, in the order of torch.optim.SGD.

    g = madd(weight_decay, w, gradient)            only with weight decay
    v = madd(momentum, v, g)                       only with momentum
    g = madd(momentum, v, g) if nesterov else v    only with momentum
    w = madd(-learning_rate, g, w)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codegen.program import Argument
from toolkit.ir import Array, TensorType
from toolkit.numerics import all_finite, madd
from toolkit.ops.base import Arrays, Run, StepAborted, Types, op, require
from toolkit.ops.contexts import Lowering
from toolkit.ops.elementwise import same_type
from toolkit.ops.update_channels import ChannelwiseUpdate


@op
@dataclass(frozen=True)
class Sgd(ChannelwiseUpdate):
    """(w, gradient, learning_rate scalar[, velocity]) -> (w'[, velocity']); any shape, float32.

    A non-finite gradient ends the step with ET_NONFINITE_GRADIENT before anything is changed.

    Attributes:
        momentum: 0 keeps no velocity.
        weight_decay: 0 leaves the first line out.
    """

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    no_gradient = "it is the optimizer"
    elementwise = True

    def infer(
        self, w: TensorType, gradient: TensorType, learning_rate: TensorType, velocity: TensorType | None = None
    ) -> Types:
        require(learning_rate == TensorType(()), "the learning rate is a float32 scalar")
        require((velocity is not None) == bool(self.momentum), "a velocity goes with momentum, and only with it")
        same_type(w, gradient)
        return w if velocity is None else (same_type(w), same_type(w, velocity))

    def reference(
        self, run: Run, w: Array, gradient: Array, learning_rate: Array, velocity: Array | None = None
    ) -> Arrays:
        if not all_finite(gradient):
            raise StepAborted("ET_NONFINITE_GRADIENT")
        g = madd(np.float32(self.weight_decay), w, gradient, run.fma) if self.weight_decay else gradient
        if velocity is None:
            return madd(-learning_rate, g, w, run.fma)
        momentum = np.float32(self.momentum)
        v = madd(momentum, velocity, g, run.fma)
        g = madd(momentum, v, g, run.fma) if self.nesterov else v
        return madd(-learning_rate, g, w, run.fma), v

    def lower(self, to: Lowering) -> None:
        self._call(to, to.size(to.input_type(0).size))

    def lower_channels(self, to: Lowering, channels: Argument) -> None:
        self._call(to, channels, "_channels")

    def constants(self, to: Lowering) -> tuple[Argument, ...]:
        """Weight decay, momentum and Nesterov's form, as the kernels with momentum take them."""
        nesterov = to.constant("true" if self.nesterov else "false", "bool")
        return to.real(self.weight_decay), to.real(self.momentum), nesterov

    def _call(self, to: Lowering, extent: Argument, which: str = "") -> None:
        layout, part = to.layout(0), to.layout(1 if which else 0)
        decay = to.real(self.weight_decay)
        w, gradient, rate = to.read(0, layout), to.read(1, part), to.read(2)
        if not self.momentum:
            to.call(f"et_sgd{which}_f32", extent, rate, decay, gradient, w, to.write(0, layout, in_place=(0,)))
            return
        to.call(
            f"et_sgd_momentum{which}_f32",
            extent, rate, *self.constants(to),
            gradient, w, to.write(0, layout, in_place=(0,)), to.read(3, part), to.write(1, part, in_place=(3,)),
        )
