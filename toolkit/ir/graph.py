"""Graph, Node, Tensor: what a model is between the ONNX file and the Program.

A Graph is the specification: the NumPy reference runs it, node by node, and every other form must give the same bits.
Everything is frozen; a pass makes a new Graph. Values are in static single assignment form: one node writes a tensor,
once. What persists from call to call (weights, optimizer state) is an ordinary input of the nodes that read it, and
`Graph.updates` says which computed value replaces it at the end of the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from math import prod
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Under names that begin like this, a model file keeps the parameters that a quantizer introduced; see Graph.data.
SAVED = "edgetrain/"


@dataclass(frozen=True)
class TensorType:
    """Shape and element type of a tensor. A scalar has shape ()."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def size(self) -> int:
        """How many elements."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size in memory, in bytes."""
        return self.size * int(np.dtype(self.dtype).itemsize)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(str(n) for n in self.shape)}]"


class Kind(Enum):
    """Where the value of a tensor comes from."""

    INPUT = "input"  # given by the caller on every call
    LABEL = "label"  # given by the caller on every training call
    PARAMETER = "parameter"  # a weight of the model: trained, or frozen
    STATE = "state"  # optimizer state, running statistics, gradient accumulators: kept between calls
    CONSTANT = "constant"  # known when compiling, never changes
    RUNTIME = "runtime"  # a scalar of the context that the caller may set: learning_rate, seed, step
    COMPUTED = "computed"  # written by a node


@dataclass(frozen=True)
class Tensor:
    """A named value."""

    name: str
    type: TensorType
    kind: Kind


@runtime_checkable
class Operator(Protocol):
    """What the IR asks of an op: a name, and types out for types in."""

    @property
    def name(self) -> str: ...

    def output_types(self, inputs: tuple[TensorType | None, ...]) -> tuple[TensorType, ...]: ...


@dataclass(frozen=True)
class Node:
    """One application of an op.

    Attributes:
        op: the op with its attributes (ops are frozen dataclasses).
        inputs: tensor names; None for an optional input that is absent.
        outputs: tensor names.
        after: names of nodes that must have run before, though no value flows from them (a check before an update).
    """

    name: str
    op: Operator
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Origin:
    """Where a parameter came from in the imported model, so that its trained value can be written back there.

    Attributes:
        name: tensor name in the ONNX file.
        shape: its shape there.
        index: int64 array of the parameter's own shape; element i is the flat position in the ONNX tensor. Every
            layout change of the import (transposition, reshape, permuted rows) is such a permutation.
    """

    name: str
    shape: tuple[int, ...]
    index: Array = field(compare=False)


@dataclass(frozen=True)
class Graph:
    """A model, or one function of it (inference, training step).

    Attributes:
        tensors: every tensor by name.
        nodes: in an order in which every value is written before it is read.
        inputs, outputs: tensor names, in the order of the model's own interface.
        data: values of parameters, states and constants. After the import also what an earlier training saved in the
            file for quantizers: SAVED + name of the parameter -> value; no tensor has such a name.
        updates: parameter or state name -> the computed tensor that replaces it at the end of the call.
        origins: parameter name -> where it came from.
        interface: input or output name -> how the caller of the ONNX model lays it out (see Interface).
        label, loss: names, in a training graph.
        rules: parameter name -> how it is stored and updated, where a quantizer asks for more than the optimizer does
            (a toolkit.train.rules.UpdateRule).
    """

    name: str
    tensors: Mapping[str, Tensor]
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    data: Mapping[str, Array]
    updates: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, Origin] = field(default_factory=dict)
    interface: Mapping[str, Interface] = field(default_factory=dict)
    label: str | None = None
    loss: str | None = None
    rules: Mapping[str, Any] = field(default_factory=dict)

    def type(self, name: str) -> TensorType:
        """The type of a tensor."""
        return self.tensors[name].type

    def kind(self, name: str) -> Kind:
        """The kind of a tensor."""
        return self.tensors[name].kind

    def producer(self, name: str) -> Node | None:
        """The node that writes a tensor, if any. Linear in the number of nodes."""
        return next((node for node in self.nodes if name in node.outputs), None)

    def readers(self, name: str) -> tuple[Node, ...]:
        """The nodes that read a tensor. Linear in the number of nodes."""
        return tuple(node for node in self.nodes if name in node.inputs)

    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters in the order of first use."""
        seen: dict[str, None] = {}
        for node in self.nodes:
            for name in node.inputs:
                if name is not None and self.tensors[name].kind is Kind.PARAMETER:
                    seen.setdefault(name)
        return tuple(seen)

    def without_dead_nodes(self) -> Graph:
        """The same graph less every node and tensor that no output, loss or update needs."""
        wanted = set(self.outputs) | set(self.updates.values()) | ({self.loss} if self.loss else set())
        kept: list[Node] = []
        needed_nodes: set[str] = set()
        for node in reversed(self.nodes):
            if wanted.intersection(node.outputs) or node.name in needed_nodes:
                kept.append(node)
                wanted.update(name for name in node.inputs if name is not None)
                needed_nodes.update(node.after)
        kept.reverse()
        alive = wanted | set(self.inputs) | set(self.updates) | {name for node in kept for name in node.outputs}
        if self.label:
            alive.add(self.label)
        return replace(
            self,
            nodes=tuple(kept),
            tensors={name: tensor for name, tensor in self.tensors.items() if name in alive},
            data={name: value for name, value in self.data.items() if name in alive},
            origins={name: origin for name, origin in self.origins.items() if name in alive},
        )


@dataclass(frozen=True)
class Interface:
    """How an input or output of the ONNX model relates to the tensor inside.

    Attributes:
        name: the name in the ONNX file.
        shape: the shape in the ONNX file, dynamic dimensions fixed.
        permutation: axes such that inside = outside.transpose(permutation); the identity where nothing moves.
    """

    name: str
    shape: tuple[int, ...]
    permutation: tuple[int, ...]

    def inward(self, value: Array) -> Array:
        """An array in the model's own layout, as the tensor inside wants it."""
        moved = value.reshape(self.shape).transpose(self.permutation)
        return np.ascontiguousarray(moved).reshape(moved.shape)  # NumPy would make a scalar a vector

    def outward(self, value: Array) -> Array:
        """The inverse of `inward`."""
        return np.ascontiguousarray(value.transpose(np.argsort(self.permutation))).reshape(self.shape)
