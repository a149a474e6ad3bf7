"""Updates a weight inside the kernel that computes its gradient, so that no gradient is kept in memory.

A pass over the training graph: [gradient] -> [update] becomes one node where the gradient's op knows how
(`Op.fused_update`) and nothing else reads the gradient. The bits of the weights stay the same (numerics N2).
"""

from __future__ import annotations

from dataclasses import replace

from toolkit.ir import Graph, Node
from toolkit.ops.base import Op


def fuse_updates(graph: Graph) -> Graph:
    """The training step with every update fused that can be.

    The node that is left has the inputs of the gradient, then the weight, then what else the update reads, and takes
    the update's place and name.
    """
    updated = set(graph.updates.values())
    updates = [node for node in graph.nodes if updated.intersection(node.outputs)]
    fused: dict[str, Node] = {}
    absorbed: set[str] = set()
    for update in updates:
        pair = _fuse(graph, update)
        if pair is not None:
            gradient, node = pair
            fused[update.name] = node
            absorbed.add(gradient.name)
    if any(absorbed.intersection(node.after) for node in graph.nodes):
        raise AssertionError("a node waits for a gradient by name")
    nodes = tuple(fused.get(node.name, node) for node in graph.nodes if node.name not in absorbed)
    return replace(graph, nodes=nodes).without_dead_nodes()


def _fuse(graph: Graph, update: Node) -> tuple[Node, Node] | None:
    """The gradient node that an update absorbs, and the node that stands for both; None where there is no such pair."""
    weight, name = (*update.inputs[:2], None, None)[:2]
    if weight is None or name is None or graph.updates.get(weight) != update.outputs[0]:
        return None
    gradient = graph.producer(name)
    if gradient is None or len(gradient.outputs) != 1 or graph.readers(name) != (update,):
        return None
    readers = _forward_readers(graph, weight)
    if len(readers) != 1 or readers[0].inputs[0] != gradient.inputs[0]:
        return None  # an op of another kind may have chosen another order of the weight in memory
    assert isinstance(gradient.op, Op) and isinstance(update.op, Op)
    op = gradient.op.fused_update(update.op)
    if op is None:
        return None
    after = tuple(dict.fromkeys((*gradient.after, *update.after)))
    inputs = (*gradient.inputs, weight, *update.inputs[2:])
    return gradient, Node(update.name, op, inputs, update.outputs, after)


def _forward_readers(graph: Graph, weight: str) -> list[Node]:
    """The nodes before the loss that read a weight."""
    readers = []
    for node in graph.nodes:
        if graph.loss in node.outputs:
            break
        if weight in node.inputs:
            readers.append(node)
    return readers
