"""Inference without floating point between layers: a chain from sums to codes becomes integer thresholds.

    QuantizedConv [-> Reshape] [-> BatchNormalization] -> DorefaActivations
    becomes QuantizedConvCodes [-> Reshape]

where nothing of it, nor anything before it, is trained. Every step of the chain is monotone in the sum (it rises, or
falls where a scale is negative), so the code of a channel is the number of thresholds that the sum reaches. Each one is
found by bisection over all sums that can occur, on the ops' own reference: the codes are equal bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from toolkit.ir import Array, Graph, Kind, Node
from toolkit.ops.base import Run
from toolkit.ops.batch_normalization import BatchNormalization
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.dorefa_activations import DorefaActivations, levels
from toolkit.ops.quantized_conv import QuantizedConv, sum_bits
from toolkit.ops.quantized_conv_codes import QuantizedConvCodes
from toolkit.ops.reshape import Reshape

MOST_LEVELS = 31  # with more of them, comparing costs more than computing
_FIXED = (Kind.PARAMETER, Kind.CONSTANT, Kind.STATE)


@dataclass(frozen=True)
class _Chain:
    """The nodes of one chain; `view` and `norm` may be missing."""

    layer: Node
    view: Node | None
    norm: Node | None
    quantizer: Node

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All of them, in order."""
        return tuple(node for node in (self.layer, self.view, self.norm, self.quantizer) if node is not None)


def collapse_to_thresholds(graph: Graph, trained: frozenset[str], fma: bool) -> Graph:
    """The inference graph with every chain replaced whose parameters are known when compiling.

    Args:
        trained: parameters that training changes.
        fma: whether multiply-adds round once.
    """
    changing = _reached(graph, trained)
    chains = [_chain(graph, node, changing) for node in graph.nodes if isinstance(node.op, DorefaActivations)]
    by_end = {chain.quantizer.name: chain for chain in chains if chain is not None}
    if not by_end:
        return graph
    inner = {node.name for chain in by_end.values() for node in chain.nodes} - set(by_end)
    builder = GraphBuilder(graph.name)
    builder.declare_from(graph)
    for node in graph.nodes:
        if node.name in by_end:
            _emit(builder, graph, by_end[node.name], fma)
        elif node.name not in inner:
            builder.apply(node.op, *node.inputs, name=node.name, outputs=node.outputs, after=node.after)  # type: ignore[arg-type]
    builder.outputs = list(graph.outputs)
    return builder.finish().without_dead_nodes()


def _reached(graph: Graph, trained: frozenset[str]) -> set[str]:
    """The trained parameters and all that is computed from them."""
    reached = set(trained)
    for node in graph.nodes:
        if not reached.isdisjoint(name for name in node.inputs if name is not None):
            reached.update(node.outputs)
    return reached


def _chain(graph: Graph, quantizer: Node, changing: set[str]) -> _Chain | None:
    """The chain that ends with a quantizer, or None."""
    assert isinstance(quantizer.op, DorefaActivations)
    if quantizer.op.dtype != "int8" or levels(quantizer.op.bits) > MOST_LEVELS or quantizer.outputs[0] in changing:
        return None
    before = _producer(graph, quantizer)
    norm = before if before is not None and isinstance(before.op, BatchNormalization) else None
    before = before if norm is None else _producer(graph, norm)
    view = before if before is not None and isinstance(before.op, Reshape) else None
    layer = before if view is None else _producer(graph, view)
    if layer is None or type(layer.op) is not QuantizedConv or len(layer.inputs) > 5:
        return None  # a start would belong to the sums
    if graph.type(layer.inputs[0] or "").dtype != "int8":
        return None
    chain = _Chain(layer, view, norm, quantizer)
    vectors = [name for node in (layer, norm) if node is not None for name in node.inputs[1:] if name is not None]
    if any(graph.kind(name) not in _FIXED or name in graph.updates for name in vectors):
        return None
    channels = graph.type(layer.outputs[0]).shape[-1]
    if graph.type(quantizer.outputs[0]).shape[-1] != channels or sum_bits(1, _largest_sum(graph, layer), 1) != 32:
        return None
    return chain


