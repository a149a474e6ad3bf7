"""Finds residual blocks and inverted residual blocks in a graph.

An inverted residual block (Sandler et al., arXiv 1801.04381) is this chain; what is in brackets may be missing:

    [1x1 convolution - [normalization] - activation -]  depthwise convolution - [normalization] - activation
    - [squeeze-excite -] 1x1 convolution - [normalization] [- addition of the block's input]

Its end is linear: no activation reads it. That tells it from the separable convolutions of MobileNetV1. A
squeeze-excite part multiplies the activation by something that is computed from it alone, by convolutions or dense
layers.

A residual block is an addition of two values that come from one: the addition, and all nodes on the ways to it. One
that holds another block is not counted: only the innermost are.
"""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.ir import Graph, Kind, Node
from toolkit.ops.add import Add
from toolkit.ops.batch_normalization import BatchNormalization
from toolkit.ops.clip import Clip
from toolkit.ops.conv import Conv
from toolkit.ops.dense import Dense
from toolkit.ops.gelu import Gelu
from toolkit.ops.hard_swish import HardSwish
from toolkit.ops.leaky_relu import LeakyRelu
from toolkit.ops.mul import Mul
from toolkit.ops.relu import Relu
from toolkit.ops.swish import Swish
from toolkit.train.wiring import Wiring

ACTIVATIONS = (Relu, Clip, HardSwish, Swish, Gelu, LeakyRelu)
LOOKED_FOR = (
    "1x1 convolution - normalization - activation - depthwise convolution - normalization - activation "
    "- [squeeze-excite] - 1x1 convolution - normalization, and no activation after it"
)


@dataclass(frozen=True)
class Block:
    """Some nodes of a graph with one input and one output.

    Attributes:
        nodes: names, in the order of the graph.
        output: tensor.
    """

    nodes: tuple[str, ...]
    output: str


@dataclass(frozen=True)
class InvertedResidual(Block):
    """An inverted residual block, by the names of its nodes.

    Attributes:
        input: tensor.
        expand: the widening convolution; None where the block has none.
        norms: the normalizations inside, without the last.
        activations: one or two, in order.
        squeeze: the squeeze-excite part, its multiplication last; empty where there is none.
        project, last_norm: the narrowing convolution and what normalizes its output.
        add: the addition of the input.
    """

    input: str
    expand: str | None
    depthwise: str
    norms: tuple[str, ...]
    activations: tuple[str, ...]
    squeeze: tuple[str, ...]
    project: str
    last_norm: str | None
    add: str | None


@dataclass(frozen=True)
class Finding:
    """What a search for inverted residual blocks gave.

    Attributes:
        blocks: in order.
        refused: depthwise convolution -> why no block is around it.
    """

    blocks: tuple[InvertedResidual, ...]
    refused: dict[str, str]


def find_inverted_residuals(graph: Graph) -> Finding:
    """The inverted residual blocks of a model, and what looks like one but is none."""
    wiring = Wiring(graph)
    blocks: list[InvertedResidual] = []
    refused: dict[str, str] = {}
    for node in graph.nodes:
        if _is_depthwise(graph, node):
            found = _around(wiring, node)
            if isinstance(found, str):
                refused[node.name] = found
            else:
                blocks.append(found)
    return Finding(tuple(blocks), refused)


def find_blocks(graph: Graph) -> tuple[Block, ...]:
    """The inverted residual blocks and the other residual blocks of a model, in order."""
    wiring = Wiring(graph)
    inverted = find_inverted_residuals(graph).blocks
    candidates = [(set(block.nodes), block) for block in (*inverted, *_residuals(wiring))]
    kept: list[tuple[set[str], Block]] = []
    for nodes, block in sorted(candidates, key=lambda item: len(item[0])):
        if all(nodes.isdisjoint(others) for others, _ in kept):
            kept.append((nodes, block))
    ends = {block.output: wiring.position[_producer_name(wiring, block.output)] for _, block in kept}
    return tuple(sorted((block for _, block in kept), key=lambda block: ends[block.output]))


def _producer_name(wiring: Wiring, tensor: str) -> str:
    node = wiring.producer(tensor)
    assert node is not None
    return node.name


def _around(wiring: Wiring, depthwise: Node) -> InvertedResidual | str:
    """The block around a depthwise convolution, or why there is none."""
    graph = wiring.graph
    expand, before = _widening(wiring, depthwise)
    head = before[0] if before else depthwise
    norm, activation, value = _norm_and_activation(wiring, depthwise.outputs[0])
    if activation is None:
        return "no activation follows it"
    squeeze = _squeeze(wiring, value)
    if squeeze:
        value = squeeze[-1].outputs[0]
    project = wiring.only_reader(value)
    if project is None or not _is_pointwise(graph, project):
        return "no 1x1 convolution follows"
    last_norm, after, value = _norm_and_activation(wiring, project.outputs[0])
    if after is not None:
        return f"the 1x1 convolution that follows has an activation, {after.name}: a separable convolution"
    if any(isinstance(reader.op, ACTIVATIONS) for reader in wiring.readers(value)):
        return "an activation reads its output"
    entry = head.inputs[0]
    assert entry is not None
    add = wiring.only_reader(value)
    if add is None or not (isinstance(add.op, Add) and entry in add.inputs):
        add = None
    middle = [node for node in (norm, activation, *squeeze, project, last_norm, add) if node is not None]
    nodes = [*before, depthwise, *middle]
    norms = [node for node in (*before, norm) if node is not None and isinstance(node.op, BatchNormalization)]
    activations = [node for node in (*before, activation) if isinstance(node.op, ACTIVATIONS)]
    return InvertedResidual(
        nodes=tuple(sorted((node.name for node in nodes), key=wiring.position.__getitem__)),
        output=add.outputs[0] if add else value,
        input=entry,
        expand=expand,
        depthwise=depthwise.name,
        norms=tuple(node.name for node in norms),
        activations=tuple(node.name for node in activations),
        squeeze=tuple(node.name for node in squeeze),
        project=project.name,
        last_norm=last_norm.name if last_norm else None,
        add=add.name if add else None,
    )


