"""RectifiedLayer: a layer, or a sum, that ends with a ReLU, in one kernel; `fuse_rectifiers` makes them.

    y = layer(inputs), then 0 unless it is above 0, then the ceiling where that is less: Relu, or Clip from 0 up

The activation is applied while results are in registers, which saves one pass over the output. The bits are those
of the two ops.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from math import inf
from typing import Protocol, runtime_checkable

import numpy as np

from codegen.forms import Form
from codegen.program import Argument, Zeros
from toolkit.ir import Array, Graph, Node, TensorType
from toolkit.ops.activation_mask import ActivationMask
from toolkit.ops.base import Arrays, Op, Run, Types, op, require
from toolkit.ops.clip import Clip, clip
from toolkit.ops.contexts import Lowering
from toolkit.ops.kernel_forms import CEILING
from toolkit.ops.native_maps import NativeRelu
from toolkit.ops.relu import Relu


@runtime_checkable
class EndsInRelu(Protocol):
    """An op with kernels that end in a ReLU.

    Attributes:
        relu_form: what these need in addition; None where they are kernels of their own, that small code does without.
    """

    @property
    def relu_form(self) -> Form | None: ...

    def ends_in_relu(self, *inputs: TensorType | None) -> bool:
        """Whether it has one for these types."""

    def call_kernel(self, to: Lowering, part: str, *options: Argument) -> None:
        """Calls the kernel with a part in its name, and options in front of its tensors."""


@op
@dataclass(frozen=True)
class RectifiedLayer(Op):
    """Inputs as for the layer -> y and what else it gives; float32, or binary16 (uint16), which has no ceiling.

    Attributes:
        layer: an op that EndsInRelu.
        ceiling: above 0; infinite for ReLU alone.
    """

    layer: Op
    ceiling: float = inf

    no_gradient = "it is put together after the gradients have been derived"

    def __post_init__(self) -> None:
        require(bool(np.float32(self.ceiling) > 0), f"a ceiling of {self.ceiling} is not above 0")

    def infer(self, *inputs: TensorType | None) -> Types:
        return self.layer.infer(*inputs)

    def reference(self, run: Run, *inputs: Array | None) -> Arrays:
        linear, *others = self.layer.run(run, *inputs)
        y = NativeRelu().reference(run, linear) if linear.dtype == np.uint16 else clip(linear, 0.0, self.ceiling)
        return (y, *others) if others else y

    def is_per_sample(self) -> bool:
        return self.layer.is_per_sample()

    def zeros(self) -> Zeros:
        return "half"

    def lower(self, to: Lowering) -> None:
        assert isinstance(self.layer, EndsInRelu)
        to.ask_for(*filter(None, (self.layer.relu_form, CEILING if self.ceiling < inf else None)))
        options: tuple[Argument, ...] = () if to.output_type().dtype == "uint16" else (to.real(self.ceiling),)
        self.layer.call_kernel(to, "_relu", *options)

    def macs(self, *inputs: TensorType | None) -> int:
        return self.layer.macs(*inputs)


def fuse_rectifiers(graph: Graph, small_code: bool) -> Graph:
    """The graph with Relu(layer(x)) and Clip(layer(x)) from 0 up turned into RectifiedLayers.

    Nothing else may read what the layer gives, but for masks that only ask which elements are above 0: they read the
    output. It is for graphs whose gradients are there: these read the output of an activation, or its mask.
    """
    producers = {name: node for node in graph.nodes for name in node.outputs}
    readers: dict[str, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        for name in filter(None, node.inputs):
            readers[name].append(node)
    kept = {*graph.outputs, *graph.updates, *graph.updates.values(), graph.loss}
    layers: dict[str, Node] = {}  # by name, as they become
    gone: dict[str, str] = {}  # activations, and the layers that take their place
    renamed: dict[str, str] = {}  # what layers gave, and what stands for it
    for node in graph.nodes:
        ceiling, (value, *_) = _ceiling(node.op), node.inputs or (None,)
        layer = producers.get(value or "")
        if ceiling is None or layer is None or value != layer.outputs[0] or value in kept or node.after:
            continue
        types = [None if name is None else graph.type(name) for name in layer.inputs]
        if not isinstance(layer.op, EndsInRelu) or not layer.op.ends_in_relu(*types):
            continue
        if small_code and layer.op.relu_form is None:
            continue
        if not isinstance(layer.op, Op) or not all(each is node or _is_sign(each) for each in readers[value]):
            continue
        outputs = (node.outputs[0], *layer.outputs[1:])
        layers[layer.name] = replace(layer, op=RectifiedLayer(layer.op, ceiling), outputs=outputs)
        gone[node.name] = layer.name
        renamed[value] = node.outputs[0]
    if not layers:
        return graph
    nodes = tuple(
        replace(
            node,
            inputs=tuple(renamed.get(name or "", name) for name in node.inputs),
            after=tuple(gone.get(name, name) for name in node.after),
        )
        for node in (layers.get(node.name, node) for node in graph.nodes if node.name not in gone)
    )
    return replace(
        graph, nodes=nodes, tensors={name: tensor for name, tensor in graph.tensors.items() if name not in renamed}
    )


def _ceiling(op: object) -> float | None:
    """Of an activation that a layer can end with; None for every other op."""
    if isinstance(op, Relu | NativeRelu):
        return inf
    if isinstance(op, Clip) and str(op.minimum) == "0.0" and np.float32(op.maximum) > 0:
        return op.maximum
    return None


def _is_sign(node: Node) -> bool:
    """Whether a node tells elements above 0 from all others, and that is all it does."""
    return isinstance(node.op, ActivationMask) and node.op.borders == (0.0,)
