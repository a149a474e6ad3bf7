"""Cast: from one float type of ONNX to another, which is nothing here: every float is float32 inside.

Casts of integers belong to shape computations, which the importer folds; what is left of them is not supported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, UnsupportedError, op, require
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.elementwise import import_elementwise

# TensorProto.DataType: float, float16, double, bfloat16; and names of the others for messages.
_FLOAT_TYPES = frozenset({1, 10, 11, 16})
_OTHER_TYPES = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool"}


@op
@dataclass(frozen=True)
class Cast(Op):
    """y = x, float32 to float32; any shape."""

    onnx = ("Cast",)
    smooth = True

    def infer(self, x: TensorType) -> TensorType:
        require(x.dtype == "float32", f"a computed {x.dtype} cannot be cast")
        return x

    def reference(self, run: Run, x: Array) -> Array:
        return x

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (dy,)

    def lower(self, to: Lowering) -> None:
        to.alias()

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        target = int(node.attribute("to", 1))
        if target not in _FLOAT_TYPES:
            name = _OTHER_TYPES.get(target, f"type {target}")
            raise UnsupportedError(f"a computed tensor is cast to {name}; only casts between floats are supported")
        return import_elementwise(node, cls())