def _producer(graph: Graph, node: Node) -> Node | None:
    """What makes input 0 of a node, if nothing else reads it."""
    name = node.inputs[0]
    assert name is not None
    alone = len(graph.readers(name)) == 1 and name not in graph.outputs
    return graph.producer(name) if alone else None


def _largest_sum(graph: Graph, layer: Node) -> int:
    """A bound of the magnitude of all sums of a layer."""
    op = layer.op
    assert isinstance(op, QuantizedConv)
    terms = prod(op.weight_shape(graph.type(layer.inputs[1] or ""))[:-1])
    return terms * max(op.largest_x, abs(op.x_zero)) * op.largest_w


def _emit(builder: GraphBuilder, graph: Graph, chain: _Chain, fma: bool) -> None:
    """Adds what stands in place of a chain."""
    layer, last = chain.layer, chain.quantizer
    op = layer.op
    assert isinstance(op, QuantizedConv)
    thresholds, direction = find_thresholds(graph, chain, fma)
    values = {"thresholds": thresholds, "direction": direction}
    inputs = (*layer.inputs[:2], *(builder.constant(f"{layer.name}.{what}", value) for what, value in values.items()))
    codes = QuantizedConvCodes(
        op.strides, op.dilations, op.before, op.after, op.groups, op.kernel, op.channels,
        op.largest_x, op.largest_w, x_zero=op.x_zero, unsigned=op.unsigned,
    )  # fmt: skip
    if chain.view is None:
        builder.apply(codes, *inputs, name=layer.name, outputs=last.outputs)
        return
    y = builder.apply(codes, *inputs, name=layer.name)[0]
    builder.apply(Reshape(graph.type(last.outputs[0]).shape), y, name=chain.view.name, outputs=last.outputs)


def find_thresholds(graph: Graph, chain: _Chain, fma: bool) -> tuple[Array, Array]:
    """int32 [OC, levels], ascending, and int8 [OC]: code = how many thresholds are <= direction * sum.

    A code that no sum reaches has the threshold 2^31 - 1.
    """
    assert isinstance(chain.quantizer.op, DorefaActivations)
    channels, n = graph.type(chain.layer.outputs[0]).shape[-1], levels(chain.quantizer.op.bits)
    limit = _largest_sum(graph, chain.layer)
    ends = [_codes(graph, chain, np.full((1, channels), end, np.int64), fma)[0] for end in (-limit, limit)]
    direction = np.where(ends[0] > ends[1], -1, 1)
    wanted = np.arange(1, n + 1).reshape(-1, 1)
    low = np.full((n, channels), -limit, np.int64)  # the threshold is in [low, high]; limit + 1 where no sum reaches it
    high = np.full((n, channels), limit + 1, np.int64)
    while np.any(low < high):
        middle = (low + high) // 2
        reached = _codes(graph, chain, middle * direction, fma) >= wanted
        high = np.where(reached, middle, high)
        low = np.where(reached | (low == high), low, middle + 1)
    thresholds = np.where(high > limit, 2**31 - 1, high)
    return np.ascontiguousarray(thresholds.T.astype(np.int32)), direction.astype(np.int8)


def _codes(graph: Graph, chain: _Chain, sums: Array, fma: bool) -> Array:
    """What the chain makes of sums [any, OC]: codes of the same shape."""
    run = Run(fma)
    values = [graph.data[name] for name in chain.layer.inputs[2:] if name is not None]
    assert isinstance(chain.layer.op, QuantizedConv) and isinstance(chain.quantizer.op, DorefaActivations)
    with np.errstate(all="ignore"):
        real = chain.layer.op.scaled(run, sums, *values)
        if chain.norm is not None:
            assert isinstance(chain.norm.op, BatchNormalization)
            real = chain.norm.op.reference(run, real, *(graph.data[name or ""] for name in chain.norm.inputs[1:]))
        return chain.quantizer.op.reference(run, real)
