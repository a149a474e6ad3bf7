"""Makes the addition of a vector after a linear layer the layer's own bias. Not an op: a pass over the Graph.

Exporters write a product and an addition where the model has one layer. Fused, the sum starts from the bias (numerics
N2), which saves one pass over the output; update schemes then see the vector as the bias that it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol, runtime_checkable

from toolkit.ir import Graph, Kind, Node, Tensor, TensorType
from toolkit.ops.add import Add
from toolkit.ops.reshape import Reshape


@runtime_checkable
class TakesBias(Protocol):
    """An op that adds a vector over the last axis of its only output, if it is given one."""

    def with_bias(self, inputs: tuple[str | None, ...], bias: str) -> tuple[str | None, ...] | None:
        """The inputs with the bias among them; None where there is one already."""


def fuse_bias(graph: Graph) -> Graph:
    """The graph with Add(layer(x), vector) turned into layer(x, vector).

    The vector is a parameter or a constant with one element per output channel, whatever number of leading ones its
    shape has, and nothing but the Add reads it. Between layer and Add there may be Reshapes that keep the last axis.
    Nothing but the next node on that path may read a value in between.
    """
    while (found := _find(graph)) is not None:
        graph = found
    return graph


def _find(graph: Graph) -> Graph | None:
    """The graph with the first such pair fused; None where there is none."""
    producers = {name: node for node in graph.nodes for name in node.outputs}
    readers = _read_counts(graph)
    for node in graph.nodes:
        if not isinstance(node.op, Add):
            continue
        for value, vector in (node.inputs, node.inputs[::-1]):
            assert value is not None and vector is not None
            channels = graph.type(node.outputs[0]).shape[-1:]
            if graph.type(value) != graph.type(node.outputs[0]) or not _is_vector(graph, readers, vector, channels):
                continue
            path = _path(graph, producers, readers, value)
            if path is not None and isinstance(path[0].op, TakesBias):
                inputs = path[0].op.with_bias(path[0].inputs, vector)
                if inputs is not None:
                    return _fused(graph, node, path, inputs, vector)
    return None


def _read_counts(graph: Graph) -> Mapping[str, int]:
    """How often each tensor is read, as an output, update or loss of the graph too."""
    counts: dict[str, int] = {}
    kept = (*graph.outputs, *graph.updates, *graph.updates.values(), *((graph.loss,) if graph.loss else ()))
    for name in (*(name for node in graph.nodes for name in node.inputs if name is not None), *kept):
        counts[name] = counts.get(name, 0) + 1
    return counts


def _is_vector(graph: Graph, readers: Mapping[str, int], name: str, channels: tuple[int, ...]) -> bool:
    type = graph.type(name)
    known = graph.kind(name) in (Kind.PARAMETER, Kind.CONSTANT)
    return known and readers[name] == 1 and type.shape[-1:] == channels != () and type.size == channels[0]


def _path(
    graph: Graph, producers: Mapping[str, Node], readers: Mapping[str, int], value: str
) -> list[Node] | None:
    """The nodes from a layer to `value`: the layer itself and the Reshapes after it."""
    path: list[Node] = []
    channels = graph.type(value).shape[-1]
    while True:
        node = producers.get(value)
        if node is None or readers[value] != 1 or len(node.outputs) != 1 or graph.type(value).shape[-1:] != (channels,):
            return None
        path.insert(0, node)
        source = node.inputs[0] if node.inputs else None
        if not isinstance(node.op, Reshape) or source is None:
            return path
        value = source


def _fused(graph: Graph, add: Node, path: list[Node], inputs: tuple[str | None, ...], vector: str) -> Graph:
    """The graph without the Add; the last node of the path writes what the Add wrote."""
    last = path[-1].name
    nodes = []
    for node in graph.nodes:
        if node is add:
            continue
        if node.name == path[0].name:
            node = replace(node, inputs=inputs)
        if node.name == last:
            node = replace(node, outputs=add.outputs)
        nodes.append(replace(node, after=tuple(last if name == add.name else name for name in node.after)))
    shape = (graph.type(vector).size,)
    tensor = graph.tensors[vector]
    flat = Tensor(vector, TensorType(shape, tensor.type.dtype), tensor.kind)
    gone = path[-1].outputs[0]
    origins = dict(graph.origins)
    if vector in origins:
        origins[vector] = replace(origins[vector], index=origins[vector].index.reshape(shape))
    return replace(
        graph,
        nodes=tuple(nodes),
        tensors={name: flat if name == vector else t for name, t in graph.tensors.items() if name != gone},
        data={**graph.data, vector: graph.data[vector].reshape(shape)},
        origins=origins,
    )
