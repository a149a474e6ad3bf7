"""Inference of A&B BNN on integers: the binary part of a network that trains nothing, without floats.

Between the blocks run int16 codes for code * 2^-fraction (toolkit.ops.stream), one fraction for the whole network: the
largest, up to 10, with which no value can overflow. The bound of a value follows from the parameters: a block adds at
most the number of products times its scale. Values that enter from a real layer or come out of a projection are clipped
to 16 in magnitude: A&B BNN has their variance near 1. Rewritten are

    chains (toolkit.quant.ab_chains)          PackedBinaryConv -> StreamBlock; a projection: StreamProjection
    BinarizeActivations of a stream           StreamSigns: no scale beta is left, the mask layer of the paper is gone
    AveragePool of 2^k values side by side    StreamAveragePool
    MaxPool and Reshape of a stream           the same on codes

and whatever else reads a stream gets real values again. Where all scales of a layer are powers of two (strict), the
layer has no multiplication; else one per output. What comes out is close to the float network, not equal to it: a block
rounds by less than 2^-fraction, and a value that near to a threshold may turn a sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log2, prod

import numpy as np

from toolkit.ir import Array, Graph, Node
from toolkit.numerics import rint_half_even
from toolkit.ops.average_pool import AveragePool
from toolkit.ops.base import Op
from toolkit.ops.binarize_activations import BinarizeActivations
from toolkit.ops.binary_conv import BinaryConv, PackedBinaryConv, pack_filters
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.max_pool import MaxPool
from toolkit.ops.reshape import Reshape
from toolkit.ops.signs import pack_signs
from toolkit.ops.stream import LARGEST, RealFromStream, StreamAveragePool, StreamFromReal, StreamSigns
from toolkit.ops.stream_block import StreamBlock, StreamProjection
from toolkit.quant.ab_chains import Chain, find_chains, known

ENTERING = 16.0  # magnitude to which values of a real layer or a projection are clipped
LEAST_FRACTION = 4
LOWEST_EXPONENT, HIGHEST_EXPONENT = -30, 8  # of slopes; lower ones give 0 or -1 anyway


def integer_inference(graph: Graph) -> Graph:
    """The graph with its binary part on integers; the same graph where there is none.

    Args:
        graph: of inference, of a model that trains nothing.
    """
    if not any(isinstance(node.op, BinaryConv) for node in graph.nodes):
        return graph
    trial = _Rewrite(graph, find_chains(graph), LEAST_FRACTION)
    trial.run()
    room = floor(log2(LARGEST / trial.largest)) if trial.largest < np.inf else -1
    chains = find_chains(graph) if room >= LEAST_FRACTION else []
    return _Rewrite(graph, chains, room).run()


@dataclass(frozen=True)
class _Scaling:
    """How exact sums become codes (see toolkit.ops.stream_block)."""

    strict: bool
    factors: Array
    right: int


def scaling(scale: Array, shift: int, largest_sum: int) -> _Scaling | None:
    """Codes of sum * scale * 2^shift; None where they do not fit integers of 32 bits.

    Args:
        scale: float32 [OC].
        largest_sum: magnitude of a sum.
    """
    wide = np.asarray(scale, np.float64)
    if not np.all(np.isfinite(wide)):
        return None
    mantissa, exponent = np.frexp(wide)
    bits = largest_sum.bit_length()
    if np.all(mantissa == 0.5):
        places = exponent.astype(np.int64) - 1 + shift
        right = min(max(0, -int(places.min())), 30 - bits - int(places.max()))
        return _Scaling(True, np.maximum(places + right, 0).astype(np.int16), right) if right >= 0 else None
    most = float(np.max(np.abs(wide))) * 2.0**shift
    right = min(floor(log2(min(LARGEST, 2**30 / largest_sum) / most)) if most > 0 else 0, 24)
    return _Scaling(False, np.rint(wide * 2.0 ** (shift + right)).astype(np.int16), right) if right >= 0 else None


class _Rewrite:
    """One pass over a graph.

    Attributes:
        largest: the largest bound of any code, as a real value; infinite where a layer does not fit.
    """

    def __init__(self, graph: Graph, chains: list[Chain], fraction: int) -> None:
        self.graph = graph
        self.fraction = fraction
        self.largest = ENTERING
        self.entering = min(LARGEST, int(ENTERING * 2.0**fraction))
        self.builder = GraphBuilder(graph.name)
        self.builder.declare_from(graph)
        self.ends = {chain.nodes[-1].name: chain for chain in chains}
        self.inner = {node.name for chain in chains for node in chain.nodes[:-1]}
        self.shortcuts = {chain.shortcut for chain in chains if chain.shortcut is not None}
        self.codes: dict[str, str] = {}  # tensor of the graph -> its codes
        self.bounds: dict[str, float] = {}  # tensor of the graph -> magnitude that it cannot exceed

    def run(self) -> Graph:
        """The graph rewritten."""
        for node in self.graph.nodes:
            if node.name in self.ends:
                self.chain(self.ends[node.name])
            elif node.name not in self.inner and not self.on_codes(node):
                self.keep(node)
        self.builder.outputs = [self.real(name) for name in self.graph.outputs]
        return self.builder.finish().without_dead_nodes()

    def keep(self, node: Node) -> None:
        """A node as it is, but for filters of a binary convolution, which are made now."""
        assert isinstance(node.op, Op)
        weights = known(self.graph, node.inputs[1]) if isinstance(node.op, BinaryConv) else None
        if weights is not None:
            self.binary(node, weights, node.outputs)
            return
        inputs = tuple(None if name is None else self.real(name) for name in node.inputs)
        self.builder.apply(node.op, *inputs, name=node.name, outputs=node.outputs, after=node.after)

    def binary(self, node: Node, weights: Array, outputs: tuple[str, ...] = ()) -> str:
        """The sums of a binary convolution."""
        op, bits = node.op, node.inputs[0]
        assert isinstance(op, BinaryConv) and bits is not None
        shared = (op.strides, op.dilations, op.before, op.after, op.groups)
        packed = PackedBinaryConv(*shared, kernel=op.kernel, channels=op.channels)
        words, starts = pack_filters(op, self.graph.type(bits).shape, weights)
        inputs = (self.constant(node, "words", words), self.constant(node, "starts", starts))
        return self.builder.apply(packed, bits, *inputs, name=node.name, outputs=outputs)[0]

    def constant(self, node: Node, what: str, value: Array) -> str:
        """A new constant of a node."""
        return self.builder.constant(self.builder.unique_tensor(f"{node.name}.{what}"), value)

    def real(self, name: str) -> str:
        """A tensor as real values."""
        if name not in self.builder.tensors:
            op = RealFromStream(self.fraction)
            self.builder.apply(op, self.codes[name], name=f"{name}.real", outputs=(name,))
        return name

    def code(self, name: str) -> str:
        """A tensor as codes."""
        if name not in self.codes:
            op = StreamFromReal(self.fraction, self.entering)
            self.codes[name] = self.builder.apply(op, name, name=f"{name}.codes")[0]
            self.bounds[name] = ENTERING
        return self.codes[name]

    def stream(self, node: Node, codes: str, bound: float) -> None:
        """Says that these are what a node writes."""
        self.codes[node.outputs[0]] = codes
        self.bounds[node.outputs[0]] = bound
        self.largest = max(self.largest, bound)

    def integers(self, values: Array | None, count: int) -> Array:
        """Codes of a vector; zeros where there is none."""
        if values is None:
            return np.zeros(count, np.int16)
        wide = np.asarray(rint_half_even(values * np.float32(2.0**self.fraction)), np.float64)
        return np.clip(wide, -LARGEST, LARGEST).astype(np.int16)

    def on_codes(self, node: Node) -> bool:
        """Whether a node that reads a stream could be put on codes; it then is."""
        op, name = node.op, node.inputs[0] if node.inputs else None
        if name is None or not (name in self.codes or (isinstance(op, BinarizeActivations) and name in self.shortcuts)):
            return False
        if isinstance(op, BinarizeActivations):
            shift = known(self.graph, node.inputs[1])
            if shift is None:
                return False
            codes = self.code(name)
            inputs = (codes, self.constant(node, "thresholds", thresholds(shift, op.beta, self.fraction)))
            self.builder.apply(StreamSigns(), *inputs, name=node.name, outputs=node.outputs)
            return True
        replaced = op if isinstance(op, MaxPool | Reshape) else self.average(op, self.graph.type(name).shape)
        if replaced is None:
            return False
        codes = self.builder.apply(replaced, self.codes[name], name=f"{node.name}.codes")[0]
        self.stream(node, codes, self.bounds[name])
        return True

    def average(self, op: object, shape: tuple[int, ...]) -> StreamAveragePool | None:
        """The pool on codes, if it is one of windows side by side with 2^k values each."""
        if not isinstance(op, AveragePool) or len(shape) != 4:
            return None
        window, count = op.window, prod(op.window.kernel)
        apart = window.kernel == window.strides and not any(window.before + window.after)
        whole = all(size % taps == 0 for size, taps in zip(shape[1:3], window.kernel, strict=True))
        fits = apart and whole and set(window.dilations) == {1} and count & (count - 1) == 0 and count < 2**15
        return StreamAveragePool(*window.kernel) if fits else None

    def chain(self, chain: Chain) -> None:
        """A chain on integers, or as it is where it does not fit."""
        done = self.project(chain) if chain.projection else self.block(chain)
        if not done:
            for node in chain.nodes:
                self.keep(node)

    def project(self, chain: Chain) -> bool:
        """A projection of a stream."""
        name = chain.layer.inputs[0]
        if name is None or name not in self.codes:
            return False
        bound = self.bounds[name] * chain.weights.shape[-2]
        found = scaling(chain.scale, 0, int(bound * 2.0**self.fraction) + 1)
        if found is None:
            return False
        signs = pack_signs(chain.weights > 0)
        inputs = (self.constant(chain.layer, "signs", signs), self.constant(chain.layer, "factors", found.factors))
        op = StreamProjection(found.strict, found.right, self.entering)
        codes = self.builder.apply(op, self.codes[name], *inputs, name=f"{chain.layer.name}.codes")[0]
        self.stream(chain.nodes[-1], codes, ENTERING)
        return True

    def block(self, chain: Chain) -> bool:
        """A binary convolution and what follows it."""
        op = chain.layer.op
        assert isinstance(op, BinaryConv)
        products, channels = prod(op.kernel) * op.channels, chain.scale.size
        found = scaling(chain.scale, self.fraction, products)
        slopes, up, steepest = power_slopes(chain.exponent, channels)
        shortcut = 0.0 if chain.shortcut is None else self.bounds.get(chain.shortcut, ENTERING)
        shifts = [0.0 if b is None else float(np.max(np.abs(b))) for b in (chain.b1, chain.b2)]
        inside = products * float(np.max(np.abs(chain.scale))) + shortcut + shifts[0]
        bound = max(inside, inside * steepest) + shifts[1]
        if found is None or not np.isfinite(bound) or bound * 2.0 ** (self.fraction + up) >= 2**30:
            return False
        vectors = (found.factors, self.integers(chain.b1, channels), slopes, self.integers(chain.b2, channels))
        parameters = self.constant(chain.layer, "block", np.stack(vectors, axis=-1).astype(np.int16))
        sums = self.binary(chain.layer, chain.weights)
        if chain.row is not None:
            assert isinstance(chain.row.op, Reshape)
            sums = self.builder.apply(chain.row.op, sums, name=chain.row.name)[0]
        inputs = (sums, parameters) if chain.shortcut is None else (sums, parameters, self.code(chain.shortcut))
        block = StreamBlock(found.strict, found.right, up)
        codes = self.builder.apply(block, *inputs, name=f"{chain.layer.name}.codes")[0]
        self.stream(chain.nodes[-1], codes, bound)
        return True


def thresholds(shift: Array, beta: float, fraction: int) -> Array:
    """The least code whose value x has beta * x + shift >= 0, per channel."""
    least = np.ceil(-shift.astype(np.float64) / beta * 2.0**fraction)
    return np.clip(np.where(np.isnan(least), LARGEST, least), -LARGEST - 1, LARGEST).astype(np.int16)


def power_slopes(exponent: Array | None, channels: int) -> tuple[Array, int, float]:
    """(slope shifts int16 [C], the shift in front of them, the steepest slope) of exponents of a PowerPRelu."""
    if exponent is None:
        return np.zeros(channels, np.int16), 0, 1.0
    whole = np.asarray(rint_half_even(exponent), np.float64)
    k = np.clip(np.where(np.isnan(whole), LOWEST_EXPONENT, whole), LOWEST_EXPONENT, None)
    up = max(0, int(min(k.max(), 64)))
    if up > HIGHEST_EXPONENT:
        return np.zeros(channels, np.int16), 0, float("inf")
    return np.minimum(up - k, 31).astype(np.int16), up, 2.0 ** float(k.max())
