"""What elementwise ops share: one count, every operand in the memory order of the first, any of them overwritten."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.program import Argument
from toolkit.ir import TensorType
from toolkit.ops.base import Op, require
from toolkit.ops.contexts import Import, Lowering


def same_type(first: TensorType, *others: TensorType) -> TensorType:
    """The common type of the operands of an elementwise op. Raises ShapeError where they differ."""
    for other in others:
        require(first == other, lambda other=other: f"operands differ: {first} and {other}")  # type: ignore[misc]
    require(first.dtype == "float32", f"float32 is needed, not {first}")
    return first


def lower_elementwise(to: Lowering, kernel: str, *options: Argument) -> None:
    """Calls kernel(count, options..., inputs..., output), where the output may take the place of any input."""
    layout = to.layout(0)
    inputs = range(len(to.node.inputs))
    reads = [to.read(index, layout) for index in inputs]
    to.call(kernel, to.size(to.input_type(0).size), *options, *reads, to.write(0, layout, in_place=tuple(inputs)))


def import_elementwise(node: Import, op: Op) -> Sequence[str]:
    """Applies an op to ONNX input 0 in whatever axis order it is stored in."""
    x, order = node.stored(0)
    return (node.emit(0, node.apply(op, x)[0], order),)
