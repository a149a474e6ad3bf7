"""Reshape: the same values in the same order under another shape. No code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, UnsupportedError, op, require
from toolkit.ops.contexts import Backward, Import, Lowering


@op
@dataclass(frozen=True)
class Reshape(Op):
    """x of any shape and type -> the given shape with as many elements."""

    shape: tuple[int, ...]

    onnx = ("Reshape",)
    smooth = True

    def infer(self, x: TensorType) -> TensorType:
        require(prod(self.shape) == x.size, f"{x} cannot be reshaped to {list(self.shape)}")
        return TensorType(self.shape, x.dtype)

    def reference(self, run: Run, x: Array) -> Array:
        return x.reshape(self.shape)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (back.apply(Reshape(back.type(back.input(0)).shape), dy),)

    def lower(self, to: Lowering) -> None:
        to.alias()

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        wanted = node.attribute("shape") if node.inputs < 2 else node.value(1, "shape").reshape(-1).tolist()
        shape = resolve(wanted, node.shape(0), bool(node.attribute("allowzero", 0)))
        return (node.emit(0, node.apply(cls(shape), node.plain(0))[0]),)


def resolve(wanted: Sequence[int], old: Sequence[int], allow_zero: bool = False) -> tuple[int, ...]:
    """A shape as ONNX writes it, with 0 (the old size, unless allow_zero) and -1 (what is left) put in.

    Raises:
        UnsupportedError: it does not fit.
    """
    shape = [int(size) for size in wanted]
    for axis, size in enumerate(shape):
        if size == 0 and not allow_zero:
            if axis >= len(old):
                raise UnsupportedError(f"shape {list(wanted)}: there is no axis {axis} in {list(old)} to copy")
            shape[axis] = old[axis]
    if shape.count(-1) > 1 or any(size < -1 for size in shape):
        raise UnsupportedError(f"shape {list(wanted)} is not a shape")
    if -1 in shape:
        known = -prod(shape)
        if known == 0 or prod(old) % known:
            raise UnsupportedError(f"{list(old)} cannot be reshaped to {list(wanted)}")
        shape[shape.index(-1)] = prod(old) // known
    if prod(shape) != prod(old):
        raise UnsupportedError(f"{list(old)} cannot be reshaped to {list(wanted)}")
    return tuple(shape)
