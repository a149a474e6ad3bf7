"""Finds the blocks of a network around the layers that A&B BNN quantizes: what follows each layer, and its shortcut.

    layer -> [BatchNormalization] -> [Add of a shortcut] -> [Relu, PRelu, LeakyRelu or Clip]

Every value between is read by the next node alone. Where both operands of an Add come from such layers, the one with
1x1 kernels (else the second) is the projection: a layer on the shortcut, which reads real values and has no activation
of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from toolkit.ir import Graph, Kind, Node
from toolkit.ops.add import Add
from toolkit.ops.average_pool import AveragePool
from toolkit.ops.batch_normalization import BatchNormalization
from toolkit.ops.clip import Clip
from toolkit.ops.dropout import Dropout
from toolkit.ops.leaky_relu import LeakyRelu
from toolkit.ops.max_pool import MaxPool
from toolkit.ops.prelu import PRelu
from toolkit.ops.relu import Relu
from toolkit.ops.reshape import Reshape
from toolkit.ops.transpose import Transpose

ACTIVATIONS = (Relu, PRelu, LeakyRelu, Clip)
_FIXED = (Kind.PARAMETER, Kind.CONSTANT)
PASSING = (MaxPool, AveragePool, Reshape, Transpose, Dropout)  # a sign behind them sees what is in front of them


@dataclass(frozen=True)
class Block:
    """A layer and what belongs to it.

    Attributes:
        layer: a Conv or Dense node.
        norm, add, activation: the nodes after it, where there are any.
        shortcut: the other operand of `add`.
        projection: whether the layer lies on the shortcut of another block.
    """

    layer: Node
    norm: Node | None = None
    add: Node | None = None
    activation: Node | None = None
    shortcut: str | None = None
    projection: bool = False

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All of them, in order."""
        found = (self.layer, self.norm, self.add, self.activation)
        return tuple(node for node in found if node is not None)

    @property
    def output(self) -> str:
        """What the last of them writes."""
        return self.nodes[-1].outputs[0]


class Readers:
    """Who reads what in a graph."""

    def __init__(self, graph: Graph) -> None:
        self._readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in dict.fromkeys(node.inputs):
                if name is not None:
                    self._readers.setdefault(name, []).append(node)
        self._kept = set(graph.outputs)

    def of(self, name: str) -> list[Node]:
        """The nodes that read a tensor."""
        return self._readers.get(name, [])

    def sole(self, name: str) -> Node | None:
        """The only node that reads a tensor, unless the model's caller sees it too."""
        found = self.of(name)
        return found[0] if len(found) == 1 and name not in self._kept else None

    def is_output(self, name: str) -> bool:
        """Whether the model's caller sees a tensor."""
        return name in self._kept


def find_blocks(graph: Graph, layers: frozenset[str]) -> dict[str, Block]:
    """Layer name -> block, in the order of the graph."""
    readers = Readers(graph)
    blocks = {node.name: Block(node, _next(readers, node, BatchNormalization)) for node in graph.nodes
              if node.name in layers}  # fmt: skip
    makers = {block.output: name for name, block in blocks.items()}
    for node in graph.nodes:
        if isinstance(node.op, Add) and _adds_values(graph, node):
            owners = [makers[x] for x in node.inputs if x in makers and readers.sole(x) is node]
            if owners:
                main = _main_of(graph, blocks, owners)
                shortcut = next(x for x in node.inputs if x != blocks[main].output)
                for other in owners:
                    blocks[other] = replace(blocks[other], projection=other != main)
                blocks[main] = replace(blocks[main], add=node, shortcut=shortcut)
    for name, block in blocks.items():
        if not block.projection:
            blocks[name] = replace(block, activation=_next(readers, block.nodes[-1], *ACTIVATIONS))
    return blocks


def useless_activations(graph: Graph, blocks: Mapping[str, Block]) -> frozenset[str]:
    """Names of Relu nodes to be dropped: a sign of what is never negative would be the same everywhere.

    A Relu that no block has is dropped if a layer takes its signs, at once or behind pools, and if all other readers
    take signs too or add it as a shortcut. Shortcuts then carry values of both signs, as in the networks of the paper.
    """
    readers = Readers(graph)
    own = {node.name for block in blocks.values() for node in block.nodes}
    signs = {name for name, block in blocks.items() if not block.projection}
    shortcuts = {block.add.name for block in blocks.values() if block.add is not None}
    shortcuts |= {name for name, block in blocks.items() if block.projection}
    dropped = set()
    for node in graph.nodes:
        if isinstance(node.op, Relu) and node.name not in own and not readers.is_output(node.outputs[0]):
            ends = _ends(readers, node.outputs[0])
            if ends & signs and ends <= signs | shortcuts:
                dropped.add(node.name)
    return frozenset(dropped)


def _ends(readers: Readers, name: str) -> set[str]:
    """Names of the nodes that read a tensor, looking through nodes that pass signs on."""
    found: set[str] = set()
    for node in readers.of(name):
        passes = isinstance(node.op, PASSING) and not readers.is_output(node.outputs[0])
        found |= _ends(readers, node.outputs[0]) if passes else {node.name}
    return found


def _next(readers: Readers, node: Node, *ops: type) -> Node | None:
    """The only reader of what a node writes, if it is one of these ops and takes it as input 0."""
    after = readers.sole(node.outputs[0])
    return after if after is not None and isinstance(after.op, ops) and after.inputs[0] == node.outputs[0] else None


def _adds_values(graph: Graph, node: Node) -> bool:
    """Whether an Add sums two different computed tensors of one shape."""
    first, second = node.inputs
    if first is None or second is None or first == second or graph.type(first) != graph.type(second):
        return False
    return graph.kind(first) not in _FIXED and graph.kind(second) not in _FIXED


def _main_of(graph: Graph, blocks: Mapping[str, Block], owners: list[str]) -> str:
    """The layer that the block is about, of those whose outputs are added."""
    return next((name for name in owners if prod(weight_shape(graph, blocks[name].layer)[:-2]) > 1), owners[0])


def weight_shape(graph: Graph, layer: Node) -> tuple[int, ...]:
    """[taps..., IC, OC] of a layer."""
    weight = layer.inputs[1]
    assert weight is not None
    return graph.type(weight).shape
