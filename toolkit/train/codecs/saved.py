"""Which tensors of a training step cross from the forward part to the backward part, and who reads them there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from toolkit.ir import Graph, Kind, Node, TensorType
from toolkit.ops.reshape import Reshape


@dataclass(frozen=True)
class Saved:
    """A tensor that the forward part makes and the backward part reads.

    Attributes:
        producer: the node that makes it.
        readers: nodes of the backward part that read it or a view of it, in order.
        views: the names under which it is read: its own, and those of its Reshapes.
        activation: whether it is float32, computed from the input of the model, and the main output of its node.
    """

    name: str
    type: TensorType
    producer: Node
    readers: tuple[Node, ...]
    views: tuple[str, ...]
    activation: bool


@dataclass(frozen=True)
class Step:
    """A training step, its two parts told apart: the loss is the last node of the forward part."""

    graph: Graph

    @cached_property
    def forward(self) -> tuple[Node, ...]:
        """The nodes up to the loss."""
        return self.graph.nodes[: self._boundary]

    @cached_property
    def backward(self) -> tuple[Node, ...]:
        """The nodes behind the loss."""
        return self.graph.nodes[self._boundary :]

    @cached_property
    def producers(self) -> dict[str, Node]:
        """The node of the forward part that makes a tensor."""
        return {name: node for node in self.forward for name in node.outputs}

    @cached_property
    def saved(self) -> dict[str, Saved]:
        """All that crosses, by name, in the order in which it is made."""
        readers: dict[str, list[Node]] = {}
        views: dict[str, dict[str, None]] = {}
        for node in self.backward:
            for name in dict.fromkeys(node.inputs):
                root = self.root(name) if name is not None else None
                if root in self.producers:
                    assert name is not None
                    if node not in readers.setdefault(root, []):
                        readers[root].append(node)
                    views.setdefault(root, {root: None})[name] = None
        return {
            name: Saved(name, self.graph.type(name), node, tuple(readers[name]), tuple(views[name]),
                        self._is_activation(node, name))
            for name, node in self.producers.items() if name in readers
        }  # fmt: skip

    @cached_property
    def readers(self) -> dict[str, list[int]]:
        """For each tensor, which nodes of the forward part read it, by number."""
        found: dict[str, list[int]] = {}
        for index, node in enumerate(self.forward):
            for name in node.inputs:
                if name is not None:
                    found.setdefault(name, []).append(index)
        return found

    def root(self, name: str) -> str:
        """The tensor that a view of the forward part shows."""
        while name in self.producers and isinstance(self.producers[name].op, Reshape):
            source = self.producers[name].inputs[0]
            assert source is not None
            name = source
        return name

    @cached_property
    def _boundary(self) -> int:
        last = next(i for i, node in enumerate(self.graph.nodes) if self.graph.loss in node.outputs)
        return last + 1

    @cached_property
    def _of_input(self) -> set[str]:
        """The inputs of the model, and all that is computed from them."""
        reached = {name for name, tensor in self.graph.tensors.items() if tensor.kind is Kind.INPUT}
        for node in self.forward:
            if reached.intersection(name for name in node.inputs if name is not None):
                reached.update(node.outputs)
        return reached

    def _is_activation(self, node: Node, name: str) -> bool:
        type = self.graph.type(name)
        main = node.outputs[0] == name and self.graph.loss not in node.outputs
        return main and type.dtype == "float32" and name in self._of_input
