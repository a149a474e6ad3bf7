"""Cast: to float32, which every computed tensor is already.

Casts of constants and of shapes are folded when importing. A cast to any other type would change values that later
nodes read, so it is refused: rounding to half precision is the business of a quantizer, which says so in the graph.
"""

from __future__ import annotations

from toolkit.ops.base import UnsupportedError, ViewOp, op
from toolkit.ops.contexts import Import
from toolkit.ops.views import View

# TensorProto.DataType; all but float32 for messages alone.
_FLOAT32 = 1
_OTHERS = {
    2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool", 10: "float16",
    11: "double", 12: "uint32", 13: "uint64", 16: "bfloat16",
}


@op
class Cast(ViewOp):
    """y = x, float32 to float32."""

    onnx = ("Cast",)

    @classmethod
    def seen_as(cls, node: Import) -> View:
        target = int(node.attribute("to", _FLOAT32))
        if target != _FLOAT32:
            name = _OTHERS.get(target, f"type {target}")
            raise UnsupportedError(f"a computed float32 tensor is cast to {name}; only constants can be cast")
        return node.view(0)
