"""binaryconnect: weights of -H and +H in both passes, real weights that are updated (arXiv 1511.00363; METHODS S2).

    forward, data gradient   sign weights, drawn anew in every step (stoch) or the signs of the real ones (det)
    update                   the gradient of the sign weights moves the real ones, which are then clipped to [-H, H]
    inference                sign weights; for `stoch` also the real weights, or the mean of sampled networks

Options: det (the default) or stoch, and
    scale=auto|one|glorot    H: 1, or the coefficient of Glorot, sqrt(1.5 / (fan in + fan out)). auto takes 1 where
                             BatchNormalization reads the layer's output, as it undoes any scale, else Glorot's.
    test=signs|real|ensemble:K   what inference uses. real and ensemble are for stoch: a network that was trained with
                             the signs themselves computes nothing useful with its real weights. ensemble:K draws K
                             networks when compiling, and gives the mean of their outputs.
    master=float32|float16|q1.14   how real weights are kept: 16-bit ones are rounded stochastically, need plain SGD
    activations=float|int8   what layers read in inference: int8 codes with one scale for each tensor, a power of two
                             from its largest magnitude, make sums exact integers; training reads float32
    plain-rate               steps are not scaled

Steps are scaled by H / G for Adam and (H / G)^2 for SGD, G being Glorot's coefficient: for H = 1 that is the paper's
scaling, and the same training for any H.

What a layer computes depends on the signs of its weights alone. So weights that are to be trained, and do not look as
if they had been trained like this (within [-H, H], with at least 0.4 H of deviation), are multiplied by one positive
factor for each layer that gives them the standard deviation of U(-H, H), and clipped. Files that are written after
training hold the real weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod, sqrt
from typing import Any
from zlib import crc32

import numpy as np

from toolkit.errors import UserError
from toolkit.ir import Array, Graph, Kind, Node
from toolkit.numerics.stored import StoredFormat
from toolkit.ops.add import Add
from toolkit.ops.base import Op
from toolkit.ops.batch_normalization import BatchNormalization
from toolkit.ops.binarize_weights import BinarizeWeights, SampleSigns
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.conv import Conv, Convolution
from toolkit.ops.dense import Dense
from toolkit.ops.fixed_quantize import FixedQuantize
from toolkit.ops.reshape import Reshape
from toolkit.ops.scale import Scale
from toolkit.ops.sign_layer import RealConv, add_coded_sign_layer, add_sign_layer
from toolkit.ops.stored_sgd import StoredValue
from toolkit.quant.blocks import Readers
from toolkit.quant.fixed import store_parameter
from toolkit.quant.method import WHERE, Context, Method, method, parse_options, rebuild
from toolkit.quant.plan import QuantizationPlan
from toolkit.train.clipped_rule import ClippedRule
from toolkit.train.stored_rule import StoredRule

SCALES = ("auto", "one", "glorot")
TESTS = ("signs", "real", "ensemble:K")
ACTIVATIONS = ("float", "int8")
MASTERS: dict[str, StoredFormat | None] = {
    "float32": None, "float16": StoredFormat("fp16"), "q1.14": StoredFormat("fixed", -14),
}  # fmt: skip
DENSE = Conv((1, 1), (1, 1), (0, 0), (0, 0))
_DEVIATION = 1 / sqrt(3)  # of U(-1, 1)
_TRAINED_DEVIATION = 0.4  # U's own is 0.577, and training only pushes weights outwards


@method()
@dataclass(frozen=True)
class BinaryConnect(Method):
    """BinaryConnect.

    Attributes:
        stochastic: whether training draws the signs.
        scale, test, master, activations: see above.
        plain_rate: leave the steps as the optimizer makes them.
    """

    stochastic: bool = False
    scale: str = "auto"
    test: str = "signs"
    master: str = "float32"
    activations: str = "float"
    plain_rate: bool = False
    all: bool = False

    keyword = "binaryconnect"
    summary = "weights of one bit in both passes, real ones that are updated (BinaryConnect)"

    @classmethod
    def parse(cls, options: Sequence[str]) -> Method:
        words = [option for option in options if option in ("det", "stoch")]
        if len(set(words)) > 1:
            raise UserError("det and stoch exclude each other", where=f"{WHERE} {cls.keyword}:{','.join(options)}")
        given: dict[str, Any] = parse_options(cls, [option for option in options if option not in words])
        if "stochastic" in given:
            raise UserError("'stochastic' is not understood", where=f"{WHERE} {cls.keyword}", hint="det or stoch")
        made = cls(stochastic=words[:1] == ["stoch"], **given)
        for value, known, what in (
            (made.scale, SCALES, "scale"), (made.master, tuple(MASTERS), "master"),
            (made.activations, ACTIVATIONS, "type of activations"),
        ):  # fmt: skip
            if value not in known:
                raise UserError(f"there is no {what} '{value}'", where=WHERE, hint=f"one of {', '.join(known)}")
        if made.test not in ("signs", "real") and made.members < 2:
            raise UserError(f"there is no test '{made.test}'", where=WHERE, hint=f"one of {', '.join(TESTS)}, K >= 2")
        if made.test != "signs" and not made.stochastic:
            raise UserError(
                "a network that was trained with the signs of its weights is useless with the real ones",
                where=f"{WHERE} {cls.keyword}:det,test={made.test}",
                hint="binaryconnect:stoch, or test=signs",
            )
        if made.test == "real" and made.activations != "float":
            raise UserError(
                "int8 activations go with sign weights", where=f"{WHERE} {cls.keyword}:stoch,test=real",
                hint="test=signs or activations=float",
            )  # fmt: skip
        return made

    @property
    def members(self) -> int:
        """Networks of the ensemble; 0 where inference uses no ensemble."""
        word, _, count = self.test.partition(":")
        return int(count) if word == "ensemble" and count.isdecimal() else 0

    def rewrite(self, graph: Graph, layers: frozenset[str], context: Context) -> Graph:
        if self.members and context.trained:
            raise UserError(
                "an ensemble is sampled when compiling and cannot be trained", where=f"{WHERE} test={self.test}",
                hint="train with test=signs or test=real, then compile the trained model with --train none",
            )  # fmt: skip
        rewriting = _Rewrite(self, graph, layers, context)
        return rewriting.ensemble() if self.members else rebuild(graph, rewriting.replace_node)


def draws_weights(plan: QuantizationPlan) -> bool:
    """Whether a layer's weights may be drawn in training."""
    return any(_draws(each) for each in (plan.default, *plan.layers.values()))


