"""Unsqueeze: adds axes of size one. Imported as Reshape, in whatever order the tensor is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.ops.base import Op, op
from toolkit.ops.contexts import Import
from toolkit.ops.reshape import Reshape


@op
@dataclass(frozen=True)
class Unsqueeze(Op):
    """Only a name in ONNX files."""

    onnx = ("Unsqueeze",)
    no_gradient = "it is imported as Reshape"

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        shape = node.shape(0)
        given = node.value(1, "axes").reshape(-1).tolist() if node.has(1) else node.attribute("axes")
        rank = len(shape) + len(given)
        new = {int(axis) % rank for axis in given}
        old = [axis for axis in range(rank) if axis not in new]
        x, order = node.stored(0)
        stored = [old[axis] for axis in order]
        for axis in sorted(new, reverse=True):  # each lies before the axis that follows it, wherever that is stored
            stored.insert(stored.index(axis + 1) if axis + 1 in stored else len(stored), axis)
        sizes = tuple(1 if axis in new else shape[old.index(axis)] for axis in stored)
        return (node.emit(0, node.apply(Reshape(sizes), x)[0], tuple(stored)),)
