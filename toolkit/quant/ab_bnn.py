"""ab-bnn: A&B BNN (arXiv 2403.03739), binary activations and weights between additions and shifts.

For each layer (a convolution without groups, or a dense layer) with its block (toolkit.quant.blocks):

    u = BinarizeActivations(x, b0; beta)         bits of sign(beta * x + b0)
    v = ToReal(BinaryConv(u, signs(w))) * scale  scale = gain * mean|ws| * (1.7 / sqrt(fan-in)) * alpha, per channel
    h = (v + shortcut) + b1                      without the shortcut where there is none
    y = PowerPRelu(h, L) + b2                    in place of the activation; a layer without one has neither L nor b2

ws are the weights standardised per output channel (toolkit.ops.standardize_weights). `strict` makes every scale the
nearest power of two: inference then needs no multiplication. A projection (a layer on a shortcut) has binary weights
but reads real values. With step=1 weights stay real, ws * (1.7 / sqrt(fan-in)) * alpha * gain: the first of the two
trainings that the paper advises; both steps have the same parameters.

Variance tracking, in place of batch normalization: var is 1 after any layer that is not in a residual block, and behind
a projection; a block with an identity shortcut adds alpha^2. beta = 1 / sqrt(var of x), alpha = 1/4 in front of a
shortcut and 1 elsewhere. So beta = alpha = 1 in models without shortcuts. The first convolution, if it stays real and
no normalization follows, gets standardised weights as in step 1.

BatchNormalization right after a layer is dropped: its gamma becomes the gain (its sign goes to the weights), its beta
part of b1, as a bias of the layer does. A Relu whose output is only binarized or added as a shortcut is dropped too.
Initial values: b0 = b2 = 0, L = -3 (a slope of 1/8), gain = 1, and weights scaled so that ws = w.

Gradients of weights, of the layers that stay real too but not of the last one, are clipped per output channel to `clip`
times the norm of the channel, before any optimizer; clip=0 does not clip. Layers with groups stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import sqrt

from toolkit.errors import UserError
from toolkit.ir import Graph, Node
from toolkit.ops.add import Add
from toolkit.ops.base import Op
from toolkit.ops.batch_normalization import BatchNormalization
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.conv import Conv
from toolkit.ops.power_prelu import PowerPRelu
from toolkit.quant.binary_layers import BinaryLayer
from toolkit.quant.blocks import PASSING, Block, find_blocks, useless_activations
from toolkit.quant.method import WHERE, Context, Method, is_layer, method, rebuild
from toolkit.train.clipping import AdaptiveClipping

ALPHA = 0.25
FIRST_EXPONENT = -3.0


@method()
@dataclass(frozen=True)
class AbBnn(Method):
    """A&B BNN.

    Attributes:
        strict: scales are powers of two.
        step: 1 trains with real weights, 2 with binary ones.
        clip: fraction of a channel's norm that its gradient may have; 0 does not clip.
    """

    strict: bool = False
    step: int = 2
    clip: float = 0.02
    all: bool = False

    keyword = "ab-bnn"
    summary = "binary activations and weights between additions and shifts (A&B BNN)"
    keeps_ends = True

    def __post_init__(self) -> None:
        if self.step not in (1, 2):
            raise UserError(f"there is no step {self.step}", where=f"{WHERE} {self.keyword}", hint="step=1 or step=2")
        if not self.clip >= 0:
            raise UserError(f"clip={self.clip:g} is below 0", where=f"{WHERE} {self.keyword}", hint="clip=0.02")

    def rewrite(self, graph: Graph, layers: frozenset[str], context: Context) -> Graph:
        ungrouped = frozenset(
            node.name for node in graph.nodes
            if node.name in layers and not (isinstance(node.op, Conv) and node.op.groups > 1)
        )
        if not ungrouped:
            raise UserError("all layers have groups, which cannot be binarized", where=f"{WHERE} {self.keyword}")
        blocks = find_blocks(graph, ungrouped)
        _check_norms(graph, blocks)
        return _Rewrite(self, graph, blocks, context).run()


def _check_norms(graph: Graph, blocks: Mapping[str, Block]) -> None:
    """Raises UserError where batch normalization stands behind a binary layer, but not right after a layer."""
    absorbed = {block.norm.name for block in blocks.values() if block.norm is not None}
    behind: set[str] = set()  # tensors that come from a binary layer with no other layer between
    for node in graph.nodes:
        if node.name not in blocks and (is_layer(node) or behind.isdisjoint(node.inputs)):
            continue
        behind.update(node.outputs)
        if isinstance(node.op, BatchNormalization) and node.name not in absorbed:
            raise UserError(
                f"the batch normalization {node.name} does not follow a layer directly",
                where=f"{WHERE} {AbBnn.keyword}",
                hint="A&B BNN is for networks without normalization: remove it, or choose other layers",
            )


def _stem(graph: Graph, blocks: Mapping[str, Block]) -> str | None:
    """The name of the first layer, if it is a convolution that stays real and is not normalised."""
    first = next(node for node in graph.nodes if is_layer(node))
    normed = any(isinstance(node.op, BatchNormalization) for node in graph.readers(first.outputs[0]))
    real = isinstance(first.op, Conv) and first.op.groups == 1 and first.name not in blocks
    return first.name if real and not normed else None


class _Rewrite:
    """One pass over a graph: every block is emitted in place of its last node."""

    def __init__(self, method: AbBnn, graph: Graph, blocks: Mapping[str, Block], context: Context) -> None:
        self.method = method
        self.graph = graph
        self.context = context
        self.blocks = blocks
        self.last = {block.nodes[-1].name: block for block in blocks.values()}
        self.inner = {node.name for block in blocks.values() for node in block.nodes} - set(self.last)
        self.dropped = useless_activations(graph, blocks)
        self.projections = {block.output: block for block in blocks.values() if block.projection}
        self.stem = _stem(graph, blocks)
        self.shifts: dict[str, BinaryLayer] = {}  # output of a projection -> its layer
        self.variance: dict[str, float] = {}
        self.renamed: dict[str, str] = {}  # output of a dropped Relu -> its input

    def run(self) -> Graph:
        """The graph rewritten."""
        clipped = [node.inputs[1] for node in self.graph.nodes if is_layer(node)][:-1] if self.method.clip else []
        rules = {
            weight: AdaptiveClipping(self.method.clip)
            for weight in clipped
            if weight is not None and weight in self.context.trained and weight not in self.graph.rules
        }
        rebuilt = rebuild(self.graph, self.replace_node)
        self.context.trained.intersection_update(rebuilt.tensors)  # biases and normalizations that are gone
        return replace(rebuilt, rules={**self.graph.rules, **rules})

    def replace_node(self, builder: GraphBuilder, node: Node) -> bool:
        """Adds what stands in place of a node."""
        if node.name in self.dropped:
            self.renamed[node.outputs[0]] = self.source(node.inputs[0])
        elif node.name in self.last:
            self.emit(builder, self.last[node.name])
        elif node.name == self.stem:
            layer = self.layer(builder, Block(node), step=1)
            layer.project(keep_bias=True)
            layer.finish(self.source(node.inputs[0]))
        elif node.name not in self.inner:
            inputs = tuple(None if name is None else self.source(name) for name in node.inputs)
            assert isinstance(node.op, Op)
            builder.apply(node.op, *inputs, name=node.name, outputs=node.outputs, after=node.after)
            if isinstance(node.op, PASSING):
                self.variance[node.outputs[0]] = self.variance_of(node.inputs[0])
        return True

    def source(self, name: str | None) -> str:
        """A tensor, or what a dropped activation read in its place."""
        assert name is not None
        return self.renamed.get(name, name)

    def variance_of(self, name: str | None) -> float:
        """The variance that a tensor is taken to have."""
        return self.variance.get(self.source(name), 1.0)

    def layer(self, builder: GraphBuilder, block: Block, step: int) -> BinaryLayer:
        """A layer, ready to be rewritten."""
        weight = block.layer.inputs[1]
        own = {*self.blocks, self.stem}
        shares = any(node.name not in own for node in self.graph.nodes if weight in node.inputs)
        return BinaryLayer(builder, self.graph, block, self.context, self.method.strict, step, shares)

    def emit(self, builder: GraphBuilder, block: Block) -> None:
        """Adds all nodes of a block."""
        x = self.source(block.layer.inputs[0])
        layer = self.layer(builder, block, self.method.step)
        if block.projection:
            layer.project()
            self.shifts[block.output] = layer
        else:
            layer.binary(1.0 if block.shortcut is None else ALPHA, 1.0 / sqrt(self.variance_of(x)))
            self.finish_block(layer, block)
        layer.finish(x)

    def finish_block(self, layer: BinaryLayer, block: Block) -> None:
        """The shortcut, the shifts and the activation."""
        shift = layer.first_shift
        if block.shortcut is not None:
            layer.then(Add(), self.source(block.shortcut), what="shortcut")
            projection = self.shifts.get(block.shortcut)
            if projection is None:
                self.variance[block.output] = self.variance_of(block.shortcut) + ALPHA**2
            else:
                shift = layer.with_shift_of(projection)
        if shift is not None or block.activation is not None:
            layer.then(Add(), layer.vector("b1", 0.0 if shift is None else shift, is_shift=True), what="add_b1")
        if block.activation is not None:
            layer.then(PowerPRelu(), layer.vector("L", FIRST_EXPONENT), what="prelu")
            layer.then(Add(), layer.vector("b2", 0.0), what="add_b2")
