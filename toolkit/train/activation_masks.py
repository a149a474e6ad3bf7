"""Takes gradients back through chosen activations by one bit an element (MobileTL, arXiv 2212.03246).

The bit says whether dy passes:
    Relu        0 < x               exact
    Clip        inside its bounds   exact, for ReLU6 0 < x < 6; read as "sign", 0 < x wherever the lower bound is 0
    HardSwish   0 < x               the closest factor of 1 bit (arXiv 2202.00441: {0, 1}, split at 0)
Whether the paper's mask of ReLU6 ends at 6 is not known to us, hence the two readings; "exact" is the default.

A mask is kept only where the gradient would be the one reason to keep 32 bits an element: where the next convolution
keeps the same values for its own gradient, the bit is read off these, and no memory is needed at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf

from toolkit.ir import Graph, Node
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.clip import Clip, ClipGrad
from toolkit.ops.hard_swish import HardSwish, HardSwishGrad
from toolkit.ops.pass_masked import PassMasked
from toolkit.ops.range_mask import ABOVE_ZERO, RangeMask
from toolkit.ops.relu import Relu, ReluGrad

EXACT, SIGN = "exact", "sign"
READINGS = (EXACT, SIGN)
MASKED = (Relu, Clip, HardSwish)
_GRADIENTS = (ReluGrad, ClipGrad, HardSwishGrad)
_POSITIVE = (ABOVE_ZERO, inf)


def through_masks(graph: Graph, readings: Mapping[str, str]) -> Graph:
    """A training step with masks.

    Args:
        graph: with its backward pass, updates not fused.
        readings: name of an activation's node -> one of READINGS. Activations without a gradient are left alone.
    """
    activations = {node.name: node for node in graph.nodes if node.name in readings and isinstance(node.op, MASKED)}
    gradients = {
        activation: found
        for activation, node in activations.items()
        if (found := _gradient_of(graph, node)) is not None
    }
    if not gradients:
        return graph
    names = {node.name for node in gradients.values()}
    builder = GraphBuilder.resume(graph)
    builder.nodes = []
    masks: dict[str, str] = {}
    changed: dict[str, Node] = {}
    for activation, gradient in gradients.items():
        node = activations[activation]
        bounds = _bounds(node, gradient, readings[activation])
        if _kept_anyway(graph, gradient.inputs[1] or "", names):
            changed[gradient.name] = replace(gradient, op=ClipGrad(*bounds))
    for node in graph.nodes:
        if node.name in gradients and gradients[node.name].name not in changed:
            gradient = gradients[node.name]
            bounds = _bounds(node, gradient, readings[node.name])
            masks[gradient.name] = builder.apply(RangeMask(*bounds), node.inputs[0], name=f"{node.name}.mask")[0]
        if node.name in masks:
            node = replace(node, op=PassMasked(), inputs=(node.inputs[0], masks[node.name]))
        builder.nodes.append(changed.get(node.name, node))
    return builder.finish().without_dead_nodes()


def _gradient_of(graph: Graph, activation: Node) -> Node | None:
    """The node that takes the gradient back through an activation."""
    values = (activation.inputs[0], activation.outputs[0])
    for node in graph.nodes:
        if isinstance(node.op, _GRADIENTS) and node.name.startswith(f"{activation.name}.") and node.inputs[1] in values:
            return node
    return None


def _bounds(activation: Node, gradient: Node, reading: str) -> tuple[float, float]:
    """Where dy passes, both ends included."""
    op = gradient.op
    if not isinstance(op, ClipGrad):
        return _POSITIVE
    assert isinstance(activation.op, Clip)
    return _POSITIVE if reading == SIGN and activation.op.minimum == 0 else (op.minimum, op.maximum)


def _kept_anyway(graph: Graph, tensor: str, gradients: set[str]) -> bool:
    """Whether the backward pass reads a tensor for something else than these gradients."""
    backward = False
    for node in graph.nodes:
        if backward and tensor in node.inputs and node.name not in gradients:
            return True
        backward = backward or graph.loss in node.outputs
    return False
