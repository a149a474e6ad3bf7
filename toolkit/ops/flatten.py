"""Flatten: all axes before `axis` become one, all others another. Imported as Reshape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from toolkit.ops.base import Op, op
from toolkit.ops.contexts import Import
from toolkit.ops.reshape import Reshape


@op
@dataclass(frozen=True)
class Flatten(Op):
    """Only a name in ONNX files."""

    onnx = ("Flatten",)
    no_gradient = "it is imported as Reshape"

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        shape = node.shape(0)
        axis = int(node.attribute("axis", 1))
        axis += len(shape) if axis < 0 else 0
        flat = (prod(shape[:axis]), prod(shape[axis:]))
        return (node.emit(0, node.apply(Reshape(flat), node.plain(0))[0]),)
