"""Keeps masks of chosen activations in place of the tensors that their gradients read.

Only where the gradient is the one reason to keep the tensor: else the bit is read off it, and no memory is needed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from math import inf

from toolkit.ir import Graph, Node
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.clip import ClipGrad
from toolkit.ops.hard_swish import HardSwishGrad
from toolkit.ops.pass_masked import PassMasked
from toolkit.ops.range_mask import ABOVE_ZERO, RangeMask
from toolkit.train.sign_gradients import MASKED, is_gradient_of


def keep_masks(graph: Graph, activations: Collection[str]) -> Graph:
    """A training step with masks.

    Args:
        graph: with its backward pass, updates not fused.
        activations: names of nodes whose gradients need one bit an element.
    """
    gradients = {
        activation.name: node
        for activation in graph.nodes
        if activation.name in activations and isinstance(activation.op, MASKED)
        for node in graph.nodes
        if is_gradient_of(activation, node) and not isinstance(node.op, HardSwishGrad)
    }
    names = {node.name for node in gradients.values()}
    builder = GraphBuilder.resume(graph)
    builder.nodes = []
    masks: dict[str, str] = {}
    for node in graph.nodes:
        gradient = gradients.get(node.name)
        if gradient is not None and not _kept_anyway(graph, gradient.inputs[1] or "", names):
            mask = RangeMask(*_bounds(gradient))
            masks[gradient.name] = builder.apply(mask, node.inputs[0], name=f"{node.name}.mask")[0]
        if node.name in masks:
            node = replace(node, op=PassMasked(), inputs=(node.inputs[0], masks[node.name]))
        builder.nodes.append(node)
    return builder.finish().without_dead_nodes() if masks else graph


def _bounds(gradient: Node) -> tuple[float, float]:
    """Where dy passes, both ends included."""
    return (gradient.op.minimum, gradient.op.maximum) if isinstance(gradient.op, ClipGrad) else (ABOVE_ZERO, inf)


def _kept_anyway(graph: Graph, tensor: str, gradients: set[str]) -> bool:
    """Whether the backward pass reads a tensor for something else than these gradients."""
    backward = False
    for node in graph.nodes:
        if backward and tensor in node.inputs and node.name not in gradients:
            return True
        backward = backward or graph.loss in node.outputs
    return False
