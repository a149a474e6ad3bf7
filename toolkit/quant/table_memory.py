"""What the forms of packed signs may take, and what the core helps them with: attributes of ops with several forms."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from toolkit.ir import Graph, Node
from toolkit.ops.fixed_sign_conv import FixedSignConv, FixedSignConvGradInput
from toolkit.ops.quantized_conv import QuantizedConv, QuantizedConvGradInput

_COUNT_ONES = frozenset({"zbb", "b"})


def limit_tables(graph: Graph, most: int) -> Graph:
    """The graph whose layers of packed signs take at most so many bytes each."""
    return replace(graph, nodes=tuple(_limited(node, most) for node in graph.nodes))


def use_core(graph: Graph, extensions: Collection[str]) -> Graph:
    """The graph for a core with these extensions: whether an instruction counts ones."""
    counts = not _COUNT_ONES.isdisjoint(extensions)
    return replace(graph, nodes=tuple(_with_core(node, counts) for node in graph.nodes))


def has_tables(graphs: Iterable[Graph]) -> bool:
    """Whether a limit makes a difference to any layer."""
    return any(_has_forms(node) for graph in graphs for node in graph.nodes)


def _with_core(node: Node, counts_ones: bool) -> Node:
    if not isinstance(node.op, QuantizedConv | FixedSignConv):
        return node
    return replace(node, op=replace(node.op, counts_ones=counts_ones))


def _has_forms(node: Node) -> bool:
    if isinstance(node.op, QuantizedConv | QuantizedConvGradInput):
        return node.op.packed
    return isinstance(node.op, FixedSignConv | FixedSignConvGradInput)


def _limited(node: Node, most: int) -> Node:
    if not _has_forms(node):
        return node
    assert isinstance(node.op, QuantizedConv | QuantizedConvGradInput | FixedSignConv | FixedSignConvGradInput)
    return replace(node, op=replace(node.op, most_scratch=most))
