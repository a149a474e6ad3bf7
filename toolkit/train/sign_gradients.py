"""Takes gradients back through chosen activations by one bit an element (MobileTL, arXiv 2212.03246).

The bit says whether dy passes:
    Relu        0 < x               exact
    Clip        inside its bounds   exact, for ReLU6 0 < x < 6; read as "sign", 0 < x wherever the lower bound is 0
    HardSwish, Swish, Gelu  0 < x   the closest factor of 1 bit (arXiv 2202.00441: {0, 1}, split at 0)
Whether the paper's mask of ReLU6 ends at 6 is not known to us, hence the two readings; "exact" is the default.

This pass says what passes. In what form the backward pass knows it is decided later: as a mask, where the gradient
would be the one reason to keep 32 bits an element, else from the tensor that is kept anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from toolkit.ir import Graph, Node
from toolkit.ops.clip import Clip, ClipGrad
from toolkit.ops.gelu import Gelu, GeluGrad
from toolkit.ops.hard_swish import HardSwish, HardSwishGrad
from toolkit.ops.relu import Relu, ReluGrad
from toolkit.ops.swish import Swish, SwishGrad

EXACT, SIGN = "exact", "sign"
MASKED = (Relu, Clip, HardSwish, Swish, Gelu)


def through_signs(graph: Graph, readings: Mapping[str, str]) -> Graph:
    """A training step whose gradients of some activations need one bit an element.

    Args:
        graph: with its backward pass.
        readings: name of an activation's node -> EXACT or SIGN. Activations without a gradient are left alone.
    """
    nodes = list(graph.nodes)
    for activation in graph.nodes:
        if activation.name in readings and isinstance(activation.op, MASKED):
            for index, node in enumerate(nodes):
                if is_gradient_of(activation, node) and _becomes_sign(activation, readings[activation.name]):
                    nodes[index] = replace(node, op=ReluGrad())
    return replace(graph, nodes=tuple(nodes))


def is_gradient_of(activation: Node, node: Node) -> bool:
    """Whether a node takes the gradient back through an activation."""
    return (
        isinstance(node.op, ReluGrad | ClipGrad | HardSwishGrad | SwishGrad | GeluGrad)
        and node.name.startswith(f"{activation.name}.")
        and node.inputs[1] in (activation.inputs[0], activation.outputs[0])
    )


def _becomes_sign(activation: Node, reading: str) -> bool:
    """Whether the gradient passes where the activation's input is above 0, instead of what its own rule says."""
    if isinstance(activation.op, Clip):
        return reading == SIGN and activation.op.minimum == 0
    return not isinstance(activation.op, Swish) or activation.op.alpha > 0
