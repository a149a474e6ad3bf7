"""Slice with constant bounds, any step; and the gradient of it, which puts values into zeros."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, UnsupportedError, op, require
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.strided import row_major_strides, walk_fields


def places(
    shape: Sequence[int], starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int]
) -> tuple[Array, ...]:
    """The index (for NumPy) of the elements of a slice. Raises ShapeError where it leaves the tensor."""
    for size, start, count, step in zip(shape, starts, sizes, steps, strict=True):
        last = start + (count - 1) * step
        require(count > 0 and 0 <= start < size and 0 <= last < size, f"{start}..{last} leaves an axis of {size}")
    return np.ix_(*(start + step * np.arange(n) for start, step, n in zip(starts, steps, sizes, strict=True)))


def slice_walk(
    shape: Sequence[int], starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int]
) -> dict[str, int]:
    """The fields of et_walk for the elements of a slice of a row-major tensor."""
    strides = row_major_strides(shape)
    offset = sum(start * stride for start, stride in zip(starts, strides, strict=True))
    return walk_fields(sizes, [step * stride for step, stride in zip(steps, strides, strict=True)], offset)


@op
@dataclass(frozen=True)
class Slice(Op):
    """y[i, j, ...] = x[starts[0] + i * steps[0], ...]; float32. One entry per axis in every field."""

    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    steps: tuple[int, ...]

    onnx = ("Slice",)
    smooth = True

    def infer(self, x: TensorType) -> TensorType:
        require(len(x.shape) == len(self.starts), f"a slice of {len(self.starts)} axes cannot be taken from {x}")
        places(x.shape, self.starts, self.sizes, self.steps)
        return TensorType(self.sizes, x.dtype)

    def reference(self, run: Run, x: Array) -> Array:
        return np.asarray(x[places(x.shape, self.starts, self.sizes, self.steps)])

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (back.apply(SliceGrad(back.type(back.input(0)).shape, self.starts, self.steps), dy),)

    def lower(self, to: Lowering) -> None:
        x = to.input_type(0)
        if x.shape == self.sizes and all(step == 1 for step in self.steps):
            to.alias()
            return
        require(x.dtype == "float32", f"only float32 can be sliced, not {x}")
        walk = to.struct("et_walk", slice_walk(x.shape, self.starts, self.sizes, self.steps), "slice")
        to.call("et_slice_f32", walk, to.read(0), to.write(0))

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        shape = node.shape(0)
        if node.inputs > 1:
            given = [node.value(i, n).reshape(-1).tolist() if node.has(i) else None for i, n in _INPUTS.items()]
        else:
            given = [node.attribute(name) for name in _INPUTS.values()]
        starts, ends, axes, steps = given
        assert starts is not None and ends is not None
        axes = [int(axis) % len(shape) for axis in (axes if axes is not None else range(len(starts)))]
        ranges = [range(size) for size in shape]
        for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(starts), strict=True):
            ranges[axis] = range(*slice(int(start), _end(int(end), int(step)), int(step)).indices(shape[axis]))
        if any(len(part) == 0 for part in ranges):
            raise UnsupportedError("the slice is empty")
        x, order = node.stored(0)
        parts = [ranges[axis] for axis in order]
        sliced = cls(tuple(p.start for p in parts), tuple(len(p) for p in parts), tuple(p.step for p in parts))
        return (node.emit(0, node.apply(sliced, x)[0], order),)


_INPUTS = {1: "starts", 2: "ends", 3: "axes", 4: "steps"}


def _end(end: int, step: int) -> int | None:
    """ONNX says 'to the beginning, and with it' by a very negative end, Python by None."""
    return None if step < 0 and end < -(1 << 30) else end


@op
@dataclass(frozen=True)
class SliceGrad(Op):
    """Zeros of a shape, with the input where Slice took it from. float32."""

    shape: tuple[int, ...]
    starts: tuple[int, ...]
    steps: tuple[int, ...]

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType) -> TensorType:
        places(self.shape, self.starts, dy.shape, self.steps)
        return TensorType(self.shape)

    def reference(self, run: Run, dy: Array) -> Array:
        dx = np.zeros(self.shape, np.float32)
        dx[places(self.shape, self.starts, dy.shape, self.steps)] = dy
        return dx

    def lower(self, to: Lowering) -> None:
        dy = to.input_type(0)
        walk = to.struct("et_walk", slice_walk(self.shape, self.starts, dy.shape, self.steps), "slice")
        to.call("et_pad_f32", walk, to.size(to.output_type().size), to.real(0.0), to.read(0), to.write(0))
