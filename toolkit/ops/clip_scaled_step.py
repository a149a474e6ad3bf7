"""ClipScaledStep and ClippedSgd: how BinaryConnect moves its real weights (arXiv 1511.00363, sections 2.4 to 2.6).

    ClipScaledStep   v = madd(scale, proposed - old, old)            after any optimizer
    ClippedSgd       g = madd(weight_decay, w, gradient)             only with weight decay
                     v = madd(-(learning_rate * scale), g, w)        plain SGD in one pass, without the proposed weights
    both             w' = -limit where v < -limit, limit where v > limit, else v      comparisons: NaN stays
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import all_finite, madd
from toolkit.ops.base import Op, Run, StepAborted, op, require
from toolkit.ops.contexts import Lowering
from toolkit.ops.elementwise import same_type


def clip_to(v: Array, limit: float) -> Array:
    """v brought into [-limit, limit]; NaN stays."""
    most = np.float32(limit)
    return np.where(v < -most, -most, np.where(v > most, most, v))


@op
@dataclass(frozen=True)
class ClipScaledStep(Op):
    """(old, proposed) -> w', which replaces old in place; any shape, float32.

    Attributes:
        scale: multiplies the step.
        limit: weights stay in [-limit, limit].
    """

    scale: float = 1.0
    limit: float = 1.0

    no_gradient = "it is part of the optimizer"
    elementwise = True

    def infer(self, old: TensorType, proposed: TensorType) -> TensorType:
        return same_type(old, proposed)

    def reference(self, run: Run, old: Array, proposed: Array) -> Array:
        return clip_to(madd(np.float32(self.scale), proposed - old, old, run.fma), self.limit)

    def lower(self, to: Lowering) -> None:
        layout = to.layout(0)
        count, scale, limit = to.size(to.input_type(0).size), to.real(self.scale), to.real(self.limit)
        old, proposed = to.read(0, layout), to.read(1, layout)
        to.call("et_clip_scaled_step_f32", count, scale, limit, old, proposed, to.write(0, layout, in_place=(0, 1)))


@op
@dataclass(frozen=True)
class ClippedSgd(Op):
    """(w, gradient, learning_rate scalar) -> w', which replaces w in place; any shape, float32.

    A non-finite gradient ends the step with ET_NONFINITE_GRADIENT before anything is changed (N8).

    Attributes:
        weight_decay: 0 leaves that line out.
        scale: multiplies the learning rate.
        limit: weights stay in [-limit, limit].
    """

    weight_decay: float = 0.0
    scale: float = 1.0
    limit: float = 1.0

    no_gradient = "it is the optimizer"
    elementwise = True

    def infer(self, w: TensorType, gradient: TensorType, learning_rate: TensorType) -> TensorType:
        require(learning_rate == TensorType(()), "the learning rate is a float32 scalar")
        return same_type(w, gradient)

    def reference(self, run: Run, w: Array, gradient: Array, learning_rate: Array) -> Array:
        if not all_finite(gradient):
            raise StepAborted("ET_NONFINITE_GRADIENT")
        g = madd(np.float32(self.weight_decay), w, gradient, run.fma) if self.weight_decay else gradient
        return clip_to(madd(-(learning_rate * np.float32(self.scale)), g, w, run.fma), self.limit)

    def lower(self, to: Lowering) -> None:
        layout = to.layout(0)
        count, decay = to.size(to.input_type(0).size), to.real(self.weight_decay)
        scale, limit, rate = to.real(self.scale), to.real(self.limit), to.read(2)
        w, gradient = to.read(0, layout), to.read(1, layout)
        to.call("et_sgd_clipped_f32", count, rate, scale, decay, limit, gradient, w, to.write(0, layout, in_place=(0,)))
