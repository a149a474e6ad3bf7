"""Transpose: the same values with their axes in another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.strided import row_major_strides, walk_fields
from toolkit.ops.views import View, transposed


@op
@dataclass(frozen=True)
class Transpose(Op):
    """y.shape[i] = x.shape[permutation[i]]; any type, float32 where the values have to move."""

    permutation: tuple[int, ...]

    onnx = ("Transpose",)
    smooth = True

    def infer(self, x: TensorType) -> TensorType:
        fits = sorted(self.permutation) == list(range(len(x.shape)))
        require(fits, f"{self.permutation} does not permute the axes of {x}")
        return TensorType(tuple(x.shape[axis] for axis in self.permutation), x.dtype)

    def reference(self, run: Run, x: Array) -> Array:
        return np.transpose(x, self.permutation)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        inverse = sorted(range(len(self.permutation)), key=self.permutation.__getitem__)
        return (back.apply(Transpose(tuple(inverse)), dy),)

    def lower(self, to: Lowering) -> None:
        x, y = to.input_type(0), to.output_type()
        moved = [axis for axis in self.permutation if x.shape[axis] != 1]
        if moved == sorted(moved):
            to.alias()
            return
        require(x.dtype == "float32", f"only float32 can be transposed, not {x}")
        strides = row_major_strides(x.shape)
        walk = to.struct("et_walk", walk_fields(y.shape, [strides[axis] for axis in self.permutation]), "order")
        to.call("et_transpose_f32", walk, to.read(0), to.write(0))

    @classmethod
    def seen_as(cls, node: Import) -> View:
        source = node.view(0)
        permutation = node.attribute("perm", list(range(source.rank))[::-1])
        fits = sorted(permutation) == list(range(source.rank))
        require(fits, f"perm {list(permutation)} does not permute the {source.rank} axes of its input")
        return transposed(source, permutation)
