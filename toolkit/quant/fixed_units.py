"""Finds what may follow a layer on integers: batch normalization, ReLU and max pooling, up to the next layer.

Not a method: the part of fixed8 that looks at the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Graph, Node
from toolkit.ops.batch_normalization import BatchNormalization
from toolkit.ops.conv import Conv
from toolkit.ops.dense import Dense
from toolkit.ops.fixed_conv import fits
from toolkit.ops.fixed_unit import MOST_PIXELS, pools_side_by_side
from toolkit.ops.max_pool import MaxPool
from toolkit.ops.pooling import Window
from toolkit.ops.relu import Relu
from toolkit.ops.reshape import Reshape


@dataclass(frozen=True)
class Unit:
    """What follows a layer.

    Attributes:
        nodes: all that the unit stands for, and the views after it.
        output: the tensor that the next layer reads.
    """

    nodes: tuple[Node, ...]
    normalization: Node | None
    relu: bool
    window: Window | None
    views: tuple[Node, ...]
    output: str


def is_integer(graph: Graph, layer: Node) -> bool:
    """Whether FixedConv computes a layer: one group, no dilation, sums that int32 holds (N7), weights of its own."""
    w = layer.inputs[1]
    if len(graph.readers(w or "")) > 1:
        return False
    op, w_type, pixels = layer.op, graph.type(w or ""), int(np.prod(graph.type(layer.outputs[0]).shape[:-1]))
    if isinstance(op, Dense):
        return fits((1, 1, *w_type.shape), pixels)
    assert isinstance(op, Conv)
    return op.groups == 1 and set(op.dilations) == {1} and fits(w_type.shape, pixels)


def find_units(graph: Graph, layers: frozenset[str]) -> Mapping[str, Unit]:
    """Layer -> unit, where everything up to the next layer has one reader and is of a kind that integers can do."""
    units = {}
    for layer in graph.nodes:
        shape = graph.type(layer.outputs[0]).shape
        if layer.name in layers and is_integer(graph, layer) and int(np.prod(shape[:-1])) <= MOST_PIXELS:
            unit = _after(graph, layer, layers)
            if unit is not None:
                units[layer.name] = unit
    return units


def _after(graph: Graph, layer: Node, layers: frozenset[str]) -> Unit | None:
    has_bias = len(layer.inputs) > 2 and layer.inputs[2] is not None
    normalization: Node | None = None
    window: Window | None = None
    relu, nodes, views, value = False, list[Node](), list[Node](), layer.outputs[0]
    while True:
        readers = graph.readers(value)
        if len(readers) != 1 or value in graph.outputs:
            return None
        node = readers[0]
        if node.name in layers:
            usable = node.inputs[0] == value and is_integer(graph, node)
            return Unit(tuple(nodes), normalization, relu, window, tuple(views), value) if usable else None
        op = node.op
        if isinstance(op, Reshape):
            views.append(node)
        elif views:
            return None
        elif isinstance(op, BatchNormalization) and not nodes and not has_bias and node.inputs[0] == value:
            normalization = node
        elif isinstance(op, Relu) and not relu:
            relu = True
        elif isinstance(op, MaxPool) and window is None and pools_side_by_side(op.window):
            window = op.window
        else:
            return None
        nodes.append(node)
        value = node.outputs[0]
