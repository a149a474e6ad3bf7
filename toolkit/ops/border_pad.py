"""BorderPad: padding with values of the tensor itself. What Pad of ONNX calls edge, reflect and wrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from codegen.program import Table
from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.strided import row_major_strides

MODES = ("edge", "reflect", "wrap")
TABLES = 4


def sources(mode: str, size: int, before: int, after: int) -> Array:
    """For each position of the padded axis, the position that it copies: int64 [before + size + after]."""
    return np.asarray(np.pad(np.arange(size), (before, after), mode=mode))  # type: ignore[call-overload]


def border_fields(
    shape: Sequence[int], before: Sequence[int], after: Sequence[int], mode: str
) -> dict[str, int | float | Table]:
    """The fields of et_border_shape, in order. Raises ShapeError where there are more axes than tables."""
    padded = [axis for axis in range(len(shape)) if before[axis] or after[axis]]
    end = max(padded, default=-1) + 1
    strides = row_major_strides(shape)
    places = [sources(mode, shape[axis], before[axis], after[axis]) for axis in range(end)]
    tables = [tuple(int(i) * strides[axis] for i in places[axis]) for axis in range(end)]
    require(end <= TABLES, f"padding reaches axis {end - 1}; at most {TABLES} axes are supported")
    tables = [(0,)] * (TABLES - end) + tables
    fields: dict[str, int | float | Table] = {f"size{axis}": len(table) for axis, table in enumerate(tables)}
    fields["inner"] = prod(shape[end:])
    return {**fields, **{f"source{axis}": Table("int32_t", table) for axis, table in enumerate(tables)}}


@op
@dataclass(frozen=True)
class BorderPad(Op):
    """y has before[i] + after[i] more elements along axis i than x. float32.

    edge repeats the outermost element, reflect mirrors at it, wrap goes on at the other end.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    mode: str

    smooth = True

    def infer(self, x: TensorType) -> TensorType:
        require(self.mode in MODES, f"mode {self.mode} is not one of {', '.join(MODES)}")
        require(len(x.shape) == len(self.before) == len(self.after), f"padding for {len(self.before)} axes, but {x}")
        require(min((*self.before, *self.after), default=0) >= 0, "negative padding is a Slice")
        require(x.dtype == "float32", f"float32 is needed, not {x}")
        return TensorType(tuple(n + b + a for n, b, a in zip(x.shape, self.before, self.after, strict=True)))

    def reference(self, run: Run, x: Array) -> Array:
        return np.asarray(x[self._index(x.shape)])

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        shape = back.type(back.input(0)).shape
        return (back.apply(BorderPadGrad(self.before, self.after, self.mode, shape), dy),)

    def lower(self, to: Lowering) -> None:
        fields = border_fields(to.input_type(0).shape, self.before, self.after, self.mode)
        to.call("et_border_pad_f32", to.struct("et_border_shape", fields), to.read(0), to.write(0))

    def _index(self, shape: Sequence[int]) -> tuple[Array, ...]:
        ends = zip(shape, self.before, self.after, strict=True)
        return np.ix_(*(sources(self.mode, size, before, after) for size, before, after in ends))


@op
@dataclass(frozen=True)
class BorderPadGrad(Op):
    """dx starts at 0; each dy is added to the element that it is a copy of, in ascending row-major order of dy."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    mode: str
    shape: tuple[int, ...]

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType) -> TensorType:
        return TensorType(self.shape)

    def reference(self, run: Run, dy: Array) -> Array:
        dx = np.zeros(self.shape, np.float32)
        np.add.at(dx, BorderPad(self.before, self.after, self.mode)._index(self.shape), dy)
        return dx

    def lower(self, to: Lowering) -> None:
        shape = to.struct("et_border_shape", border_fields(self.shape, self.before, self.after, self.mode))
        to.call("et_border_pad_grad_f32", shape, to.size(to.output_type().size), to.read(0), to.write(0))
