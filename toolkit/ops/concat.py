"""Concat: tensors one after another along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.slice_ import Slice

MOST_INPUTS = 4  # of one node; the import makes a chain for more


@op
@dataclass(frozen=True)
class Concat(Op):
    """Two to four float32 inputs of one shape but for `axis`."""

    axis: int

    onnx = ("Concat",)
    smooth = True

    def infer(self, *inputs: TensorType) -> TensorType:
        require(2 <= len(inputs) <= MOST_INPUTS, f"{len(inputs)} inputs; 2 to {MOST_INPUTS} are supported")
        first, axis = inputs[0].shape, self.axis
        require(0 <= axis < len(first), f"there is no axis {axis} in {inputs[0]}")
        for x in inputs:
            require(x.dtype == "float32", f"float32 is needed, not {x}")
            fits = len(x.shape) == len(first) and (*x.shape[:axis], first[axis], *x.shape[axis + 1 :]) == first
            require(fits, f"{inputs[0]} and {x} differ in more than axis {axis}")
        return TensorType((*first[:axis], sum(x.shape[axis] for x in inputs), *first[axis + 1 :]))

    def reference(self, run: Run, *inputs: Array) -> Array:
        return np.concatenate(inputs, axis=self.axis)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        gradients: list[str | None] = []
        begin = 0
        for index in range(len(back.node.inputs)):
            shape = back.type(back.input(index)).shape
            starts = tuple(begin if axis == self.axis else 0 for axis in range(len(shape)))
            part = Slice(starts, shape, (1,) * len(shape))
            gradients.append(back.apply(part, dy) if back.needs(index) else None)
            begin += shape[self.axis]
        return gradients

    def is_per_sample(self) -> bool:
        return self.axis > 0

    def lower(self, to: Lowering) -> None:
        count = len(to.node.inputs)
        fields = {"blocks": prod(to.output_type().shape[: self.axis])}
        reads = []
        for index in range(MOST_INPUTS):  # the absent ones have a length of 0
            fields[f"length{index}"] = prod(to.input_type(index).shape[self.axis :]) if index < count else 0
            reads.append(to.read(index) if index < count else to.constant("NULL", "const float *"))
        to.call("et_concat_f32", to.struct("et_concat_shape", fields), *reads, to.write(0))

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        count = node.inputs
        if count == 1:
            x, order = node.stored(0)
            return (node.emit(0, x, order),)
        inputs, order = node.common(*range(count))
        onnx_axis = int(node.attribute("axis")) % len(order)
        concat = cls(order.index(onnx_axis))
        rest = list(inputs)
        while len(rest) > 1:
            rest = list(node.apply(concat, *rest[:MOST_INPUTS])) + rest[MOST_INPUTS:]
        return (node.emit(0, rest[0], order),)
