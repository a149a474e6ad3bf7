"""MatMul: the product of two tensors, batches broadcast as NumPy does; and the import of ONNX MatMul and Gemm.

A product with a weight matrix is imported as Dense, which packs it; everything else is MatMul.

One multiply-add per product, ascending over the inner axis, from 0 (numerics N2). The gradients are products too:
dA = dY B^T, ascending over the columns; dB = A^T dY, ascending over the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from codegen.program import Table
from toolkit.ir import Array, TensorType
from toolkit.numerics import accumulate_matmul
from toolkit.ops.add import Add
from toolkit.ops.base import Op, Run, UnsupportedError, op, require
from toolkit.ops.broadcasting import broadcast_shape
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.dense import Dense
from toolkit.ops.geometry import matmul_shape_fields
from toolkit.ops.mul import Mul
from toolkit.ops.reshape import Reshape
from toolkit.ops.scale import Scale
from toolkit.ops.transpose import Transpose

Shape = tuple[int, ...]


@op
@dataclass(frozen=True)
class MatMul(Op):
    """a [batch..., M, K], b [batch..., K, N] -> y [batch..., M, N]; float32; the batches broadcast.

    Attributes:
        transpose_a: a is [batch..., K, M].
        transpose_b: b is [batch..., N, K].
    """

    transpose_a: bool = False
    transpose_b: bool = False

    onnx = ("MatMul", "Gemm")
    contracts = True
    smooth = True

    def sizes(self, a: TensorType, b: TensorType) -> tuple[int, int, int]:
        """Rows, inner size, columns. Raises ShapeError where the operands do not fit together."""
        require(a.dtype == b.dtype == "float32", f"float32 matrices are needed, not {a} and {b}")
        require(min(len(a.shape), len(b.shape)) >= 2, f"matrices are needed, not {a} and {b}")
        rows, inner = a.shape[:-3:-1] if self.transpose_a else a.shape[-2:]
        same, columns = b.shape[:-3:-1] if self.transpose_b else b.shape[-2:]
        require(inner == same, f"{a} cannot be multiplied by {b}: the inner sizes are {inner} and {same}")
        return rows, inner, columns

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        rows, _, columns = self.sizes(a, b)
        return TensorType((*broadcast_shape(a.shape[:-2], b.shape[:-2]), rows, columns))

    def reference(self, run: Run, a: Array, b: Array) -> Array:
        first = np.swapaxes(a, -1, -2) if self.transpose_a else a
        second = np.swapaxes(b, -1, -2) if self.transpose_b else b
        return accumulate_matmul(first, second, np.float32(0), run.fma)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        a, b = back.input(0), back.input(1)
        da = db = None
        if back.needs(0):
            swapped = back.apply(MatMul(self.transpose_b, True), b, dy) if self.transpose_a else None
            da = swapped or back.apply(MatMul(False, not self.transpose_b), dy, b)
        if back.needs(1):
            swapped = back.apply(MatMul(True, self.transpose_a), dy, a) if self.transpose_b else None
            db = swapped or back.apply(MatMul(not self.transpose_a, False), a, dy)
        return da, db

    def lower(self, to: Lowering) -> None:
        a, b = to.input_type(0), to.input_type(1)
        count, one_a, one_b = _batches(a.shape[:-2], b.shape[:-2])
        fields: dict[str, int | float | Table] = {
            **matmul_shape_fields(count, *self.sizes(a, b), self.transpose_a, self.transpose_b, one_a, one_b)
        }
        shape = to.struct("et_matmul_shape", fields, "shape")
        to.call("et_matmul_f32", shape, to.read(0), to.read(1), to.write(0))

    def macs(self, a: TensorType, b: TensorType) -> int:
        return self.infer(a, b).size * self.sizes(a, b)[1]

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        return (node.emit(0, _gemm(node) if node.op_type == "Gemm" else _matmul(node)),)


def _batches(a: Shape, b: Shape) -> tuple[int, bool, bool]:
    """How many products, and whether all share one matrix a, one matrix b.

    Raises:
        UnsupportedError: matrices repeat in another pattern. The import spreads such operands out.
    """
    count = prod(broadcast_shape(a, b))
    if prod(a) not in (1, count) or prod(b) not in (1, count):
        raise UnsupportedError(f"batches {list(a)} and {list(b)} broadcast in a way that one product cannot walk")
    return count, prod(a) == 1, prod(b) == 1


def _matmul(node: Import) -> str:
    """ONNX MatMul: operands of any rank; of rank 1, a row on the left, a column on the right."""
    a, b = node.shape(0), node.shape(1)
    require(bool(a) and bool(b), "a product needs operands of rank 1 or more")
    front, columns = a[:-1], b[-1:] if len(b) > 1 else ()
    if len(b) <= 2 and node.is_constant(1) and not node.is_constant(0):
        require(a[-1] == b[0], f"{list(a)} cannot be multiplied by {list(b)}")
        weight = node.parameter(1, shape=(b[0], *(columns or (1,))))
        product = node.apply(Dense(), _reshaped(node, node.plain(0), a, (prod(front), a[-1])), weight)[0]
        return _reshaped(node, product, (prod(front), prod(columns)), (*front, *columns))
    batch = broadcast_shape(a[:-2], b[:-2])
    rows, inner = a[-2:] if len(a) > 1 else (1, a[0])
    same, width = b[-2:] if len(b) > 1 else (b[0], 1)
    first = _spread(node, _reshaped(node, node.plain(0), a, (*a[:-2], rows, inner)), a[:-2], b[:-2])
    second = _spread(node, _reshaped(node, node.plain(1), b, (*b[:-2], same, width)), b[:-2], a[:-2])
    product = node.apply(MatMul(), first, second)[0]
    rank_one = (() if len(a) == 1 else (rows,)) + (() if len(b) == 1 else (width,))
    return _reshaped(node, product, (*batch, rows, width), (*batch, *rank_one))


def _gemm(node: Import) -> str:
    """ONNX Gemm: alpha * A' B' + beta * C, alpha and beta applied by one rounding each."""
    alpha, beta = float(node.attribute("alpha", 1.0)), float(node.attribute("beta", 1.0))
    transpose_a, transpose_b = bool(node.attribute("transA", 0)), bool(node.attribute("transB", 0))
    require(len(node.shape(0)) == len(node.shape(1)) == 2, "Gemm multiplies matrices")
    columns = node.shape(1)[0 if transpose_b else 1]
    dense = node.is_constant(1) and not node.is_constant(0)
    addend = _addend(node, columns, beta) if node.has(2) and beta != 0 else None
    vector = addend is not None and node.is_constant(2) and _is_vector(node.shape(2), columns)
    if dense:
        x = node.plain(0)
        if transpose_a:
            (x,) = node.apply(Transpose((1, 0)), x)
        inputs = (x, node.parameter(1, permutation=(1, 0) if transpose_b else (0, 1)))
        if vector and alpha == 1:
            return node.apply(Dense(), *inputs, addend)[0]
        (y,) = node.apply(Dense(), *inputs)
    else:
        (y,) = node.apply(MatMul(transpose_a, transpose_b), node.plain(0), node.plain(1))
    if alpha != 1:
        (y,) = node.apply(Scale(alpha), y)
    return y if addend is None else node.apply(Add(), y, addend)[0]


def _addend(node: Import, columns: int, beta: float) -> str:
    """beta * C, a vector where it may be the bias of a Dense."""
    if node.is_constant(2):
        shape = node.shape(2)
        tensor = node.parameter(2, shape=(columns,) if _is_vector(shape, columns) else shape or (1,))
    else:
        tensor = node.plain(2)
    return tensor if beta == 1 else node.apply(Scale(beta), tensor)[0]


def _is_vector(shape: Shape, columns: int) -> bool:
    return bool(shape) and shape[-1] == columns == prod(shape)


def _reshaped(node: Import, tensor: str, old: Shape, new: Shape) -> str:
    return tensor if old == new else node.apply(Reshape(new), tensor)[0]


def _spread(node: Import, tensor: str, own: Shape, other: Shape) -> str:
    """An operand whose matrices one product can walk: multiplied by ones where its batch repeats in a pattern."""
    batch = broadcast_shape(own, other)
    if prod(own) in (1, prod(batch)):
        return tensor
    return node.apply(Mul(), tensor, node.constant("ones", np.ones((*batch, 1, 1), np.float32)))[0]
