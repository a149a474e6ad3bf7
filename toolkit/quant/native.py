"""What stays in binary16 between layers whose sums are native: which op takes the place of which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from toolkit.ir import Node, TensorType
from toolkit.ops.add import Add
from toolkit.ops.base import Op
from toolkit.ops.batch_normalization import BatchNormalization
from toolkit.ops.max_pool import MaxPool
from toolkit.ops.native_maps import NativeAdd, NativeMean, NativeRelu
from toolkit.ops.native_norm import NativeBatchNorm
from toolkit.ops.native_pool import NativeMaxPool, pools_natively
from toolkit.ops.reduce_mean import ReduceMean
from toolkit.ops.relu import Relu
from toolkit.ops.reshape import Reshape


def _mean(op: ReduceMean, x: TensorType, scale: float) -> Op | None:
    spatial = tuple(range(1, len(x.shape) - 1))
    return NativeMean(op.keepdims) if spatial and tuple(sorted(op.axes)) == spatial else None


_OPS: dict[type, Callable[[Any, TensorType, float], Op | None]] = {
    Relu: lambda op, x, scale: NativeRelu(),
    Add: lambda op, x, scale: NativeAdd(),
    Reshape: lambda op, x, scale: op,
    MaxPool: lambda op, x, scale: NativeMaxPool(op.window) if pools_natively(op.window) else None,
    BatchNormalization: lambda op, x, scale: NativeBatchNorm(op.epsilon, op.momentum, scale),
    ReduceMean: _mean,
}


def native_op(node: Node, x: TensorType, scale: float) -> Op | None:
    """The op on binary16 that stands for a node; None where there is none.

    Args:
        x: the type of its first input.
        scale: of the gradients.
    """
    make = _OPS.get(type(node.op))
    return make(node.op, x, scale) if make is not None else None
