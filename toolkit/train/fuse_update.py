"""Updates a weight inside the kernel that computes its gradient, so that no gradient is kept in memory.

A pass over the training graph: [gradient] -> [update] becomes one node where the gradient's op knows how
(`Op.fused_update`) and nothing else reads the gradient, directly or in another shape. The bits of the weights stay the
same (numerics N2).
"""

from __future__ import annotations

from dataclasses import replace

from toolkit.ir import Graph, Node
from toolkit.ops.base import Op
from toolkit.ops.reshape import Reshape


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
        found = _fuse(graph, update)
        if found is not None:
            chain, fused[update.name] = found
            absorbed.update(node.name for node in chain)
    if any(absorbed.intersection(node.after) for node in graph.nodes):
        raise AssertionError("a node waits for a gradient by name")
    nodes = tuple(fused.get(node.name, node) for node in graph.nodes if node.name not in absorbed)
    return replace(graph, nodes=nodes).without_dead_nodes()


def _fuse(graph: Graph, update: Node) -> tuple[list[Node], Node] | None:
    """What an update absorbs, its gradient last, and the node that stands for all of it; None where nothing fits."""
    weight, name = (*update.inputs[:2], None, None)[:2]
    if weight is None or name is None or graph.updates.get(weight) != update.outputs[0]:
        return None
    chain = _gradient_chain(graph, name, update)
    if chain is None:
        return None
    gradient = chain[-1]
    assert isinstance(gradient.op, Op) and isinstance(update.op, Op)
    readers = _forward_readers(graph, weight)
    if len(readers) != 1:
        return None
    same_layer = readers[0].inputs[0] == gradient.inputs[0] and len(chain) == 1
    as_it_lies = readers[0].inputs[0] == weight  # something is made of it: codes of a quantizer
    if not same_layer and not (as_it_lies and gradient.op.updates_row_major):
        return None  # an op of another kind may have chosen another order of the weight in memory
    op = gradient.op.fused_update(update.op)
    if op is None:
        return None
    after = tuple(dict.fromkeys(name for node in (*reversed(chain), update) for name in node.after))
    inputs = (*gradient.inputs, weight, *update.inputs[2:])
    return chain, Node(update.name, op, inputs, update.outputs, after)


def _gradient_chain(graph: Graph, name: str, reader: Node) -> list[Node] | None:
    """The nodes that make a gradient for its only reader: none or some Reshapes, then the one that computes it."""
    chain: list[Node] = []
    while True:
        node = graph.producer(name)
        if node is None or len(node.outputs) != 1 or graph.readers(name) != (reader,):
            return None
        chain.append(node)
        if not isinstance(node.op, Reshape):
            return chain
        assert node.inputs[0] is not None
        name, reader = node.inputs[0], node


def _forward_readers(graph: Graph, weight: str) -> list[Node]:
    """The nodes before the loss that read a weight."""
    readers = []
    for node in graph.nodes:
        if graph.loss in node.outputs:
            break
        if weight in node.inputs:
            readers.append(node)
    return readers
