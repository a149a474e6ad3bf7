"""The executable specification of a Graph, run between passes: a broken pass fails at its own door."""

from __future__ import annotations

import numpy as np

from toolkit.ir.graph import Graph, Kind

_WITH_DATA = (Kind.PARAMETER, Kind.STATE, Kind.CONSTANT)


class GraphError(AssertionError):
    """A pass made a graph that breaks the rules: a defect of the tool, not of the user's model."""


def verify(graph: Graph) -> Graph:
    """Checks single assignment, order, types, data and updates; returns the graph.

    Raises:
        GraphError: names the first broken rule and the node or tensor.
    """
    written: set[str] = {name for name, tensor in graph.tensors.items() if tensor.kind is not Kind.COMPUTED}
    ran: set[str] = set()
    for name, tensor in graph.tensors.items():
        if tensor.name != name:
            raise GraphError(f"tensor {name} is filed under another name, {tensor.name}")
        if tensor.kind in _WITH_DATA:
            if name not in graph.data:
                raise GraphError(f"{tensor.kind.value} {name} has no data")
            value = graph.data[name]
            if value.shape != tensor.type.shape or value.dtype != np.dtype(tensor.type.dtype):
                raise GraphError(f"{name} is {tensor.type} but its data is {value.dtype}{list(value.shape)}")
    for node in graph.nodes:
        if node.name in ran:
            raise GraphError(f"two nodes are named {node.name}")
        for read in node.inputs:
            if read is not None and read not in written:
                raise GraphError(f"{node.name} reads {read} before anything writes it")
        for other in node.after:
            if other not in ran:
                raise GraphError(f"{node.name} must run after {other}, which comes later or not at all")
        types = tuple(None if name is None else graph.type(name) for name in node.inputs)
        outputs = node.op.output_types(types)
        if len(outputs) != len(node.outputs):
            raise GraphError(f"{node.name} ({node.op.name}) gives {len(outputs)} outputs, not {len(node.outputs)}")
        for name, expected in zip(node.outputs, outputs, strict=True):
            if name in written:
                raise GraphError(f"{name} is written twice, the second time by {node.name}")
            if graph.type(name) != expected:
                raise GraphError(f"{name} is declared {graph.type(name)}, but {node.name} gives {expected}")
            written.add(name)
        ran.add(node.name)
    for name in (*graph.outputs, *graph.updates.values(), *((graph.loss,) if graph.loss else ())):
        if name not in written:
            raise GraphError(f"{name} is an output or an update, but nothing writes it")
    for name, value_name in graph.updates.items():
        if graph.kind(name) not in (Kind.PARAMETER, Kind.STATE):
            raise GraphError(f"{name} is updated but is a {graph.kind(name).value}")
        if graph.type(name) != graph.type(value_name):
            raise GraphError(f"{name} is {graph.type(name)}, its update {value_name} is {graph.type(value_name)}")
    return graph
