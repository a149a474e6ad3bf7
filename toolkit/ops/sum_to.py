"""SumTo: sums over broadcast axes: the gradient of a bias, and of every operand that was broadcast.

Plain float32 additions, from +0, in ascending row-major index of the summed elements (numerics N2).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from codegen.program import Argument, Table
from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.broadcasting import broadcast_shape, collapse
from toolkit.ops.contexts import Lowering


@op
@dataclass(frozen=True)
class SumTo(Op):
    """x float32 [...] -> float32 [shape].

    Attributes:
        shape: broadcasts to the shape of x; leading axes may be missing.
    """

    shape: tuple[int, ...]

    no_gradient = "it only appears in gradients"

    def infer(self, x: TensorType) -> TensorType:
        require(x.dtype == "float32", f"only float32 is summed, not {x}")
        fits = len(self.shape) <= len(x.shape) and broadcast_shape(x.shape, self.shape) == x.shape
        require(fits, lambda: f"{x} cannot be summed to {list(self.shape)}")
        return TensorType(self.shape)

    def reference(self, run: Run, x: Array) -> Array:
        padded = (1,) * (x.ndim - len(self.shape)) + self.shape
        summed = [axis for axis, n in enumerate(padded) if n == 1]
        kept = [axis for axis, n in enumerate(padded) if n != 1]
        rows = x.transpose(*summed, *kept).reshape(prod(x.shape[axis] for axis in summed), -1)
        running: Array = np.add.accumulate(rows, axis=0)  # strictly one after the other, unlike np.sum
        total: Array = running[-1] + np.float32(0)  # a sum of nothing but -0 is +0 when started from +0
        return total.reshape(self.shape)

    def is_per_sample(self) -> bool:
        return True  # where the batch is not what is summed

    def adds_samples(self) -> bool:
        return True

    def lower(self, to: Lowering) -> None:
        to.call("et_sum_to_f32", self._sum(to), to.read(0), to.write(0))

    def lower_part(self, to: Lowering) -> None:
        to.call("et_sum_on_f32", self._sum(to), to.by_part("false", "true"), to.read(0), to.write(0))
        to.keep()

    def _sum(self, to: Lowering) -> Argument:
        shape = to.input_type(0).shape
        rows = collapse(shape, shape, self.shape)
        kept = [(size, stride) for size, stride, target in rows if target] or [(1, 0)]
        summed = [(size, stride) for size, stride, target in rows if not target] or [(1, 0)]
        fields: dict[str, int | float | Table] = {
            "kept_axes": len(kept), "kept": Table("et_sum_axis", tuple(kept)),
            "summed_axes": len(summed), "summed": Table("et_sum_axis", tuple(summed)),
        }
        return to.struct("et_sum_to", fields, "sum")
