"""Makes x * sigmoid(x) one Swish, as exporters write SiLU. Not an op: a pass over the Graph.

The bits of the output stay the same. Of two saved tensors one is left, and Few-Bit masks know the derivative.
"""

from __future__ import annotations

from dataclasses import replace

from toolkit.ir import Graph, Node
from toolkit.ops.mul import Mul
from toolkit.ops.sigmoid import Sigmoid
from toolkit.ops.swish import Swish


def fuse_swish(graph: Graph) -> Graph:
    """The graph with Mul(x, Sigmoid(x)) turned into Swish(x), where nothing else reads the sigmoid."""
    sigmoids = {node.outputs[0]: node for node in graph.nodes if isinstance(node.op, Sigmoid)}
    absorbed: set[str] = set()
    fused: dict[str, Node] = {}
    for node in graph.nodes:
        if not isinstance(node.op, Mul):
            continue
        for x, factor in (node.inputs, node.inputs[::-1]):
            source = sigmoids.get(factor or "")
            if source is None or source.inputs[0] != x or factor in graph.outputs:
                continue
            assert factor is not None
            if graph.readers(factor) == (node,):
                fused[node.name] = Node(node.name, Swish(), (x,), node.outputs, node.after)
                absorbed.add(source.name)
                break
    if not fused:
        return graph
    nodes = tuple(fused.get(node.name, node) for node in graph.nodes if node.name not in absorbed)
    return replace(graph, nodes=nodes).without_dead_nodes()
