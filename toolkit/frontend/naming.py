"""Gives the computed tensors of a Graph the names that they have in ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from toolkit.ir import Graph, Kind, verify


def rename(graph: Graph, wanted: Mapping[str, str]) -> Graph:
    """The graph with tensors renamed; a wish that clashes with another tensor is left unfulfilled.

    Args:
        wanted: tensor -> name, for computed tensors.
    """
    fixed = {name for name, tensor in graph.tensors.items() if tensor.kind is not Kind.COMPUTED}
    taken = set(fixed)
    names: dict[str, str] = {}
    # Outputs come first: theirs are the names that the user knows.
    for tensor in (*graph.outputs, *wanted):
        name = wanted.get(tensor, tensor)
        if tensor not in names and tensor not in fixed and name not in taken:
            names[tensor] = name
            taken.add(name)
    for tensor in graph.tensors:
        if tensor not in fixed and tensor not in names:
            name = tensor
            while name in taken:
                name += "_"
            names[tensor] = name
            taken.add(name)

    def new(name: str) -> str:
        return names.get(name, name)

    return verify(
        replace(
            graph,
            tensors={new(name): replace(tensor, name=new(name)) for name, tensor in graph.tensors.items()},
            nodes=tuple(
                replace(
                    node,
                    inputs=tuple(None if name is None else new(name) for name in node.inputs),
                    outputs=tuple(new(name) for name in node.outputs),
                )
                for node in graph.nodes
            ),
            outputs=tuple(new(name) for name in graph.outputs),
            interface={new(name): interface for name, interface in graph.interface.items()},
        )
    )
