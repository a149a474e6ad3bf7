"""Broadcasting of two operands, as in NumPy and ONNX: result shapes, collapsed axes, the lowering of binary ops."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from codegen.program import Argument, Table
from toolkit.ir import TensorType
from toolkit.ops.base import Op, ShapeError, UnsupportedError, require
from toolkit.ops.contexts import Import, Lowering

MAX_AXES = 6  # ET_BROADCAST_MAX_AXES of et_broadcast.h
Shape = tuple[int, ...]


def broadcast_shape(a: Shape, b: Shape) -> Shape:
    """The shape that a and b are broadcast to. Raises ShapeError where they do not fit."""
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True)
    shape = []
    for m, n in pairs:
        if m != n and 1 not in (m, n):
            raise ShapeError(f"shapes {list(a)} and {list(b)} cannot be broadcast together")
        shape.append(n if m == 1 else m)
    return tuple(shape)


def broadcast_type(a: TensorType, b: TensorType) -> TensorType:
    """Result type of a float32 binary op."""
    require(a.dtype == b.dtype == "float32", f"float32 operands are needed, not {a} and {b}")
    return TensorType(broadcast_shape(a.shape, b.shape))


def strides(shape: Shape, rank: int) -> Shape:
    """Row-major strides in elements, 0 on broadcast axes, for a result of the given rank."""
    padded = (1,) * (rank - len(shape)) + shape
    return tuple(0 if n == 1 else prod(padded[axis + 1 :]) for axis, n in enumerate(padded))


def collapse(shape: Shape, *operands: Shape) -> list[tuple[int, ...]]:
    """The fewest axes that walk the result and its operands alike.

    Returns:
        One row (size, stride of each operand) per axis, outermost first; axes of size 1 are dropped and neighbours
        merged wherever every operand goes through both in one stride. At least one row.
    """
    rows: list[tuple[int, ...]] = []
    for size, *steps in zip(shape, *(strides(operand, len(shape)) for operand in operands), strict=True):
        if size == 1:
            continue
        if rows and all(outer == inner * size for outer, inner in zip(rows[-1][1:], steps, strict=True)):
            rows[-1] = (rows[-1][0] * size, *steps)
        else:
            rows.append((size, *steps))
    if len(rows) > MAX_AXES:
        raise UnsupportedError(f"broadcasting over {len(rows)} axes that cannot be merged; {MAX_AXES} is the most")
    return rows or [(1, *(0 for _ in operands))]


def broadcast_struct(to: Lowering, shape: Shape, a: Shape, b: Shape) -> Argument:
    """A pointer to the et_broadcast struct for operands a and b."""
    rows = collapse(shape, a, b)
    return to.struct("et_broadcast", {"axes": len(rows), "axis": Table("et_broadcast_axis", tuple(rows))}, "broadcast")


def lower_binary(to: Lowering, name: str) -> None:
    """Calls et_<name>_f32 for equal shapes, else et_<name>_broadcast_f32; a full-sized operand may be overwritten."""
    a, b, y = to.input_type(0), to.input_type(1), to.output_type()
    if a.shape == b.shape:
        layout = to.layout(0)
        to.call(
            f"et_{name}_f32",
            to.size(y.size), to.read(0, layout), to.read(1, layout), to.write(0, layout, in_place=(0, 1)),
        )
        return
    full = tuple(index for index, operand in enumerate((a, b)) if operand.size == y.size)
    to.call(
        f"et_{name}_broadcast_f32",
        broadcast_struct(to, y.shape, a.shape, b.shape), to.read(0), to.read(1), to.write(0, in_place=full),
    )


def import_binary(node: Import, op: Op) -> Sequence[str]:
    """Applies a binary op to ONNX inputs 0 and 1 in a common axis order.

    Raises:
        UnsupportedError: the broadcasting of opset 6 and before, which names an axis.
    """
    if node.opset < 7 and node.attribute("axis") is not None and node.shape(0) != node.shape(1):
        raise UnsupportedError("broadcasting with an `axis` attribute (opset 6); convert the model to opset 7 or later")
    tensors, order = node.common(0, 1)
    return (node.emit(0, node.apply(op, *tensors)[0], order),)