def _widening(wiring: Wiring, depthwise: Node) -> tuple[str | None, list[Node]]:
    """The 1x1 convolution before a depthwise one, and the nodes from there on; (None, []) where there is none."""
    chain: list[Node] = []
    node = wiring.private_producer(depthwise.inputs[0])
    if node is None or not isinstance(node.op, ACTIVATIONS):
        return None, []
    chain.insert(0, node)
    node = wiring.private_producer(node.inputs[0])
    if node is not None and isinstance(node.op, BatchNormalization):
        chain.insert(0, node)
        node = wiring.private_producer(node.inputs[0])
    if node is None or not _is_pointwise(wiring.graph, node):
        return None, []
    inputs, outputs = wiring.graph.type(node.inputs[1] or "").shape[-2:]
    return (node.name, [node, *chain]) if inputs <= outputs else (None, [])


def _norm_and_activation(wiring: Wiring, value: str) -> tuple[Node | None, Node | None, str]:
    """What follows a tensor, each alone: a normalization or None, an activation or None; and the last one's output."""
    norm = activation = None
    node = wiring.only_reader(value)
    if node is not None and isinstance(node.op, BatchNormalization):
        norm, value = node, node.outputs[0]
        node = wiring.only_reader(value)
    if node is not None and isinstance(node.op, ACTIVATIONS):
        activation, value = node, node.outputs[0]
    return norm, activation, value


def _squeeze(wiring: Wiring, value: str) -> list[Node]:
    """The squeeze-excite part that reads a tensor, its multiplication last; empty where there is none."""
    readers = wiring.readers(value)
    product = next((node for node in readers if isinstance(node.op, Mul)), None)
    if product is None or len(readers) < 2 or value in wiring.graph.outputs:
        return []
    part: set[str] = set()
    waiting = [name for name in product.inputs if name not in (None, value)]
    while waiting:
        name = waiting.pop()
        node = wiring.producer(name)
        if name == value or (node is None and not wiring.is_computed(name)):
            continue
        if node is None:
            return []  # it depends on something else
        part.add(node.name)
        waiting.extend(name for name in node.inputs if name is not None)
        if len(part) > 16:
            return []
    inside = {*part, product.name}
    nodes = [node for node in wiring.graph.nodes if node.name in inside]
    private = all(
        reader.name in inside for node in nodes[:-1] for name in node.outputs for reader in wiring.readers(name)
    )
    weighted = any(isinstance(node.op, Conv | Dense) for node in nodes)
    whole = all(reader.name in inside for reader in readers)
    return nodes if private and weighted and whole and nodes[-1] is product else []


def _residuals(wiring: Wiring) -> list[Block]:
    """Additions of two values that come from one, with the nodes on the ways."""
    graph, ancestors = wiring.graph, wiring.ancestors()
    blocks = []
    for node in graph.nodes:
        a, b = (*node.inputs, None, None)[:2]
        if not isinstance(node.op, Add) or not (wiring.is_computed(a) and wiring.is_computed(b)) or a == b:
            continue
        first, second = ancestors.get(a or "", 0), ancestors.get(b or "", 0)
        fork = (first & second).bit_length() - 1
        behind = ancestors[graph.nodes[fork].outputs[0]] if fork >= 0 else 0
        bits = (first | second) & ~behind
        names = tuple(other.name for index, other in enumerate(graph.nodes) if bits >> index & 1)
        if any(_has_weight(graph, graph.nodes[wiring.position[name]]) for name in names):
            blocks.append(Block((*names, node.name), node.outputs[0]))
    return blocks


def _has_weight(graph: Graph, node: Node) -> bool:
    return any(
        name is not None and graph.kind(name) is Kind.PARAMETER and len(graph.type(name).shape) > 1
        for name in node.inputs
    )


def _is_depthwise(graph: Graph, node: Node) -> bool:
    """One filter, or several, for each channel."""
    if not isinstance(node.op, Conv) or node.op.groups == 1:
        return False
    return graph.type(node.inputs[1] or "").shape[-2] == 1


def _is_pointwise(graph: Graph, node: Node) -> bool:
    if not isinstance(node.op, Conv) or node.op.groups != 1:
        return False
    op, kernel = node.op, graph.type(node.inputs[1] or "").shape[:-2]
    return set(kernel) == {1} == set(op.strides) and not any((*op.before, *op.after))

