"""Makes a Graph node by node, inferring types as it goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from toolkit.ir import Array, Graph, Interface, Kind, Node, Origin, Tensor, TensorType, verify
from toolkit.ops.base import Op


class GraphBuilder:
    """A Graph under construction; `finish` freezes and verifies it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.data: dict[str, Array] = {}
        self.updates: dict[str, str] = {}
        self.origins: dict[str, Origin] = {}
        self.interface: dict[str, Interface] = {}
        self.rules: dict[str, Any] = {}
        self.label: str | None = None
        self.loss: str | None = None
        self._node_names: set[str] = set()

    @classmethod
    def resume(cls, graph: Graph) -> GraphBuilder:
        """A builder that holds all of a graph, to go on from there."""
        builder = cls(graph.name)
        builder.declare_from(graph)
        builder.nodes = list(graph.nodes)
        builder._node_names = {node.name for node in graph.nodes}
        builder.tensors = dict(graph.tensors)
        builder.outputs = list(graph.outputs)
        builder.updates = dict(graph.updates)
        builder.label, builder.loss = graph.label, graph.loss
        return builder

    def declare_from(self, graph: Graph) -> None:
        """Takes over everything of a graph that no node writes: inputs, parameters, constants, runtime scalars."""
        for name, tensor in graph.tensors.items():
            if tensor.kind is not Kind.COMPUTED:
                self.tensors[name] = tensor
        self.data.update(graph.data)
        self.inputs = list(graph.inputs)
        self.origins.update(graph.origins)
        self.interface.update(graph.interface)
        self.rules.update(graph.rules)

    def type(self, name: str) -> TensorType:
        """The type of a tensor."""
        return self.tensors[name].type

    def input(self, name: str, type: TensorType) -> str:
        """A tensor that the caller gives."""
        self.inputs.append(name)
        return self._declare(name, type, Kind.INPUT)

    def parameter(self, name: str, value: Array, origin: Origin | None = None) -> str:
        """A weight."""
        name = self._with_data(name, value, Kind.PARAMETER)
        if origin is not None:
            self.origins[name] = origin
        return name

    def state(self, name: str, value: Array) -> str:
        """What is kept from step to step besides the weights."""
        return self._with_data(name, value, Kind.STATE)

    def constant(self, name: str, value: Array) -> str:
        """A value known when compiling."""
        return self._with_data(name, value, Kind.CONSTANT)

    def runtime(self, name: str, dtype: str = "float32") -> str:
        """A scalar that the caller may set at run time; asking twice gives the same one."""
        if name not in self.tensors:
            self._declare(name, TensorType((), dtype), Kind.RUNTIME)
        return name

    def labels(self, name: str, type: TensorType) -> str:
        """What the caller gives beside the input when training."""
        self.label = name
        return self._declare(name, type, Kind.LABEL)

    def apply(
        self,
        op: Op,
        *inputs: str | None,
        name: str | None = None,
        outputs: tuple[str, ...] = (),
        after: tuple[str, ...] = (),
    ) -> tuple[str, ...]:
        """Adds a node and returns the names of its outputs.

        Args:
            name: of the node; made unique. Default: the op's name.
            outputs: names for the first outputs; the others are named after the node.
        """
        node_name = self.unique_node(name or op.name)
        types = op.output_types(tuple(None if x is None else self.type(x) for x in inputs))
        names = []
        for index, type in enumerate(types):
            wanted = outputs[index] if index < len(outputs) else f"{node_name}{f':{index}' if index else ''}.out"
            names.append(self._declare(self.unique_tensor(wanted), type, Kind.COMPUTED))
        self.nodes.append(Node(node_name, op, tuple(inputs), tuple(names), after))
        return tuple(names)

    def unique_tensor(self, name: str) -> str:
        """The name itself, or with a number if it is taken."""
        return _unique(name, self.tensors)

    def unique_node(self, name: str) -> str:
        """The name itself, or with a number if it is taken; reserved from now on."""
        unique = _unique(name, self._node_names)
        self._node_names.add(unique)
        return unique

    def finish(self) -> Graph:
        """The verified graph."""
        return verify(
            Graph(
                self.name, dict(self.tensors), tuple(self.nodes), tuple(self.inputs), tuple(self.outputs),
                dict(self.data), dict(self.updates), dict(self.origins), dict(self.interface), self.label, self.loss,
                dict(self.rules),
            )
        )

    def _declare(self, name: str, type: TensorType, kind: Kind) -> str:
        assert name not in self.tensors, name
        self.tensors[name] = Tensor(name, type, kind)
        return name

    def _with_data(self, name: str, value: Array, kind: Kind) -> str:
        name = self.unique_tensor(name)
        self.data[name] = np.ascontiguousarray(value).reshape(value.shape)
        return self._declare(name, TensorType(tuple(value.shape), str(value.dtype)), kind)


def _unique(name: str, taken: Mapping[str, object] | set[str]) -> str:
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"
