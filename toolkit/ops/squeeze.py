"""Squeeze: takes away axes of size one. Imported as Reshape, in whatever order the tensor is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.ops.base import Op, UnsupportedError, op
from toolkit.ops.contexts import Import
from toolkit.ops.reshape import Reshape


@op
@dataclass(frozen=True)
class Squeeze(Op):
    """Only a name in ONNX files."""

    onnx = ("Squeeze",)
    no_gradient = "it is imported as Reshape"

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        shape = node.shape(0)
        given = node.value(1, "axes").reshape(-1).tolist() if node.has(1) else node.attribute("axes")
        if given is None:
            given = [axis for axis, size in enumerate(shape) if size == 1]
        gone = {int(axis) % len(shape) for axis in given}
        if any(shape[axis] != 1 for axis in gone):
            raise UnsupportedError(f"axes {sorted(gone)} of {list(shape)} are not all of size one")
        x, order = node.stored(0)
        stored = [axis for axis in order if axis not in gone]
        (y,) = node.apply(Reshape(tuple(shape[axis] for axis in stored)), x)
        return (node.emit(0, y, tuple(sorted(stored).index(axis) for axis in stored)),)
