"""RectifiedGradient: the gradient of a layer's input, or a sum of gradients, that ends with that of a ReLU.

    dx = layer(inputs), where minimum <= y <= maximum, else 0 (for NaN in y too)

`fuse_rectified_gradients` makes them of ReluGrad(layer(inputs), y) and ClipGrad(layer(inputs), y). The activation is
looked at in the same kernel, in vectors while results are in registers; the bits are those of the two ops.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from math import inf
from typing import Protocol, runtime_checkable

import numpy as np

from codegen.program import Argument, Zeros
from toolkit.ir import Array, Graph, Node, TensorType
from toolkit.ops.base import Arrays, Op, Run, Types, op, require
from toolkit.ops.clip import ClipGrad
from toolkit.ops.contexts import Lowering
from toolkit.ops.kernel_forms import GATE
from toolkit.ops.relu import ReluGrad

_ABOVE_ZERO = float(np.nextafter(np.float32(0), np.float32(1)))  # y > 0 is y >= this


@runtime_checkable
class EndsInGate(Protocol):
    """An op with kernels that end in the gradient of a ReLU."""

    def ends_in_gate(self, *inputs: TensorType | None) -> bool:
        """Whether it has one for these types."""

    def call_kernel(self, to: Lowering, part: str, *options: Argument) -> None:
        """Calls the kernel with a part in its name, options in front of its tensors, and y as the last it reads."""


@op
@dataclass(frozen=True)
class RectifiedGradient(Op):
    """Inputs as for the layer, then y in the shape of the result -> dx; float32.

    Attributes:
        layer: an op that EndsInGate.
        minimum, maximum: rounded to float32; the minimum is above 0 and not above the maximum.
    """

    layer: Op
    minimum: float = _ABOVE_ZERO
    maximum: float = inf

    no_gradient = "second derivatives are not used"

    def __post_init__(self) -> None:
        least, most = np.float32(self.minimum), np.float32(self.maximum)
        require(bool(0 < least <= most), f"bounds of {self.minimum} and {self.maximum} are not above 0, in order")

    def infer(self, *inputs: TensorType | None) -> Types:
        dx, y = self.layer.infer(*inputs[:-1]), inputs[-1]
        assert isinstance(dx, TensorType) and y is not None
        require(y == dx, f"{y} does not say where {dx} passes")
        return dx

    def reference(self, run: Run, *inputs: Array | None) -> Arrays:
        dx, y = self.layer.reference(run, *inputs[:-1]), inputs[-1]
        assert isinstance(dx, np.ndarray) and y is not None
        passes = (y >= np.float32(self.minimum)) & (y <= np.float32(self.maximum))
        return np.where(passes, dx, np.float32(0))

    def is_per_sample(self) -> bool:
        return self.layer.is_per_sample()

    def zeros(self) -> Zeros:
        return "half"

    def lower(self, to: Lowering) -> None:
        to.ask_for(GATE)
        assert isinstance(self.layer, EndsInGate)
        self.layer.call_kernel(to, "_gated", to.real(self.minimum), to.real(self.maximum))

    def macs(self, *inputs: TensorType | None) -> int:
        return self.layer.macs(*inputs[:-1])


def fuse_rectified_gradients(graph: Graph) -> Graph:
    """The graph with ReluGrad(layer(x), y) and ClipGrad(layer(x), y) turned into RectifiedGradients.

    Nothing else may read what the layer gives, and y must be there when the layer runs: it is not where y is made again
    for the backward pass.
    """
    makers = {name: index for index, node in enumerate(graph.nodes) for name in node.outputs}
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    kept = {*graph.outputs, *graph.updates.values()}
    layers: dict[str, Node] = {}  # by name, as they become
    gone: dict[str, str] = {}  # activations, and the layers that take their place
    values: set[str] = set()  # what was between them
    for node in graph.nodes:
        bounds = _bounds(node.op)
        if bounds is None or node.after:
            continue
        value, y = node.inputs
        assert value is not None and y is not None
        maker = makers.get(value, -1)
        if maker < 0 or readers[value] > 1 or value in kept or makers.get(y, -1) > maker:
            continue
        layer = graph.nodes[maker]
        types = [None if name is None else graph.type(name) for name in layer.inputs]
        if not isinstance(layer.op, EndsInGate) or not isinstance(layer.op, Op) or not layer.op.ends_in_gate(*types):
            continue
        op = RectifiedGradient(layer.op, *bounds)
        layers[layer.name] = replace(layer, op=op, inputs=(*layer.inputs, y), outputs=node.outputs)
        gone[node.name] = layer.name
        values.add(value)
    if not layers:
        return graph
    nodes = tuple(
        replace(node, after=tuple(gone.get(name, name) for name in node.after))
        for node in (layers.get(node.name, node) for node in graph.nodes if node.name not in gone)
    )
    return replace(
        graph, nodes=nodes, tensors={name: tensor for name, tensor in graph.tensors.items() if name not in values}
    )


def _bounds(op: object) -> tuple[float, float] | None:
    """Where an activation's gradient passes, if it is one that a layer can end with."""
    if isinstance(op, ReluGrad):
        return _ABOVE_ZERO, inf
    if isinstance(op, ClipGrad) and 0 < np.float32(op.minimum) <= np.float32(op.maximum):
        return op.minimum, op.maximum
    return None
