"""Reverse-mode automatic differentiation when compiling: walks the ops' gradient rules.

Two things that every rule would otherwise repeat are done here: gradients of a tensor with several readers are added
(the last reader's first), and gradients of a broadcast operand are summed back to its shape.

The gradient of a tensor of codes (any element type but float32) is the gradient of the real values that the codes stand
for: float32, in the shape of those values, which packed codes need not have; or in binary16, times a loss scale.
"""

from __future__ import annotations

from collections.abc import Callable

from toolkit.ir import Graph, Kind, Node, TensorType
from toolkit.ops.add import Add
from toolkit.ops.base import Op
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.contexts import Backward
from toolkit.ops.native_maps import NativeAdd
from toolkit.ops.reshape import Reshape
from toolkit.ops.sum_to import SumTo


def tensors_with_gradient(nodes: list[Node], trained: frozenset[str]) -> set[str]:
    """The trained parameters, and all that is computed from them."""
    reached: set[str] = set(trained)
    for node in nodes:
        if any(name in reached for name in node.inputs):
            reached.update(node.outputs)
    return reached


def differentiate(
    builder: GraphBuilder,
    forward: list[Node],
    loss_node: Node,
    trained: frozenset[str],
    consume: Callable[[str, str], None],
) -> None:
    """Adds the backward pass of a loss to the graph under construction.

    Args:
        builder: holds the forward pass and the loss.
        forward: the forward nodes, in order, the loss last.
        loss_node: its gradient rule is called without an output gradient: the loss counts once.
        trained: parameters.
        consume: called as (parameter, gradient) the moment a parameter's gradient is complete, which is after its last
            reader's data gradient has been added: the place for its update.
    """
    reached = tensors_with_gradient(forward, trained)
    contributions: dict[str, list[str]] = {}
    readers_left = {name: sum(name in node.inputs for node in forward) for name in trained}
    for node in reversed(forward):
        op = node.op
        assert isinstance(op, Op)
        wanted = [name is not None and name in reached for name in node.inputs]
        if any(wanted):
            dys = [_total(builder, name, contributions.pop(name, [])) for name in node.outputs]
            if node is loss_node or any(dy is not None for dy in dys):
                gradients = op.gradient(Backward(builder, node, wanted), *dys)
                if len(gradients) != len(node.inputs):
                    raise AssertionError(f"{op.name} gives {len(gradients)} gradients for {len(node.inputs)} inputs")
                for name, gradient, want in zip(node.inputs, gradients, wanted, strict=True):
                    if want and gradient is not None:
                        assert name is not None
                        contributions.setdefault(name, []).append(_to_shape(builder, node, name, gradient))
        for name in dict.fromkeys(name for name in node.inputs if name is not None and name in readers_left):
            readers_left[name] -= 1
            if readers_left[name] == 0:
                total = _total(builder, name, contributions.pop(name, []))
                if total is not None:
                    consume(name, total)


def _to_shape(builder: GraphBuilder, node: Node, name: str, gradient: str) -> str:
    """The gradient summed over the axes along which the operand was broadcast."""
    target: TensorType = builder.type(name)
    if builder.type(gradient).shape == target.shape or target.dtype != "float32":
        return gradient
    if builder.type(gradient).size == target.size:
        return builder.apply(Reshape(target.shape), gradient, name=f"{node.name}.reshape")[0]
    return builder.apply(SumTo(target.shape), gradient, name=f"{node.name}.sum_to")[0]


def _total(builder: GraphBuilder, name: str, parts: list[str]) -> str | None:
    """The sum of the gradients from all readers, in the order in which they were found."""
    if not parts:
        return None
    total = parts[0]
    for part in parts[1:]:
        add = Add() if builder.type(total).dtype == "float32" else NativeAdd()
        total = builder.apply(add, total, part, name=f"{name}.fan_out")[0]
    return total


def forward_nodes_for(graph: Graph, tensor: str) -> list[Node]:
    """The nodes that a tensor depends on, in order."""
    wanted = {tensor}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(
                name for name in node.inputs if name is not None and graph.kind(name) is Kind.COMPUTED
            )
    return kept[::-1]
