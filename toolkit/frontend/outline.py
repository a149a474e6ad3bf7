"""A model file as plain Python: nodes, attributes and weights, for tools that run it in their own way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.ir import Array


@dataclass(frozen=True)
class OutlineNode:
    """One node, as the file has it; an input that is absent is ""."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Outline:
    """A model.

    Attributes:
        inputs, outputs: names, without those of weights.
        weights: name -> value, in the shape and order that the file has.
    """

    nodes: tuple[OutlineNode, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: Mapping[str, Array]


def read_outline(path: Path) -> Outline:
    """The outline of a model file."""
    import onnx
    from onnx import helper, numpy_helper

    graph = onnx.load(str(path)).graph
    weights = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    nodes = tuple(
        OutlineNode(
            node.op_type, tuple(node.input), tuple(node.output),
            {each.name: helper.get_attribute_value(each) for each in node.attribute},
        )
        for node in graph.node
    )  # fmt: skip
    inputs = tuple(each.name for each in graph.input if each.name not in weights)
    return Outline(nodes, inputs, tuple(each.name for each in graph.output), weights)
