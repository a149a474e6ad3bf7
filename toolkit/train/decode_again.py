"""Values that are decoded from 16 bits are decoded again in the backward pass, instead of being kept as float32.

A pass over the training graph. A tensor that FromHalf made is made anew right in front of whoever reads it after the
loss. The gradient of a Relu asks its output for signs only, and those it finds in the numbers of 16 bits themselves: in
those that the next layer keeps, where that reads the Relu directly, or those that went into the Relu. Neighbours share
what was decoded. No bit of a result changes.
"""

from __future__ import annotations

from dataclasses import replace

from toolkit.ir import Graph, Node
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.half_codes import FromHalf, HalfReluGrad, ToHalf
from toolkit.ops.relu import Relu, ReluGrad

_Source = tuple[str, str]  # tensor of 16 bits, format


def decode_again(graph: Graph) -> Graph:
    """The training step with nothing kept as float32 that is there in 16 bits."""
    kept = _in_16_bits(graph)
    if not kept:
        return graph
    signs = _signs(graph, kept)
    builder = GraphBuilder.resume(graph)
    builder.nodes = []
    backward = False
    before: dict[str, str] = {}  # what the node before reads -> the same decoded
    for node in graph.nodes:
        if backward:
            y = node.inputs[1] if isinstance(node.op, ReluGrad) else None
            if y in signs:
                node = replace(node, op=HalfReluGrad(signs[y][1]), inputs=(node.inputs[0], signs[y][0]))
            else:
                now = {name: before.get(name) or _decoded(builder, node, name, kept) for name in node.inputs if name}
                node = replace(node, inputs=tuple(now[name] if name else None for name in node.inputs))
                before = {name: decoded for name, decoded in now.items() if name in kept}
        builder.nodes.append(node)
        backward = backward or graph.loss in node.outputs
    return builder.finish().without_dead_nodes()


def _in_16_bits(graph: Graph) -> dict[str, _Source]:
    """What FromHalf makes, and from what."""
    sources = {}
    for node in graph.nodes:
        if isinstance(node.op, FromHalf) and node.inputs[0] is not None:
            sources[node.outputs[0]] = (node.inputs[0], node.op.format)
    return sources


def _signs(graph: Graph, kept: dict[str, _Source]) -> dict[str, _Source]:
    """For outputs of Relu: numbers that are positive where they are. Rounded ones are exactly theirs."""
    found = dict(kept)
    for node in graph.nodes:
        if isinstance(node.op, Relu) and node.inputs[0] in kept:
            found[node.outputs[0]] = kept[node.inputs[0] or ""]
            format = found[node.outputs[0]][1]
            for reader in graph.readers(node.outputs[0]):
                if reader.op == ToHalf(format):
                    found[node.outputs[0]] = (reader.outputs[0], format)
    return found


def _decoded(builder: GraphBuilder, node: Node, name: str, sources: dict[str, _Source]) -> str:
    if name not in sources:
        return name
    source, format = sources[name]
    return builder.apply(FromHalf(format), source, name=f"{node.name}.decode")[0]
