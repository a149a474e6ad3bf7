"""SgdOfGradient: a step of plain SGD in the kernel of the weight's gradient, without memory for the gradient.

    g = gradient(x, dy...)             complete before it is used, in the order of the gradient's own docstring
    g = madd(weight_decay, w, g)       only with weight decay
    w = madd(-learning_rate, g, w)

Element by element the bits of the two nodes that it stands for. They differ where something is not finite (N8): here
an element whose gradient is infinite or NaN keeps its weight, all others are updated, and the step ends after that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from codegen.program import Argument, Layout, reading
from toolkit.ir import Array, TensorType
from toolkit.ops.base import Arrays, Op, Run, StepAborted, op, require
from toolkit.ops.contexts import Lowering
from toolkit.ops.sgd import Sgd


def _begins_or_goes_on(to: Lowering) -> Argument:
    return to.by_part("0", "2")


class WeightGradient(Op):
    """Base of the gradients (x, dy, others...) -> dw that have a kernel which updates w itself."""

    def weight_kernel(self, to: Lowering, part: str) -> tuple[str, Argument, Layout | None]:
        """Name of a kernel, its shape argument, and the layout of the weights.

        Args:
            to: a node whose inputs 0 and 1 are x and dy, and whose output has the type of the weights.
            part: "_grad_weight" or "_update".
        """
        raise NotImplementedError

    def operands(self, to: Lowering) -> tuple[Argument, ...]:
        """What the kernels read, in the order of both prototypes."""
        return to.read(0), to.read(1)

    def for_channels(self, count: int) -> tuple[Op, tuple[bool, ...]] | None:
        """The op that gives the gradient of `count` of the output channels, and which inputs it takes only these of.

        None where there is none: then the gradient of all channels must be computed.
        """
        return None

    def fused_update(self, update: Op) -> Op | None:
        if isinstance(update, Sgd) and not update.momentum:
            return SgdOfGradient(self, update.weight_decay)
        return self.fused_with_states(update)

    def fused_with_states(self, update: Op) -> Op | None:
        """The op that computes the gradient and applies an update that keeps states; None where no kernel does both."""
        return None

    def lower(self, to: Lowering) -> None:
        kernel, shape, layout = self.weight_kernel(to, "_grad_weight")
        to.call(kernel, shape, *self.operands(to), to.write(0, layout), to.size(0))

    def lower_part(self, to: Lowering) -> None:
        kernel, shape, layout = self.weight_kernel(to, "_grad_weight")
        to.call(kernel, shape, *self.operands(to), to.write(0, layout), _begins_or_goes_on(to))
        to.keep()

    def lower_sums(self, to: Lowering) -> tuple[Argument, Layout | None]:
        """The sums of one part, for a node that updates the weight after the last: where they are, and their layout."""
        kernel, shape, layout = self.weight_kernel(to, "_grad_weight")
        sums = to.kept(to.output_type().shape, layout)
        to.call(kernel, shape, *self.operands(to), sums, _begins_or_goes_on(to))
        return reading(sums), layout


@op
@dataclass(frozen=True)
class SgdOfGradient(Op):
    """(inputs of the gradient..., w, learning_rate scalar) -> w', which replaces w in place; float32.

    Attributes:
        gradient_op: the op that gives dw for the other inputs. One that `updates_row_major` takes w in any shape with
            as many elements.
        weight_decay: 0 leaves that line out.
    """

    gradient_op: WeightGradient
    weight_decay: float = 0.0

    no_gradient = "it is the optimizer"

    def infer(self, *inputs: TensorType) -> TensorType:
        *operands, w, learning_rate = inputs
        require(learning_rate == TensorType(()), "the learning rate is a float32 scalar")
        (dw,) = self.gradient_op.output_types(tuple(operands))
        seen = TensorType(w.shape, dw.dtype) if self.gradient_op.updates_row_major and dw.size == w.size else dw
        require(seen == w, f"the gradient {dw} is not of the type {w} of the weight")
        return w

    def reference(self, run: Run, *inputs: Array) -> Arrays:
        *operands, w, learning_rate = inputs
        (gradient,) = self.gradient_op.run(run, *operands)
        dw = gradient.reshape(w.shape)
        finite = np.isfinite(dw)
        stepped = Sgd(weight_decay=self.weight_decay).reference(run, w, np.where(finite, dw, 0), learning_rate)
        updated = np.where(finite, stepped, w)
        if not finite.all():
            raise StepAborted("ET_NONFINITE_GRADIENT", (updated,))
        return updated

    def lower(self, to: Lowering) -> None:
        kernel, shape, layout = self.gradient_op.weight_kernel(to, "_update")
        w = len(to.node.inputs) - 2
        rate, decay = to.read(w + 1), to.real(self.weight_decay)
        to.call(kernel, shape, rate, decay, *self.gradient_op.operands(to), to.write(0, layout, in_place=(w,)))

    def adds_samples(self) -> bool:
        return self.gradient_op.adds_samples()

    def lower_part(self, to: Lowering) -> None:
        sums, layout = self.gradient_op.lower_sums(to)
        w = len(to.node.inputs) - 2
        to.call_last(
            "et_apply_update_f32", to.size(to.output_type().size), to.read(w + 1), to.real(self.weight_decay), sums,
            to.write(0, layout, in_place=(w,)),
        )  # fmt: skip

    def macs(self, *inputs: Any) -> int:
        return self.gradient_op.macs(*inputs[:-2])
