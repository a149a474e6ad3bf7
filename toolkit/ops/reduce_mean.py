"""ReduceMean over axes that lie side by side.

The elements are added in ascending row-major order of the reduced axes as they are stored, starting from 0, by plain
additions; the sum is multiplied by 1 / count, rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.transpose import Transpose


def split(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, int, int] | None:
    """Elements before, along and behind the reduced axes; None where axes that are kept lie between them."""
    if not axes:
        return prod(shape), 1, 1
    first, last = min(axes), max(axes)
    if any(shape[axis] != 1 for axis in range(first, last + 1) if axis not in axes):
        return None
    return prod(shape[:first]), prod(shape[first : last + 1]), prod(shape[last + 1 :])


@op
@dataclass(frozen=True)
class ReduceMean(Op):
    """Mean over axes, float32; reduced axes stay with size one if keepdims."""

    axes: tuple[int, ...]
    keepdims: bool = True

    onnx = ("ReduceMean",)
    smooth = True

    def infer(self, x: TensorType) -> TensorType:
        require(x.dtype == "float32", f"float32 is needed, not {x}")
        require(all(0 <= axis < len(x.shape) for axis in self.axes), f"axes {self.axes} are not all axes of {x}")
        require(split(x.shape, self.axes) is not None, f"the axes {self.axes} of {x} do not lie side by side")
        kept = (1 if axis in self.axes else size for axis, size in enumerate(x.shape))
        return TensorType(tuple(size for axis, size in enumerate(kept) if self.keepdims or axis not in self.axes))

    def reference(self, run: Run, x: Array) -> Array:
        parts = split(x.shape, self.axes)
        assert parts is not None
        rows = x.reshape(parts)
        total = np.zeros((parts[0], parts[2]), np.float32)
        for index in range(parts[1]):
            total += rows[:, index]
        return (total * reciprocal(parts[1])).reshape(self.infer(TensorType(x.shape)).shape)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (back.apply(ReduceMeanGrad(self.axes, back.type(back.input(0)).shape), dy),)

    def is_per_sample(self) -> bool:
        return 0 not in self.axes

    def lower(self, to: Lowering) -> None:
        to.call("et_reduce_mean_f32", to.struct("et_reduce_shape", reduce_fields(to.input_type(0).shape, self.axes)),
                to.read(0), to.write(0))  # fmt: skip

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        rank = len(node.shape(0))
        given = node.value(1, "axes").tolist() if node.has(1) else node.attribute("axes")
        if not given and node.attribute("noop_with_empty_axes", 0):
            x, order = node.stored(0)
            return (node.emit(0, x, order),)
        onnx_axes = {int(axis) % rank for axis in given} if given else set(range(rank))
        keepdims = bool(node.attribute("keepdims", 1))
        x, order = node.stored(0)
        axes = tuple(place for place, axis in enumerate(order) if axis in onnx_axes)
        if split([node.shape(0)[axis] for axis in order], axes) is None:
            moved = (*(i for i in range(rank) if i not in axes), *axes)
            (x,) = node.apply(Transpose(moved), x)
            order = tuple(order[i] for i in moved)
            axes = tuple(range(rank - len(axes), rank))
        (y,) = node.apply(cls(axes, keepdims), x)
        if keepdims:
            return (node.emit(0, y, order),)
        kept = [axis for axis in order if axis not in onnx_axes]
        return (node.emit(0, y, tuple(sorted(kept).index(axis) for axis in kept)),)


def reciprocal(count: int) -> np.float32:
    """1 / count in float32."""
    return np.float32(1) / np.float32(count)


def reduce_fields(shape: Sequence[int], axes: Sequence[int]) -> dict[str, int]:
    """The fields of et_reduce_shape, in order."""
    parts = split(shape, axes)
    assert parts is not None
    return {"outer": parts[0], "count": parts[1], "inner": parts[2]}


@op
@dataclass(frozen=True)
class ReduceMeanGrad(Op):
    """dx = dy * (1 / count), rounded once, for every element that went into the mean."""

    axes: tuple[int, ...]
    shape: tuple[int, ...]

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType) -> TensorType:
        return TensorType(self.shape)

    def reference(self, run: Run, dy: Array) -> Array:
        parts = split(self.shape, self.axes)
        assert parts is not None
        share = dy.reshape(parts[0], 1, parts[2]) * reciprocal(parts[1])
        return np.broadcast_to(share, parts).reshape(self.shape)

    def is_per_sample(self) -> bool:
        return 0 not in self.axes

    def lower(self, to: Lowering) -> None:
        to.call("et_reduce_mean_grad_f32", to.struct("et_reduce_shape", reduce_fields(self.shape, self.axes)),
                to.read(0), to.write(0))  # fmt: skip
