"""Reshape: the same values in the same order under another shape. No code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, UnsupportedError, op, require
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.views import View, plain, reshaped


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

    def is_per_sample(self) -> bool:
        return True

    def lower(self, to: Lowering) -> None:
        to.alias()

    @classmethod
    def seen_as(cls, node: Import) -> View:
        wanted = node.value(1, "the new shape").reshape(-1).tolist() if node.has(1) else node.attribute("shape")
        require(wanted is not None, "the new shape is missing")
        return seen_in_shape(node, resolve(wanted, node.shape(0), bool(node.attribute("allowzero", 0))))


def seen_in_shape(node: Import, shape: Sequence[int]) -> View:
    """Input 0 in another shape; brought into the order of ONNX first where the shapes do not nest.

    Raises:
        ShapeError: the shape has another number of elements, or none.
    """
    old = node.shape(0)
    fits = min(shape, default=1) > 0 and prod(shape) == prod(old)
    require(fits, f"{prod(old)} elements {list(old)} do not fit shape {list(shape)}")
    view = reshaped(node.view(0), shape)
    if view is None:
        view = reshaped(plain(node.plain(0), old), shape)
        assert view is not None
    return view


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
