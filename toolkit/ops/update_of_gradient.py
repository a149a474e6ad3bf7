"""UpdateOfGradient: momentum or Adam in the kernel of the weight's gradient, without memory for the gradient.

    g = gradient(x, dy)     complete before it is used, in the order of the gradient's own docstring
    (w', states') = update(w, g, learning rate, states)

Element by element the bits of the two nodes that it stands for. They differ where something is not finite (N8): here
an element whose gradient is infinite or NaN keeps its weight and its states, all others are updated, and the step ends
after that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from codegen.program import Argument
from toolkit.ir import Array, TensorType
from toolkit.ops.adam import Adam
from toolkit.ops.base import Arrays, Op, Run, StepAborted, Types, op, require
from toolkit.ops.contexts import Lowering
from toolkit.ops.sgd import Sgd
from toolkit.ops.sgd_of_gradient import WeightGradient


@op
@dataclass(frozen=True)
class UpdateOfGradient(Op):
    """(x, dy, w, learning_rate scalar, what else the update reads...) -> (w', states'...), each in place; float32.

    Attributes:
        gradient_op: the op that gives dw for x and dy. One that `updates_row_major` takes w in any shape with as many
            elements.
    """

    gradient_op: WeightGradient
    update: Sgd | Adam

    no_gradient = "it is the optimizer"

    def infer(self, x: TensorType, dy: TensorType, w: TensorType, *others: TensorType) -> Types:
        (dw,) = self.gradient_op.output_types((x, dy))
        seen = TensorType(w.shape, dw.dtype) if self.gradient_op.updates_row_major and dw.size == w.size else dw
        require(seen == w, f"the gradient {dw} is not of the type {w} of the weight")
        return self.update.output_types((w, w, *others))

    def reference(self, run: Run, x: Array, dy: Array, w: Array, learning_rate: Array, *others: Array) -> Arrays:
        (gradient,) = self.gradient_op.run(run, x, dy)
        dw = gradient.reshape(w.shape)
        finite = np.isfinite(dw)
        results = self.update.run(run, w, np.where(finite, dw, np.float32(0)), learning_rate, *others)
        kept = tuple(np.where(finite, after, before) for after, before in zip(results, (w, *others), strict=False))
        if not finite.all():
            raise StepAborted("ET_NONFINITE_GRADIENT", kept)
        return kept

    def lower(self, to: Lowering) -> None:
        which = "_momentum" if isinstance(self.update, Sgd) else "_adam"
        kernel, shape, layout = self.gradient_op.weight_kernel(to, which)
        states = [to.write(index, layout, in_place=(3 + index,)) for index in range(1, len(to.node.outputs))]
        to.call(
            kernel, shape, to.read(3), *self._constants(to), *self.gradient_op.operands(to),
            to.write(0, layout, in_place=(2,)), *states,
        )  # fmt: skip

    def adds_samples(self) -> bool:
        return self.gradient_op.adds_samples()

    def lower_part(self, to: Lowering) -> None:
        kernel = "et_apply_momentum_f32" if isinstance(self.update, Sgd) else "et_apply_adam_f32"
        sums, layout = self.gradient_op.lower_sums(to)
        states = [to.write(index, layout, in_place=(3 + index,)) for index in range(1, len(to.node.outputs))]
        to.call_last(
            kernel, to.size(to.output_type().size), to.read(3), *self._constants(to), sums,
            to.write(0, layout, in_place=(2,)), *states,
        )  # fmt: skip

    def _constants(self, to: Lowering) -> tuple[Argument, ...]:
        if isinstance(self.update, Adam):
            return self.update.options(to), to.read(6)
        return self.update.constants(to)

    def macs(self, *inputs: Any) -> int:
        return self.gradient_op.macs(*inputs[:2])


def fused(gradient: WeightGradient, update: Op) -> Op | None:
    """Both in one, for gradients whose kernels can; None for other updates."""
    return UpdateOfGradient(gradient, update) if isinstance(update, Sgd | Adam) else None
