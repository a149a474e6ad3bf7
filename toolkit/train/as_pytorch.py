"""Keeps for the backward pass what PyTorch keeps, to measure what is saved beside it. The bits stay the same.

PyTorch's convolutions, batch normalizations in training mode and hard-swish keep their inputs, as here. Its ReLU6 keeps
its input too, where the toolkit reads the output, which the next layer keeps anyway. Its max pooling keeps its input
and 64-bit indices; that is not imitated.
"""

from __future__ import annotations

from dataclasses import replace

from toolkit.ir import Graph
from toolkit.ops.clip import Clip, ClipGrad

AS_PYTORCH = "pytorch"
LEAST = "least"
SAVES = (LEAST, AS_PYTORCH)


def save_as_pytorch(graph: Graph) -> Graph:
    """A training step whose gradients of Clip read the input: it is inside the bounds where the output is."""
    inputs = {node.outputs[0]: node.inputs[0] for node in graph.nodes if isinstance(node.op, Clip)}
    nodes = tuple(
        replace(node, inputs=(node.inputs[0], inputs[node.inputs[1] or ""]))
        if isinstance(node.op, ClipGrad) and node.inputs[1] in inputs
        else node
        for node in graph.nodes
    )
    return replace(graph, nodes=nodes)