def with_test(plan: QuantizationPlan, test: str) -> QuantizationPlan:
    """The plan with other weights in inference wherever training draws them."""

    def changed(each: Method | None) -> Method | None:
        return replace(each, test=test) if _draws(each) else each  # type: ignore[type-var]

    layers = {pattern: changed(each) for pattern, each in plan.layers.items()}
    return replace(plan, default=changed(plan.default), layers=layers)


def _draws(each: Method | None) -> bool:
    return isinstance(each, BinaryConnect) and each.stochastic


def glorot(shape: Sequence[int]) -> float:
    """sqrt(1.5 / (fan in + fan out)) of weights [taps..., IC, OC] of one group."""
    return sqrt(1.5 / (prod(shape[:-2]) * (shape[-2] + shape[-1])))


def spread(w: Array, limit: float) -> Array:
    """Weights as training starts with them: the standard deviation of U(-limit, limit), clipped; signs unchanged."""
    deviation = float(np.std(w, dtype=np.float64))
    inside = float(np.abs(w).max(initial=0.0)) <= limit
    if deviation == 0 or not np.isfinite(deviation) or (inside and deviation >= _TRAINED_DEVIATION * limit):
        return w
    factor = limit * _DEVIATION / deviation
    return np.clip(w.astype(np.float64) * factor, -limit, limit).astype(np.float32)


