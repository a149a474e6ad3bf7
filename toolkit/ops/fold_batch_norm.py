"""Folds batch normalization into the layer before it, where nothing of the two is trained.

Not an op: a pass over the Graph, kept beside the op whose arithmetic it knows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from toolkit.ir import Array, Graph, Kind, Node
from toolkit.ops.base import Op
from toolkit.ops.batch_normalization import BatchNormalization
from toolkit.ops.builder import GraphBuilder

_FIXED = (Kind.PARAMETER, Kind.CONSTANT, Kind.STATE)


def fold_batch_normalization(graph: Graph, trained: frozenset[str]) -> Graph:
    """The graph without the batch normalizations that can be absorbed by their producers.

    One is absorbed if its four vectors and the producer's weight and bias are frozen (none is in `trained`), if nothing
    else reads the producer's output, and if the producer's op says how (Op.fold_affine: inputs x, weight, bias). The
    folded weight and bias are new parameters without an origin: computed in float64, rounded once to float32.
    """
    absorbed: dict[str, Node] = {}  # name of the producer -> the batch normalization
    folded: dict[str, tuple[Array, Array]] = {}
    for node in graph.nodes:
        producer = graph.producer(node.inputs[0] or "") if isinstance(node.op, BatchNormalization) else None
        if producer is None or not _alone(graph, producer) or not _frozen(graph, trained, node, producer):
            continue
        result = _folded(graph, node, producer)
        if result is not None:
            absorbed[producer.name], folded[producer.name] = node, result
    if not absorbed:
        return graph

    builder = GraphBuilder.resume(graph)
    gone = {node.name for node in absorbed.values()}
    nodes = []
    for node in graph.nodes:
        if node.name in absorbed:
            weight, bias = folded[node.name]
            names = [builder.parameter(f"{node.name}.folded_{what}", value)
                     for what, value in (("weight", weight), ("bias", bias))]  # fmt: skip
            node = replace(node, inputs=(node.inputs[0], *names), outputs=absorbed[node.name].outputs)
        if node.name not in gone:
            nodes.append(replace(node, after=tuple(name for name in node.after if name not in gone)))
    builder.nodes = nodes
    for name in absorbed:
        producer = next(node for node in graph.nodes if node.name == name)
        del builder.tensors[producer.outputs[0]]
    return builder.finish().without_dead_nodes()


def _alone(graph: Graph, producer: Node) -> bool:
    """Whether nothing but one node sees what the producer computes."""
    (output,) = producer.outputs if len(producer.outputs) == 1 else ("",)
    return len(graph.readers(output)) == 1 and output not in (*graph.outputs, *graph.updates.values(), graph.loss)


def _frozen(graph: Graph, trained: frozenset[str], node: Node, producer: Node) -> bool:
    """Whether everything that goes into the fold has a value that never changes."""
    names = [name for name in (*node.inputs[1:], *producer.inputs[1:]) if name is not None]
    return all(graph.kind(n) in _FIXED and n not in trained and n not in graph.updates for n in names)


def _folded(graph: Graph, node: Node, producer: Node) -> tuple[Array, Array] | None:
    """The producer's new weight and bias, if it knows how."""
    assert isinstance(node.op, BatchNormalization) and isinstance(producer.op, Op)
    values = [None if name is None else graph.data[name] for name in producer.inputs[1:3]]
    if not values or values[0] is None:
        return None
    gamma, beta, mean, var = (graph.data[name or ""].astype(np.float64) for name in node.inputs[1:])
    scale = gamma / np.sqrt(var + np.float64(np.float32(node.op.epsilon)))
    return producer.op.fold_affine(values[0], values[1] if len(values) > 1 else None, scale, beta - mean * scale)
