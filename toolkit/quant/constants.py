"""Computes what depends on nothing that changes: the codes of frozen weights are made when compiling."""

from __future__ import annotations

from toolkit.ir import Graph, Kind
from toolkit.ops.base import Op, Run
from toolkit.ops.builder import GraphBuilder


def fold_constants(graph: Graph, changing: frozenset[str], fma: bool) -> Graph:
    """The graph with every node gone whose inputs are all known when compiling; its outputs become constants.

    Args:
        graph: of inference or of a training step.
        changing: parameters and states that any function of the model updates.
        fma: whether multiply-adds round once.
    """
    builder = GraphBuilder(graph.name)
    builder.declare_from(graph)
    builder.label, builder.loss = graph.label, graph.loss
    known = {
        name
        for name, tensor in graph.tensors.items()
        if tensor.kind in (Kind.PARAMETER, Kind.CONSTANT) and name not in changing
    }
    outputs = set(graph.outputs) | set(graph.updates.values())
    for node in graph.nodes:
        op = node.op
        assert isinstance(op, Op)
        foldable = all(name in known for name in node.inputs if name is not None) and not node.after
        if foldable and node.inputs and not outputs.intersection(node.outputs):
            values = op.run(Run(fma), *(None if name is None else builder.data[name] for name in node.inputs))
            for name, value in zip(node.outputs, values, strict=True):
                known.add(builder.constant(name, value))
        else:
            builder.apply(op, *node.inputs, name=node.name, outputs=node.outputs, after=node.after)
    builder.outputs = list(graph.outputs)
    builder.updates = dict(graph.updates)
    return builder.finish().without_dead_nodes()
