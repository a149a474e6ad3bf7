"""Dense: y = x w + bias for a batch of rows; and its gradients.

One multiply-add per product, one accumulator per result (numerics N2): forward ascending over the inputs, starting from
the bias (or 0); for the gradient of x ascending over the outputs; for that of w ascending over the batch. The gradient
of the bias is SumTo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codegen.program import Argument, Layout
from toolkit.ir import Array, TensorType
from toolkit.numerics import accumulate_matmul
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.conv import fold_last_axis
from toolkit.ops.geometry import dense_shape_fields
from toolkit.ops.kernel_forms import RECTIFY, Way, dense_forms
from toolkit.ops.packing import layout_by_output, packed_layout
from toolkit.ops.sgd_of_gradient import WeightGradient
from toolkit.ops.sum_to import SumTo
from toolkit.ops.update_of_gradient import fused


@op
@dataclass(frozen=True)
class Dense(Op):
    """x [N, K], w [K, M], bias [M] or None -> y [N, M]; float32.

    Attributes:
        by_output: in memory the weights of one output lie side by side (toolkit.ops.dense_batch).
    """

    by_output: bool = False

    smooth = True
    bias_inputs = (2,)
    relu_form = RECTIFY

    def infer(self, x: TensorType, w: TensorType, bias: TensorType | None = None) -> TensorType:
        require_matrices(x, w)
        require(x.shape[1] == w.shape[0], f"{x} cannot be multiplied by the weights {w}")
        if bias is not None:
            require(bias == TensorType(w.shape[1:]), f"the bias {bias} does not fit {w.shape[1]} outputs")
        return TensorType((x.shape[0], w.shape[1]))

    def reference(self, run: Run, x: Array, w: Array, bias: Array | None = None) -> Array:
        return accumulate_matmul(x, w, np.float32(0) if bias is None else bias, run.fma)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        dx = back.apply(DenseGradInput(self.by_output), dy, back.input(1)) if back.needs(0) else None
        dw = back.apply(DenseGradWeight(self.by_output), back.input(0), dy) if back.needs(1) else None
        if len(back.node.inputs) < 3:
            return dx, dw
        return dx, dw, back.apply(SumTo(back.type(back.input(2)).shape), dy) if back.needs(2) else None

    def is_per_sample(self) -> bool:
        return True

    def lower(self, to: Lowering) -> None:
        self.call_kernel(to, "")

    def ends_in_relu(self, *inputs: TensorType | None) -> bool:
        """Whether there is a kernel of both."""
        return True

    def call_kernel(self, to: Lowering, part: str, *options: Argument) -> None:
        """Calls et_dense<part>_f32 or et_dense_batch<part>_f32, with options behind the shape."""
        kernel, shape, layout = _kernel(to, self.by_output, part, to.input_type(1).shape, "forward")
        to.call(kernel, shape, *options, to.read(0), to.read(1, layout), to.read(2), to.write(0))

    def macs(self, x: TensorType, w: TensorType, bias: TensorType | None = None) -> int:
        return x.shape[0] * w.size

    def with_bias(self, inputs: tuple[str | None, ...], bias: str) -> tuple[str | None, ...] | None:
        """The inputs with a bias over the last axis of the output added; None where there is one already."""
        return None if len(inputs) > 2 and inputs[2] is not None else (*inputs[:2], bias)

    def fold_affine(self, weight: Array, bias: Array | None, scale: Array, shift: Array) -> tuple[Array, Array]:
        """Weights and bias of y * scale + shift, per output; computed in float64 and rounded once.

        Args:
            weight, bias: the parameters; scale, shift: [M], any float dtype.
        """
        return fold_last_axis(weight, bias, scale, shift)


@op
@dataclass(frozen=True)
class DenseGradInput(Op):
    """dy [N, M], w [K, M] -> dx [N, K].

    Attributes:
        by_output: as Dense has it.
    """

    by_output: bool = False

    no_gradient = "second derivatives are not used"
    smooth = True

    def infer(self, dy: TensorType, w: TensorType) -> TensorType:
        require_matrices(dy, w)
        require(dy.shape[1] == w.shape[1], f"the gradient {dy} does not fit the weights {w}")
        return TensorType((dy.shape[0], w.shape[0]))

    def reference(self, run: Run, dy: Array, w: Array) -> Array:
        return accumulate_matmul(dy, w.T, np.float32(0), run.fma)

    def is_per_sample(self) -> bool:
        return True

    def lower(self, to: Lowering) -> None:
        kernel, shape, layout = _kernel(to, self.by_output, "_grad_input", to.input_type(1).shape, "input")
        to.call(kernel, shape, to.read(0), to.read(1, layout), to.write(0))

    def macs(self, dy: TensorType, w: TensorType) -> int:
        return dy.shape[0] * w.size


@op
@dataclass(frozen=True)
class DenseGradWeight(WeightGradient):
    """x [N, K], dy [N, M] -> dw [K, M].

    Attributes:
        by_output: as Dense has it, of the gradient too.
    """

    by_output: bool = False

    no_gradient = "second derivatives are not used"
    smooth = True

    def infer(self, x: TensorType, dy: TensorType) -> TensorType:
        require_matrices(x, dy)
        require(x.shape[0] == dy.shape[0], f"the input {x} and the gradient {dy} are of different batches")
        return TensorType((x.shape[1], dy.shape[1]))

    def reference(self, run: Run, x: Array, dy: Array) -> Array:
        return accumulate_matmul(x.T, dy, np.float32(0), run.fma)

    def for_channels(self, count: int) -> tuple[Op, tuple[bool, ...]] | None:
        return self, (False, True)

    def fused_with_states(self, update: Op) -> Op | None:
        return fused(self, update)

    def weight_kernel(self, to: Lowering, part: str) -> tuple[str, Argument, Layout | None]:
        return _kernel(to, self.by_output, part, to.output_type().shape, "weight")

    def adds_samples(self) -> bool:
        return True

    def macs(self, x: TensorType, dy: TensorType) -> int:
        return x.size * dy.shape[1]


def require_matrices(*types: TensorType) -> None:
    """Raises ShapeError unless all are float32 of rank 2."""
    for type in types:
        require(type.dtype == "float32" and len(type.shape) == 2, f"a float32 matrix is needed, not {type}")


def _kernel(
    to: Lowering, by_output: bool, part: str, weights: tuple[int, ...], way: Way
) -> tuple[str, Argument, Layout | None]:
    """Name of a kernel, its shape, and the layout that it wants of the weights."""
    inputs, outputs = weights
    shape = to.struct("et_dense_shape", dense_shape_fields(to.input_type(0).shape[0], inputs, outputs), "shape")
    if by_output:
        return f"et_dense_batch{part}_f32", shape, layout_by_output(inputs, outputs)
    to.ask_for(*dense_forms(inputs, outputs, way))
    return f"et_dense{part}_f32", shape, packed_layout(1, 1, inputs, outputs)
