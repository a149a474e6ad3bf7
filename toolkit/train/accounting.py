"""What an inverted residual block keeps for the backward pass: the accounting of MobileTL (arXiv 2212.03246), in bits.

Two ways of training one block are compared, tensor by tensor, on the block's own shapes:

    tensor                              trained as usual                MobileTL
    input of each convolution           32 bits an element              32
    input of a normalization inside     32                              0: only its shift is trained
    input of the last normalization     32                              32
    activation, piecewise linear        2: where it is clipped          1
    activation, hard-swish              32: its input                   1
    input of squeeze-excite's product   32                              32
    the vectors inside squeeze-excite   32                              32

With C channels in and out, an expansion of 6 and a stride of 1, this is 26.75 C against 14.375 C a pixel for a block of
MobileNetV2 (46.3 % less), and 44 C against 20.375 C for one of MobileNetV3 with hard-swish and squeeze-excite, its
vectors apart (53.7 % less). Our own plans keep less yet where one tensor serves two gradients: the mask of a ReLU6 is
read off the input of the convolution behind it. `kept_for_backward` tells what a compiled step really keeps.
"""

from __future__ import annotations

from dataclasses import dataclass

from codegen.program import Function, Place
from codegen.schedule import lifetimes
from toolkit.ir import Graph, Kind, Node
from toolkit.ops.hard_swish import HardSwish
from toolkit.train.blocks import InvertedResidual

FLOAT_BITS = 32
CLIP_BITS, MASK_BITS = 2, 1


@dataclass(frozen=True)
class Kept:
    """What is kept of one tensor.

    Attributes:
        why: for which gradient.
        usual, mobiletl: bits, of all elements.
        vector: whether it is inside squeeze-excite, one value a channel.
    """

    tensor: str
    why: str
    usual: int
    mobiletl: int
    vector: bool = False


@dataclass(frozen=True)
class BlockAccount:
    """What one block keeps, trained in full."""

    kept: tuple[Kept, ...]

    def usual(self, vectors: bool = True) -> int:
        """Bits, trained as usual; with the vectors of squeeze-excite or without."""
        return sum(each.usual for each in self.kept if vectors or not each.vector)

    def mobiletl(self, vectors: bool = True) -> int:
        """Bits, trained as MobileTL has it."""
        return sum(each.mobiletl for each in self.kept if vectors or not each.vector)

    def saving(self, vectors: bool = True) -> float:
        """The share that MobileTL saves."""
        return 1 - self.mobiletl(vectors) / self.usual(vectors)


def account_of(graph: Graph, block: InvertedResidual) -> BlockAccount:
    """What a block keeps for its backward pass, by the rules of the table above."""
    nodes = {node.name: node for node in graph.nodes if node.name in block.nodes}
    kept = []
    for name in (block.expand, block.depthwise, block.project):
        if name is not None:
            kept.append(_whole(graph, nodes[name], "weights of a convolution"))
    for name in block.norms:
        tensor, bits = _input(graph, nodes[name])
        kept.append(Kept(tensor, "scale of a normalization", bits, 0))
    if block.last_norm is not None:
        kept.append(_whole(graph, nodes[block.last_norm], "the last normalization"))
    for name in block.activations:
        tensor, bits = _input(graph, nodes[name])
        elements = bits // FLOAT_BITS
        usual = bits if isinstance(nodes[name].op, HardSwish) else elements * CLIP_BITS
        kept.append(Kept(tensor, "an activation", usual, elements * MASK_BITS))
    if block.squeeze:
        kept += _of_squeeze(graph, [nodes[name] for name in block.squeeze])
    return BlockAccount(tuple(kept))


def kept_for_backward(function: Function) -> dict[str, int]:
    """What a training step keeps in the arena from its forward pass to its backward pass: storage -> bytes.

    Args:
        function: scheduled.
    """
    loss = next(index for index, step in enumerate(function.steps) if step.node == "loss")
    spans = [span for span in lifetimes(function) if span.first < loss < span.last]
    return {span.name: span.bytes for span in spans if function.buffers[span.name].place is Place.ARENA}


def _input(graph: Graph, node: Node) -> tuple[str, int]:
    """Input 0 of a node, and its bits as float32."""
    name = node.inputs[0]
    assert name is not None
    return name, graph.type(name).size * FLOAT_BITS


def _whole(graph: Graph, node: Node, why: str) -> Kept:
    tensor, bits = _input(graph, node)
    return Kept(tensor, why, bits, bits)


def _of_squeeze(graph: Graph, squeeze: list[Node]) -> list[Kept]:
    """The input of the product, and every vector that another node of the part reads."""
    *inner, product = squeeze
    pixels = graph.type(product.outputs[0])
    kept = []
    for name in product.inputs:
        if name is not None and graph.type(name).size == pixels.size:
            bits = pixels.size * FLOAT_BITS
            kept.append(Kept(name, "the factor of squeeze-excite", bits, bits))
    for node in inner:
        for name in node.outputs:
            bits = graph.type(name).size * FLOAT_BITS
            if graph.kind(name) is Kind.COMPUTED:
                kept.append(Kept(name, "squeeze-excite", bits, bits, vector=True))
    return kept
