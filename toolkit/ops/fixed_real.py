"""FixedReal: exact integer sums as float32; and how integer gradients travel.

The gradient of an integer tensor of the fixed-point ops is itself an integer tensor with a scale: output 0 and output 1
of the node that makes it. `scaled_gradient` finds the scale, `real_gradient` makes a float32 gradient where one is
needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codegen.program import Argument
from toolkit.ir import Array, TensorType
from toolkit.numerics import madd
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.reshape import Reshape
from toolkit.ops.sum_to import SumTo

SCALAR = TensorType(())


def scaled_gradient(back: Backward, name: str) -> tuple[str, str]:
    """An integer gradient and its scale."""
    source = name
    while isinstance((producer := back.producer(source)).op, Reshape):
        source = producer.inputs[0] or ""
    return name, producer.outputs[1]


def real_gradient(back: Backward, name: str) -> str:
    """A gradient as float32."""
    if back.type(name).dtype == "float32":
        return name
    return back.apply(FixedReal(), *scaled_gradient(back, name))


@op
@dataclass(frozen=True)
class FixedReal(Op):
    """(sums int32 of any shape, scale[, bias [C]]) -> float32(sums) * scale, or madd(float32(sums), scale, bias)."""

    bias_inputs = (2,)

    def infer(self, sums: TensorType, scale: TensorType, bias: TensorType | None = None) -> TensorType:
        require(sums.dtype == "int32" and scale == SCALAR, f"sums and a scale, not {sums}")
        require(bias in (None, TensorType(sums.shape[-1:])), f"the bias {bias} does not fit {sums}")
        return TensorType(sums.shape)

    def reference(self, run: Run, sums: Array, scale: Array, bias: Array | None = None) -> Array:
        real = sums.astype(np.float32)
        return np.asarray(real * np.float32(scale)) if bias is None else madd(real, np.float32(scale), bias, run.fma)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        gradients = [dy, None]
        if len(back.node.inputs) > 2:
            wanted = back.needs(2) and dy is not None
            gradients.append(back.apply(SumTo(back.type(back.input(2)).shape), dy) if wanted else None)
        return gradients

    def lower(self, to: Lowering) -> None:
        sums = to.input_type(0)
        channels: Argument = to.size(sums.shape[-1] if sums.shape else 1)
        to.call("et_fixed_real", to.size(sums.size), channels, to.read(0), to.read(1), to.read(2), to.write(0))