class _Rewrite:
    """One pass over a graph."""

    def __init__(self, method: BinaryConnect, graph: Graph, layers: frozenset[str], context: Context) -> None:
        self.method = method
        self.graph = graph
        self.layers = layers
        self.trained = context.trained
        self.readers = Readers(graph)
        self.outputs = {node.name: node.outputs[0] for node in graph.nodes}
        self.limits: dict[str, float] = {}  # weights -> H
        self.bits: dict[tuple[str, int], str] = {}  # weights, member -> packed signs
        self.codes: dict[str, tuple[str, str]] = {}  # what layers read -> codes and scale

    def replace_node(self, builder: GraphBuilder, node: Node, member: int = 0) -> bool:
        """Adds the nodes of a layer."""
        if node.name not in self.layers:
            return False
        x, w, bias = (*node.inputs, None)[:3]
        assert x is not None and w is not None
        real = self.method.test == "real"
        if real and w not in self.trained:
            return False
        limit = self.prepare(builder, node, w)
        convolution, image = self.as_convolution(builder, node, x)
        shape = self.shape(w)
        dense = isinstance(node.op, Dense)
        written = {"name": node.name} if dense else {"name": node.name, "outputs": node.outputs}
        if real:
            y = self.add_real(builder, convolution, image, w, bias, limit, written)
        elif self.method.activations == "int8":
            bits = self.signs(builder, node, w, limit, member)
            codes = self.quantized(builder, node, image)
            y = add_coded_sign_layer(builder, convolution, shape, limit, codes, bits, bias, **written)
        else:
            bits = self.signs(builder, node, w, limit, member)
            y = add_sign_layer(builder, convolution, shape, limit, image, bits, bias, **written)
        if dense:
            rows = (builder.type(x).shape[0], shape[-1])
            builder.apply(Reshape(rows), y, name=f"{node.name}.rows", outputs=node.outputs)
        return True

    def shape(self, w: str) -> tuple[int, ...]:
        """Of a layer's weights as those of a convolution over two axes, or one."""
        shape = self.graph.type(w).shape
        return shape if len(shape) > 2 else (1, 1, *shape)

    def as_convolution(self, builder: GraphBuilder, node: Node, x: str) -> tuple[Convolution, str]:
        """The convolution that a layer is, and what it reads."""
        if isinstance(node.op, Conv):
            return node.op, x
        rows, inputs = builder.type(x).shape
        return DENSE, builder.apply(Reshape((rows, 1, 1, inputs)), x, name=f"{node.name}.image")[0]

    def prepare(self, builder: GraphBuilder, node: Node, w: str) -> float:
        """H of a layer. Weights that train get their initial values, their storage and their update rule."""
        if w in self.limits:
            return self.limits[w]
        others = sorted(reader.name for reader in self.graph.readers(w) if reader.name not in self.layers)
        if others:
            raise UserError(f"{w} is also read by {others[0]}, which is not quantized", where=f"{WHERE} {node.name}")
        limit = self.limits[w] = self.limit(node, w)
        if w in self.trained and self.graph.kind(w) is Kind.PARAMETER:
            ratio = 1.0 if self.method.plain_rate else limit / glorot(self.shape(w))
            builder.data[w] = spread(builder.data[w], limit)
            format = MASTERS[self.method.master]
            if format is None:
                builder.rules[w] = ClippedRule(limit, ratio, ratio**2)
            else:
                store_parameter(builder, w, StoredRule(format, ratio**2, -limit, limit))
        return limit

    def limit(self, node: Node, w: str) -> float:
        """H of a layer."""
        normalized = self.readers.sole(self.outputs[node.name])
        scale = self.method.scale
        if scale == "one" or (scale == "auto" and normalized and isinstance(normalized.op, BatchNormalization)):
            return 1.0
        return float(np.float32(glorot(self.shape(w))))

    def stored(self, w: str) -> StoredFormat | None:
        """The format of weights that are kept in 16 bits."""
        return MASTERS[self.method.master] if w in self.trained else None

    def signs(self, builder: GraphBuilder, node: Node, w: str, limit: float, member: int) -> str:
        """Packed signs of weights, made once for all layers that share them."""
        if (w, member) not in self.bits:
            op: Op
            groups = node.op.groups if isinstance(node.op, Conv) else 1
            if self.method.members:
                op, name = SampleSigns(limit, None, groups, member, crc32(w.encode())), f"{node.name}.sampled"
            else:
                op, name = BinarizeWeights(limit, self.stored(w), groups, self.method.stochastic), f"{node.name}.signs"
            self.bits[w, member] = builder.apply(op, w, name=name)[0]
        return self.bits[w, member]

    def quantized(self, builder: GraphBuilder, node: Node, x: str) -> tuple[str, str]:
        """Codes and scale of what a layer reads, made once for all layers that read it."""
        if x not in self.codes:
            made = builder.apply(FixedQuantize(8, draws=False), x, name=f"{node.name}.codes")
            self.codes[x] = (made[0], made[1])
        return self.codes[x]

    def add_real(
        self, builder: GraphBuilder, convolution: Convolution, x: str, w: str, bias: str | None, limit: float,
        written: dict[str, Any],
    ) -> str:  # fmt: skip
        """A convolution with real weights, which draws signs in training."""
        name = written["name"]
        format = self.stored(w)
        weights = w if format is None else builder.apply(StoredValue(format), w, name=f"{name}.real")[0]
        shape = self.shape(w)
        if builder.type(weights).shape != shape:
            weights = builder.apply(Reshape(shape), weights, name=f"{name}.taps")[0]
        op = RealConv(
            convolution.strides, convolution.dilations, convolution.before, convolution.after, convolution.groups, limit
        )
        inputs = (x, weights) if bias is None else (x, weights, bias)
        return builder.apply(op, *inputs, **written)[0]

    def ensemble(self) -> Graph:
        """The graph with all that depends on sign weights once for each member, and the mean of each output."""
        builder = GraphBuilder(self.graph.name)
        builder.declare_from(self.graph)
        drawn: set[str] = set()
        for node in self.graph.nodes:
            if node.name in self.layers or drawn.intersection(x for x in node.inputs if x is not None):
                drawn.update(node.outputs)
            else:
                self._copy(builder, node)
        means: dict[str, str] = {}
        for member in range(self.method.members):
            names: dict[str, str] = {}
            for node in self.graph.nodes:
                if drawn.intersection(node.outputs):
                    renamed = tuple(f"{name}.member{member}" for name in node.outputs)
                    inputs = tuple(None if x is None else names.get(x, x) for x in node.inputs)
                    names.update(zip(node.outputs, renamed, strict=True))
                    copy = replace(node, inputs=inputs, outputs=renamed)
                    if not self.replace_node(builder, copy, member):
                        self._copy(builder, copy)
            for output in drawn.intersection(self.graph.outputs):
                mine = names[output]
                sum_so_far = means.get(output)
                name = f"{output}.sum"
                means[output] = mine if sum_so_far is None else builder.apply(Add(), sum_so_far, mine, name=name)[0]
        for output in self.graph.outputs:
            if output in means:
                mean = Scale(1 / self.method.members)
                builder.apply(mean, means[output], name=f"{output}.mean", outputs=(output,))
        builder.outputs = list(self.graph.outputs)
        return builder.finish().without_dead_nodes()

    def _copy(self, builder: GraphBuilder, node: Node) -> None:
        assert isinstance(node.op, Op)
        builder.apply(node.op, *node.inputs, name=node.name, outputs=node.outputs, after=node.after)
