"""int8: affine post-training quantization, for inference (arXiv 1712.05877).

A real value is (code - zero) * scale with int8 codes. Weights have one scale for each output channel and zero 0;
activations one scale and one zero for a tensor, found by running the float model on samples:

    int8:calibration=minmax       the least and the largest value (the default)
    int8:calibration=percentile   all but one value of ten thousand at each end
    int8:calibration=mse          the part of that range whose codes have the least squared error

    int8:samples=64               so many of the samples, spread evenly over them; without it all of them
    int8:frozen                   only the layers below the lowest trained parameter; all others stay float32

Batch normalization is folded into the weights first. Relu and Clip behind a layer become a clamp of its codes, MaxPool
and Reshape work on codes, so chains of layers stay in int8. A layer whose result anything else reads gives float32
straight from its sums; what else there is computes in float32, and the layers behind it quantize what it gives
(toolkit.ops.affine_codes). A residual Add in front of layers alone adds codes (toolkit.ops.add_codes), and takes the
activation behind it into its clamp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import frexp, prod

import numpy as np

from toolkit.errors import UserError
from toolkit.ir import Array, Graph, Kind, Node
from toolkit.ops.add import Add
from toolkit.ops.add_codes import AddCodes, multipliers
from toolkit.ops.affine_codes import HIGHEST, LOWEST, AffineQuantize
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.clip import Clip
from toolkit.ops.conv import Conv
from toolkit.ops.fold_batch_norm import fold_batch_normalization
from toolkit.ops.max_pool import MaxPool
from toolkit.ops.quantized_conv import QuantizedConv
from toolkit.ops.quantized_conv_codes import QuantizedConvRequantized
from toolkit.ops.relu import Relu
from toolkit.ops.reshape import Reshape
from toolkit.quant.blocks import Readers
from toolkit.quant.calibration import CALIBRATIONS, Range, find_ranges
from toolkit.quant.method import WHERE, Context, Method, method, parse_options, rebuild
from toolkit.train.autodiff import tensors_with_gradient

_LARGEST_X, _LARGEST_W = 128, 127
_MOST_START = 2**30  # what is added to a sum; the sum itself has the other half of int32
_PASSING = (MaxPool, Reshape)  # what codes go through as they are
_FIXED = (Kind.PARAMETER, Kind.CONSTANT)


@method()
@dataclass(frozen=True)
class Int8(Method):
    """Affine int8 after training.

    Attributes:
        calibration: how the range of an activation follows from samples: minmax, percentile or mse.
        frozen: leave alone what is trained, and what a gradient goes through.
        samples: how many to calibrate on; 0 for all that there are.
    """

    calibration: str = "minmax"
    samples: int = 0
    frozen: bool = False
    all: bool = False

    keyword = "int8"
    summary = "int8 weights and activations after training, for inference"

    @classmethod
    def parse(cls, options: Sequence[str]) -> Method:
        made = cls(**parse_options(cls, options))
        if made.calibration not in CALIBRATIONS:
            where, hint = f"{WHERE} int8:{','.join(options)}", f"one of {', '.join(CALIBRATIONS)}"
            raise UserError(f"there is no calibration '{made.calibration}'", where=where, hint=hint)
        if made.samples < 0:
            raise UserError("it cannot calibrate on less than no samples", where=f"{WHERE} int8:{','.join(options)}")
        return made

    @property
    def of_frozen(self) -> bool:
        return self.frozen

    def rewrite(self, graph: Graph, layers: frozenset[str], context: Context) -> Graph:
        if self.frozen:
            layers = _below_training(graph, layers, context)
        for node in graph.nodes:
            if node.name in layers:
                _check(graph, node, context)
        if context.samples is None:
            what = "int8 needs samples, to see which range the activations have"
            raise UserError(what, where=f"{WHERE} int8", hint="--calibrate DATA names a file of inputs")
        if len(graph.inputs) != 1:
            raise UserError(f"int8 calibrates models with one input, not {len(graph.inputs)}", where=f"{WHERE} int8")
        graph = fold_batch_normalization(graph, frozenset(context.trained)).without_dead_nodes()
        trained = tensors_with_gradient(list(graph.nodes), frozenset(context.trained))
        chains = {
            node.name: _chain(graph, node)
            for node in graph.nodes
            if node.name in layers or (_is_residual(graph, node) and trained.isdisjoint(node.outputs))
        }
        names = {name for chain in chains.values() for name in (*_summed(chain.layer), chain.output)}
        samples = _spread(context.samples(), graph.type(graph.inputs[0]).shape[0], self.samples)
        ranges = find_ranges(graph, sorted(names), samples, CALIBRATIONS[self.calibration], context.fma)
        return _Rewrite(graph, chains, ranges).run()


@dataclass(frozen=True)
class _Affine:
    """value = (code - zero) * scale."""

    scale: float
    zero: int

    @classmethod
    def of(cls, values: Range) -> _Affine:
        """Codes for a range that contains 0, which is a code of its own."""
        low, high = values
        scale = float(np.float32((high - low) / (HIGHEST - LOWEST))) or 1.0
        return cls(scale, int(np.clip(np.rint(LOWEST - low / scale), LOWEST, HIGHEST)))

    def code(self, value: float) -> int:
        """The nearest code."""
        return int(np.clip(np.rint(value / self.scale) + self.zero, LOWEST, HIGHEST)) if np.isfinite(value) else (
            HIGHEST if value > 0 else LOWEST
        )


@dataclass(frozen=True)
class _Chain:
    """A layer or a residual Add, and the activation that is applied to its codes.

    Attributes:
        layer: a Conv, Dense or Add.
        activation: a Relu or Clip whose place the layer's clamp takes; pools may stand between the two.
        output: the tensor whose values the codes of the layer stand for.
    """

    layer: Node
    activation: Node | None
    output: str


class _Rewrite:
    """One pass over a graph whose batch normalizations are folded."""

    def __init__(self, graph: Graph, chains: dict[str, _Chain], ranges: dict[str, Range]) -> None:
        self.graph = graph
        self.chains = chains
        self.readers = Readers(graph)
        self._wanted: dict[str, bool] = {}
        self.dropped = {c.activation.name for c in chains.values() if c.activation and self.wants_codes(c.output)}
        self.affine = {name: _Affine.of(values) for name, values in ranges.items()}
        self.codes: dict[str, tuple[str, _Affine]] = {}  # tensor -> its codes, where it has some
        self.real: set[str] = {name for name, tensor in graph.tensors.items() if tensor.kind is not Kind.COMPUTED}

    def run(self) -> Graph:
        """The graph rewritten."""
        return rebuild(self.graph, self.replace_node)

    def wants_codes(self, name: str) -> bool:
        """Whether all who read a tensor are layers or sums of codes, perhaps behind pools."""
        if name not in self._wanted:
            readers = self.readers.of(name)
            private = bool(readers) and not self.readers.is_output(name)
            self._wanted[name] = private and all(self._takes_codes(node) for node in readers)
        return self._wanted[name]

    def _takes_codes(self, node: Node) -> bool:
        if isinstance(node.op, _PASSING):
            return self.wants_codes(node.outputs[0])
        chain = self.chains.get(node.name)
        return chain is not None and (not isinstance(node.op, Add) or self.wants_codes(chain.output))

    def replace_node(self, builder: GraphBuilder, node: Node) -> bool:
        """Adds what stands in place of a node, if anything does."""
        x = node.inputs[0] if node.inputs else None
        if isinstance(node.op, Add):
            if node.name in self.chains and self._takes_codes(node):
                return self.add_sum(builder, node)
        elif node.name in self.chains:
            self.add_layer(builder, node)
            return True
        if x in self.codes and x not in self.real:
            codes, affine = self.codes[x]
            if node.name in self.dropped:
                self.codes[node.outputs[0]] = codes, affine
                return True
            if isinstance(node.op, _PASSING) and self.on_codes(node):
                self.codes[node.outputs[0]] = builder.apply(node.op, codes, name=node.name)[0], affine
                return True
        self.real.update(node.outputs)
        return False

    def on_codes(self, node: Node) -> bool:
        """Whether a pool or a view works on codes: whoever reads it wants them, or an activation that is a clamp."""
        output = node.outputs[0]
        after = self.readers.sole(output)
        while after is not None and isinstance(after.op, _PASSING):
            after = self.readers.sole(after.outputs[0])
        return self.wants_codes(output) or (after is not None and after.name in self.dropped)

    def input_codes(self, builder: GraphBuilder, node: Node, index: int = 0) -> tuple[str, _Affine]:
        """Codes of what a layer reads: those that are there, or made of float32."""
        x = node.inputs[index]
        assert x is not None
        if x not in self.codes:
            affine = self.affine[x]
            op = AffineQuantize(float(np.float32(1 / affine.scale)), affine.zero)
            self.codes[x] = builder.apply(op, x, name=f"{node.name}.quantize")[0], affine
        return self.codes[x]

    def add_layer(self, builder: GraphBuilder, node: Node) -> None:
        """A convolution of codes, with codes or with float32 as a result."""
        codes, x = self.input_codes(builder, node)
        chain, output = self.chains[node.name], node.outputs[0]
        weight, bias = self.graph.data[node.inputs[1] or ""], self.bias(node)
        conv = node.op if isinstance(node.op, Conv) else Conv((1, 1), (1, 1), (0, 0), (0, 0))
        shared = (conv.strides, conv.dilations, conv.before, conv.after, conv.groups, (), 0, _LARGEST_X, _LARGEST_W)
        kernel = weight if isinstance(node.op, Conv) else weight.reshape(1, 1, *weight.shape)
        w, w_scale = _weights(kernel, bias, x.scale)
        start = -x.zero * w.astype(np.int64).reshape(-1, w.shape[-1]).sum(axis=0)
        if not isinstance(node.op, Conv):
            rows, inputs = self.graph.type(node.inputs[0] or "").shape
            codes = builder.apply(Reshape((rows, 1, 1, inputs)), codes, name=f"{node.name}.image")[0]
        named = builder.constant(f"{node.name}.weights", w)
        if self.wants_codes(chain.output):
            y = self.affine[chain.output]
            low, high = _clamp(chain.activation, y)
            ratio = x.scale * w_scale.astype(np.float64)
            whole = np.clip(start + np.rint(bias / ratio), -_MOST_START, _MOST_START).astype(np.int32)
            multiplier, shift = _fraction(ratio / y.scale)
            op = QuantizedConvRequantized(*shared, x_zero=x.zero, zero=y.zero, low=low, high=high)
            parts = {"start": whole, "multiplier": multiplier, "shift": shift}
            vectors = [builder.constant(f"{node.name}.{part}", value) for part, value in parts.items()]
            result = builder.apply(op, codes, named, *vectors, name=node.name)[0]
            if not isinstance(node.op, Conv):
                flat = Reshape((rows, w.shape[-1]))
                result = builder.apply(flat, result, name=f"{node.name}.rows")[0]
            self.codes[output] = result, y
            return
        scales = [
            builder.constant(f"{node.name}.x_scale", np.array(x.scale, np.float32)),
            builder.constant(f"{node.name}.w_scale", w_scale),
            builder.constant(f"{node.name}.bias", bias.astype(np.float32)),
            builder.constant(f"{node.name}.start", start.astype(np.int32)),
        ]
        real = QuantizedConv(*shared, x_zero=x.zero)
        self.real.add(output)
        if isinstance(node.op, Conv):
            builder.apply(real, codes, named, *scales, name=node.name, outputs=node.outputs)
        else:
            y_image = builder.apply(real, codes, named, *scales, name=node.name)[0]
            flat = Reshape((rows, w.shape[-1]))
            builder.apply(flat, y_image, name=f"{node.name}.rows", outputs=node.outputs)

    def add_sum(self, builder: GraphBuilder, node: Node) -> bool:
        """A sum of codes."""
        chain = self.chains[node.name]
        (a, a_affine), (b, b_affine) = (self.input_codes(builder, node, index) for index in range(2))
        y = self.affine[chain.output]
        factors = multipliers(a_affine.scale / y.scale, b_affine.scale / y.scale)
        if factors is None:
            raise UserError("the scales of a sum differ too much for int8", where=f"{WHERE} int8, {node.name}")
        op = AddCodes(
            a_affine.zero, factors[0], b_affine.zero, factors[1], factors[2], y.zero, *_clamp(chain.activation, y)
        )
        self.codes[node.outputs[0]] = builder.apply(op, a, b, name=node.name)[0], y
        return True

    def bias(self, node: Node) -> Array:
        """Float64 [OC]; zeros where there is none."""
        name = node.inputs[2] if len(node.inputs) > 2 else None
        outputs = self.graph.type(node.inputs[1] or "").shape[-1]
        return np.zeros(outputs) if name is None else self.graph.data[name].astype(np.float64)


def _spread(samples: Array, batch: int, count: int) -> Array:
    """As many whole batches as hold `count` samples, at least one, spread evenly; all of them for 0."""
    batches = len(samples) // batch
    wanted = min(max(-(-count // batch), 1), batches) if count else batches
    starts = np.arange(wanted) * batches // wanted * batch
    return np.concatenate([samples[start : start + batch] for start in starts])


def _below_training(graph: Graph, layers: frozenset[str], context: Context) -> frozenset[str]:
    """The layers that no gradient reaches.

    Raises:
        UserError: there are none.
    """
    reached = tensors_with_gradient(list(graph.nodes), frozenset(context.trained))
    frozen = frozenset(n.name for n in graph.nodes if n.name in layers and not reached.intersection(n.outputs))
    if not frozen:
        what = "no layer lies below what is trained"
        raise UserError(what, where=f"{WHERE} int8:frozen", hint="train less, for instance --train last:1")
    return frozen


def _check(graph: Graph, node: Node, context: Context) -> None:
    """Raises UserError unless int8 can quantize a layer."""
    where = f"{WHERE} int8, layer {node.name}"
    names = [name for name in node.inputs[1:] if name is not None]
    if any(name in context.trained for name in names):
        hint = "use int8:frozen, which leaves it alone, or fixed8, which trains on int8"
        raise UserError("int8 is for inference, but the layer is trained", where=where, hint=hint)
    if any(graph.kind(name) not in _FIXED for name in names):
        raise UserError("int8 needs weights that are known when compiling", where=where)
    terms = prod(graph.type(names[0]).shape[:-1])
    if terms * _LARGEST_X * _LARGEST_W >= _MOST_START:
        most = (_MOST_START - 1) // (_LARGEST_X * _LARGEST_W)
        raise UserError(f"a sum of {terms} products may not fit into int32; {most} are the most", where=where)


def _is_residual(graph: Graph, node: Node) -> bool:
    """Whether a node adds two values of one shape that are computed from the input."""
    if not isinstance(node.op, Add):
        return False
    a, b = (name or "" for name in node.inputs)
    same = graph.type(a) == graph.type(b) and graph.type(a).dtype == "float32"
    return a != b and same and all(graph.kind(name) in (Kind.COMPUTED, Kind.INPUT) for name in (a, b))


def _summed(layer: Node) -> tuple[str, ...]:
    """What a layer reads besides its weights."""
    return tuple(name for name in layer.inputs[: 2 if isinstance(layer.op, Add) else 1] if name is not None)


def _chain(graph: Graph, layer: Node) -> _Chain:
    """The layer with the activation behind it, also behind pools: a clamp may as well come before the maximum."""
    readers = Readers(graph)
    after = readers.sole(layer.outputs[0])
    while after is not None and isinstance(after.op, _PASSING):
        after = readers.sole(after.outputs[0])
    if after is None or not isinstance(after.op, Relu | Clip):
        return _Chain(layer, None, layer.outputs[0])
    return _Chain(layer, after, after.outputs[0])


def _weights(w: Array, bias: Array, x_scale: float) -> tuple[Array, Array]:
    """Codes int8 of w [taps..., IC, OC] and their scales float32 [OC]: the largest of a channel is 127.

    A scale is not so small that the bias of its channel, in units of the sums, would leave its half of int32.
    """
    largest = np.abs(w.astype(np.float64)).reshape(-1, w.shape[-1]).max(axis=0)
    scale = np.maximum(largest / _LARGEST_W, np.abs(bias) / (x_scale * (_MOST_START // 2)))
    single = np.where(scale > 0, scale, 1.0).astype(np.float32)
    codes = np.clip(np.rint(w.astype(np.float64) / single), -_LARGEST_W, _LARGEST_W)
    return codes.astype(np.int8), single


def _clamp(activation: Node | None, y: _Affine) -> tuple[int, int]:
    """The least and the largest code that an activation leaves."""
    if activation is None:
        return LOWEST, HIGHEST
    if isinstance(activation.op, Relu):
        return y.zero, HIGHEST
    assert isinstance(activation.op, Clip)
    low, high = y.code(activation.op.minimum), y.code(activation.op.maximum)
    return min(low, high), high


def _fraction(ratio: Array) -> tuple[Array, Array]:
    """(multiplier int32, shift int8) with multiplier / 2^shift next to each positive ratio."""
    multipliers, shifts = [], []
    for value in ratio:
        exponent = frexp(float(value))[1]  # 2^(exponent - 1) <= value < 2^exponent
        shift = min(31 - exponent, 62)
        multiplier = round(float(value) * 2.0**shift)
        if multiplier == 2**31:
            multiplier, shift = 2**30, shift - 1
        if shift < 1:
            raise UserError("the scales of a layer differ too much for int8", where=f"{WHERE} int8")
        multipliers.append(multiplier)
        shifts.append(shift)
    return np.array(multipliers, np.int32), np.array(shifts, np.int8)
