"""What is known when compiling: initializers, constants, and every node that reads nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolkit.ir import Array
from toolkit.ops.base import UnsupportedError

if TYPE_CHECKING:
    from onnx import NodeProto

# Different on every run, by definition.
_RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")

_LATER_OPSETS = (13, 19, 21, 23, 25)


@dataclass(frozen=True)
class Known:
    """An ONNX tensor whose value is known when compiling.

    Attributes:
        name: in the ONNX file.
        value: as ONNX has it.
        weight: made from initializers, so a candidate for training; otherwise made from Constant nodes and shapes.
        rows: where not None, the value is that of the ONNX tensor with flat elements taken in this order.
    """

    name: str
    value: Array
    weight: bool
    rows: Array | None = None

    @property
    def index(self) -> Array:
        """Flat position in the ONNX tensor of every element."""
        return np.arange(self.value.size, dtype=np.int64).reshape(self.value.shape) if self.rows is None else self.rows

    def with_permuted_rows(self, sizes: Sequence[int], order: Sequence[int], axis: int) -> Known:
        """The tensor with the elements along one axis shuffled: the axis is split into sizes, transposed, joined."""
        count = self.value.shape[axis]
        rows = np.arange(count).reshape(sizes).transpose(order).reshape(count)
        return Known(self.name, self.value.take(rows, axis), self.weight, self.index.take(rows, axis))


def can_fold(node: NodeProto, inputs: Sequence[Known | None]) -> bool:
    """Whether a node whose inputs are all known may be computed now."""
    has_subgraph = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
    return node.op_type not in _RANDOM and not has_subgraph and (bool(inputs) or node.op_type == "Constant")


def fold(node: NodeProto, inputs: Sequence[Known | None], opset: int) -> tuple[Known, ...]:
    """The outputs of a node whose inputs are all known, computed by the reference implementation of ONNX.

    Raises:
        UnsupportedError: the node makes no tensor, or the reference cannot run it.
    """
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    feeds = {name: known.value for name, known in zip(node.input, inputs, strict=True) if known is not None}
    outputs = [name for name in node.output if name]
    graph = helper.make_graph(
        [node], "fold", [helper.make_empty_tensor_value_info(name) for name in feeds],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
    )
    # The reference implements some operators from a later opset on only; what they compute has not changed since.
    first_problem: Exception | None = None
    for version in dict.fromkeys((opset, *(later for later in _LATER_OPSETS if later > opset))):
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
        try:
            with np.errstate(all="ignore"):
                values = list(ReferenceEvaluator(model).run(None, feeds))
            break
        except Exception as problem:  # of every kind: it runs other people's code on the user's data
            first_problem = first_problem or problem
    else:
        reason = str(first_problem).split("\n", 1)[0]
        raise UnsupportedError(f"all its inputs are constant, but it cannot be evaluated: {reason}") from first_problem
    if not all(isinstance(value, np.ndarray | np.generic) for value in values):
        raise UnsupportedError("its output is a sequence or an optional, not a tensor")
    weight = any(known is not None and known.weight for known in inputs)
    return tuple(Known(name, np.asarray(value), weight) for name, value in zip(outputs, values, strict=True))
