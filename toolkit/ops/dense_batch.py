"""Which dense layers keep the weights of an output side by side in memory. Not an op: a pass over the Graph.

In the gradient of the weights, vectors of inputs can leave out samples whose dy is 0; with this layout they lie as the
weights do, and gradients of inputs read them as they are. Forward, the lanes of vectors are samples then: a batch must
fill them, which it does not in a walk. It is for PCs, and for training; the bits are the same
(runtime_c/et_dense_batch.h).
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from toolkit.ir import Graph, Node
from toolkit.ops.dense import Dense
from toolkit.ops.geometry import PANEL


def weights_by_output(graph: Graph, trained: Set[str]) -> Graph:
    """The graph with Dense nodes `by_output`: those whose weights are trained, and which nothing else reads.

    At least three quarters of the lanes, which are as many as columns of a panel, must have a sample.
    """

    def changed(node: Node) -> Node:
        op, weight = node.op, node.inputs[1] if len(node.inputs) > 1 else None
        if not isinstance(op, Dense) or weight is None or weight not in trained or graph.readers(weight) != (node,):
            return node
        samples = graph.type(node.outputs[0]).shape[0]
        fills = 4 * samples >= 3 * PANEL * -(-samples // PANEL)
        return replace(node, op=replace(op, by_output=True)) if fills else node

    nodes = tuple(changed(node) for node in graph.nodes)
    return graph if nodes == graph.nodes else replace(graph, nodes=nodes)
