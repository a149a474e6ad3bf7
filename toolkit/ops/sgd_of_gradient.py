"""SgdOfGradient: a step of plain SGD in the kernel of the weight's gradient, without memory for the gradient.

    g = gradient(x, dy)                complete before it is used, in the order of the gradient's own docstring
    g = madd(weight_decay, w, g)       only with weight decay
    w = madd(-learning_rate, g, w)

Element by element the bits of the two nodes that it stands for. They differ where something is not finite (N8): here
an element whose gradient is infinite or NaN keeps its weight, all others are updated, and the step ends after that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from codegen.program import Argument, Layout
from toolkit.ir import Array, TensorType
from toolkit.ops.base import Arrays, Op, Run, StepAborted, op, require
from toolkit.ops.contexts import Lowering
from toolkit.ops.sgd import Sgd


class WeightGradient(Op):
    """Base of the gradients (x, dy) -> dw that have a kernel which updates w itself."""

    def weight_kernel(self, to: Lowering, part: str) -> tuple[str, Argument, Layout | None]:
        """Name of a kernel, its shape argument, and the layout of the weights.

        Args:
            to: a node whose inputs 0 and 1 are x and dy, and whose output has the type of the weights.
            part: "_grad_weight" or "_update".
        """
        raise NotImplementedError

    def fused_update(self, update: Op) -> Op | None:
        if not isinstance(update, Sgd) or update.momentum:
            return None
        return SgdOfGradient(self, update.weight_decay)

    def lower(self, to: Lowering) -> None:
        kernel, shape, layout = self.weight_kernel(to, "_grad_weight")
        to.call(kernel, shape, to.read(0), to.read(1), to.write(0, layout), to.size(0))


@op
@dataclass(frozen=True)
class SgdOfGradient(Op):
    """(x, dy, w, learning_rate scalar) -> w', which replaces w in place; float32.

    Attributes:
        gradient_op: the op that gives dw for x and dy.
        weight_decay: 0 leaves that line out.
    """

    gradient_op: WeightGradient
    weight_decay: float = 0.0

    no_gradient = "it is the optimizer"

    def infer(self, x: TensorType, dy: TensorType, w: TensorType, learning_rate: TensorType) -> TensorType:
        require(learning_rate == TensorType(()), "the learning rate is a float32 scalar")
        require(self.gradient_op.output_types((x, dy)) == (w,), f"the gradient is not of the type {w} of the weight")
        return w

    def reference(self, run: Run, x: Array, dy: Array, w: Array, learning_rate: Array) -> Arrays:
        (dw,) = self.gradient_op.run(run, x, dy)
        finite = np.isfinite(dw)
        stepped = Sgd(weight_decay=self.weight_decay).reference(run, w, np.where(finite, dw, 0), learning_rate)
        updated = np.where(finite, stepped, w)
        if not finite.all():
            raise StepAborted("ET_NONFINITE_GRADIENT", (updated,))
        return updated

    def lower(self, to: Lowering) -> None:
        kernel, shape, layout = self.gradient_op.weight_kernel(to, "_update")
        rate, decay = to.read(3), to.real(self.weight_decay)
        to.call(kernel, shape, rate, decay, to.read(0), to.read(1), to.write(0, layout, in_place=(2,)))

    def macs(self, x: TensorType, dy: TensorType, *others: Any) -> int:
        return self.gradient_op.macs(x, dy)
