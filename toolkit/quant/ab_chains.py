"""Finds what A&B BNN makes of a layer in a graph for inference: chains of nodes that integers can replace.

    BinaryConv -> ToReal -> [Reshape] -> Mul(scale) -> [Add(shortcut)] -> [Add(b1)] -> [PowerPRelu(L) -> Add(b2)]
    1x1 Conv with weights of +1 and -1 -> Mul(scale)                                           a projection

Every value inside a chain is read by the next node alone, and scale, b1, L and b2 are known when compiling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, Graph, Kind, Node
from toolkit.ops.add import Add
from toolkit.ops.binary_conv import BinaryConv
from toolkit.ops.conv import Conv
from toolkit.ops.mul import Mul
from toolkit.ops.power_prelu import PowerPRelu
from toolkit.ops.reshape import Reshape
from toolkit.ops.to_real import ToReal
from toolkit.quant.blocks import Readers


@dataclass
class Chain:
    """The nodes in the place of one layer.

    Attributes:
        nodes: all of them, in order; the first is a BinaryConv or a Conv.
        weights: packed signs of a BinaryConv, values of a Conv.
        scale: float32 [OC]; so are b1, exponent and b2, where there are any.
        shortcut: the tensor that is added.
        row: the Reshape of a dense layer.
    """

    nodes: list[Node]
    weights: Array
    scale: Array
    shortcut: str | None = None
    row: Node | None = None
    b1: Array | None = None
    exponent: Array | None = None
    b2: Array | None = None

    @property
    def layer(self) -> Node:
        """The convolution."""
        return self.nodes[0]

    @property
    def projection(self) -> bool:
        """Whether the layer reads real values."""
        return isinstance(self.layer.op, Conv)

    @property
    def output(self) -> str:
        """What the last node writes."""
        return self.nodes[-1].outputs[0]


def known(graph: Graph, name: str | None) -> Array | None:
    """The value of a tensor that is known when compiling, in a graph that trains nothing."""
    if name is None or graph.kind(name) not in (Kind.PARAMETER, Kind.CONSTANT):
        return None
    return graph.data[name]


def find_chains(graph: Graph) -> list[Chain]:
    """All chains of a graph, in its order."""
    readers = Readers(graph)
    found = [_chain(graph, readers, node) for node in graph.nodes if isinstance(node.op, BinaryConv | Conv)]
    return [chain for chain in found if chain is not None]


class _Walk:
    """From a node to the only reader of what it writes."""

    def __init__(self, graph: Graph, readers: Readers, start: Node) -> None:
        self.graph = graph
        self.readers = readers
        self.nodes = [start]

    def next(self, kind: type) -> Node | None:
        """The reader, if it is of this kind; the walk then goes on from there."""
        node = self.readers.sole(self.nodes[-1].outputs[0])
        if node is None or not isinstance(node.op, kind):
            return None
        self.nodes.append(node)
        return node

    def next_with_vector(self, kind: type, channels: int) -> Array | None:
        """The known operand float32 [channels] of the reader, if it is of this kind and has one."""
        before = self.nodes[-1].outputs[0]
        node = self.next(kind)
        if node is None:
            return None
        values = [known(self.graph, name) for name in node.inputs if name != before]
        if len(values) == 1 and values[0] is not None and values[0].shape == (channels,):
            return values[0]
        self.nodes.pop()
        return None


def _chain(graph: Graph, readers: Readers, layer: Node) -> Chain | None:
    weights = known(graph, layer.inputs[1])
    if weights is None:
        return None
    walk = _Walk(graph, readers, layer)
    if isinstance(layer.op, Conv):
        if not _projects(layer, layer.op, weights):
            return None
        scale = walk.next_with_vector(Mul, weights.shape[-1])
        return None if scale is None else Chain(walk.nodes, weights, scale)
    channels = weights.shape[0]
    if walk.next(ToReal) is None:
        return None
    row = walk.next(Reshape)
    scale = walk.next_with_vector(Mul, channels)
    if scale is None or (row is not None and graph.type(row.outputs[0]).shape[-1] != channels):
        return None
    chain = Chain(walk.nodes, weights, scale, row=row)
    chain.shortcut = _shortcut(graph, walk)
    chain.b1 = walk.next_with_vector(Add, channels)
    chain.exponent = walk.next_with_vector(PowerPRelu, channels)
    if chain.exponent is not None:
        chain.b2 = walk.next_with_vector(Add, channels)
    return chain


def _projects(layer: Node, op: Conv, weights: Array) -> bool:
    """Whether a convolution adds and subtracts the channels of each pixel."""
    plain = set(weights.shape[:-2]) | set(op.strides) == {1} and not any(op.before + op.after) and op.groups == 1
    return plain and len(layer.inputs) == 2 and bool(np.all(np.abs(weights) == 1))


def _shortcut(graph: Graph, walk: _Walk) -> str | None:
    """The other operand, if the reader adds two computed tensors of one shape."""
    value = walk.nodes[-1].outputs[0]
    node = walk.next(Add)
    if node is None:
        return None
    others = [name for name in node.inputs if name != value and name is not None]
    if len(others) == 1 and graph.type(others[0]) == graph.type(value) and known(graph, others[0]) is None:
        return others[0]
    walk.nodes.pop()
    return None
