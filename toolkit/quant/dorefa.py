"""dorefa: DoReFa-Net (arXiv 1606.06160), weights, activations and gradients of 1 to 8 bits each, or 32 for float32.

dorefa:w1a2g6 has weights of 1 bit, activations of 2 and gradients of 6. For each layer:

    weights       1 bit: sign(w) * mean |w| of the layer; else odd codes of tanh(w) / max |tanh w|, one scale for all
                  (toolkit.ops.dorefa_weights); made anew from float32 masters in every step
    activations   rint(n * clip(x, 0, 1)) / n, n = 2^bits - 1 (toolkit.ops.dorefa_activations)
    gradients     what arrives at the layer's output, one scale for each sample, with noise
                  (toolkit.ops.dorefa_gradient); biases get it as it is

With master=int16, for cores without floating point, what lies between layers is computed on integers too, and weights
that train are int16, updated by plain SGD with stochastic rounding (toolkit.quant.dorefa_integers). It takes weights of
one bit, activations and gradients of up to 7. Gradients then have one scale for all samples, those that ReLU or pooling
stops stay 0, and the first and the last layer are those of fixed8.

Sums are exact integers, forward and for both gradients, then one float32 scale. A Relu, or a Clip that keeps [0, 1],
that only such layers read, directly or behind MaxPool and Reshape, is replaced by the quantizer, and codes are pooled;
else the quantizer stands right in front of the layer. Where one of the three is 32 (the gradients: in training), the
layer computes in float32 on the values that the others' codes stand for, and activations of 32 bits are not clipped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.errors import UserError
from toolkit.ir import Graph, Node
from toolkit.ops.add import Add
from toolkit.ops.base import Op
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.clip import Clip
from toolkit.ops.conv import Conv
from toolkit.ops.decode_codes import DecodeCodes, DecodeSigns, QuantizeGradient
from toolkit.ops.dense import Dense
from toolkit.ops.dorefa_activations import DorefaActivations, levels
from toolkit.ops.dorefa_gradient import DorefaGradientQuantizer
from toolkit.ops.dorefa_weights import DorefaSigns, DorefaWeights
from toolkit.ops.max_pool import MaxPool
from toolkit.ops.quantized_conv import QuantizedConv
from toolkit.ops.relu import Relu
from toolkit.ops.reshape import Reshape
from toolkit.quant.blocks import Readers
from toolkit.quant.dorefa_integers import DorefaOnIntegers
from toolkit.quant.method import WHERE, Context, Method, method, parse_options, rebuild

FLOAT = 32
MASTERS = ("float32", "int16")
_WIDTHS = re.compile(r"w(\d+)a(\d+)g(\d+)")
_PASSING = (MaxPool, Reshape)  # what codes go through as they are


@method()
@dataclass(frozen=True)
class Dorefa(Method):
    """DoReFa-Net.

    Attributes:
        weights, activations, gradients: bits, 1 to 8 or 32.
        master: how weights that train are kept: float32, or int16 with all between layers on integers.
    """

    weights: int = 1
    activations: int = 2
    gradients: int = 6
    master: str = "float32"
    all: bool = False

    keyword = "dorefa"
    summary = "weights, activations and gradients of 1 to 8 bits (DoReFa-Net)"
    keeps_ends = True

    @classmethod
    def parse(cls, options: Sequence[str]) -> Method:
        where, hint = f"{WHERE} {cls.keyword}:{','.join(options)}", "bits of weights, activations, gradients: w1a2g6"
        named = [option for option in options if "=" in option]
        master = parse_options(cls, named).get("master", "float32")
        if master not in MASTERS:
            raise UserError(f"there is no master '{master}'", where=where, hint=f"one of {', '.join(MASTERS)}")
        rest = [option for option in options if option not in named] or ["w1a2g6"]
        found = _WIDTHS.fullmatch(rest[0])
        if found is None or len(rest) > 1:
            wrong = rest[0] if found is None else rest[1]
            raise UserError(f"'{wrong}' is not understood", where=where, hint=hint)
        widths = [int(width) for width in found.groups()]
        for width in widths:
            if not 1 <= width <= 8 and width != FLOAT:
                raise UserError(f"{width} bits are out of range", where=where, hint="1 to 8, or 32 for float32")
        weights, activations, gradients = widths
        if master == "int16" and (weights != 1 or max(activations, gradients) > 7):
            raise UserError(
                "master=int16 needs weights of 1 bit, activations and gradients of at most 7",
                where=where,
                hint="dorefa:w1a2g6,master=int16",
            )
        return cls(weights, activations, gradients, master)

    @property
    def leaves_ends(self) -> bool:
        return super().leaves_ends and self.master == "float32"

    def rewrite(self, graph: Graph, layers: frozenset[str], context: Context) -> Graph:
        if self.master == "int16":
            return DorefaOnIntegers(self.activations, self.gradients, self.all, graph, layers, context).run()
        return _Rewrite(self, graph, layers, bool(context.trained)).run()


class _Rewrite:
    """One pass over a graph."""

    def __init__(self, method: Dorefa, graph: Graph, layers: frozenset[str], trains: bool) -> None:
        self.graph = graph
        self.layers = layers
        self.weight_bits, self.activation_bits = method.weights, method.activations
        self.gradient_bits = method.gradients if trains else 0  # 0 where there are none
        widths = (self.weight_bits, self.activation_bits, self.gradient_bits)
        self.on_codes = FLOAT not in widths
        self.dtype = "int16" if 8 in widths else "int8"
        self.readers = Readers(graph)
        self.activations: dict[str, str] = {}  # tensor -> what layers read in its place
        self.weights: dict[str, tuple[str, str]] = {}  # parameter -> codes or packed signs, and scale

    def run(self) -> Graph:
        """The graph rewritten."""
        return rebuild(self.graph, self.replace_node)

    def replace_node(self, builder: GraphBuilder, node: Node) -> bool:
        """Adds what stands in place of a node, if anything does."""
        if node.name in self.layers:
            self.add_layer(builder, node)
            return True
        if self.activation_bits != FLOAT and self.is_quantizer(node):
            x = node.inputs[0]
            assert x is not None
            self.quantize(builder, x, node.name, node.outputs)
            self.mark(node.outputs[0])
            return True
        return False

    def is_quantizer(self, node: Node) -> bool:
        """Whether a quantizer takes the node's place: only layers read it, and they would clip it anyway."""
        keeps = isinstance(node.op, Clip) and node.op.minimum <= 0 and node.op.maximum >= 1
        return (isinstance(node.op, Relu) or keeps) and self.only_layers_read(node.outputs[0])

    def only_layers_read(self, name: str) -> bool:
        """Whether nothing but layers reads a tensor, directly or behind nodes that codes go through."""
        readers = self.readers.of(name)
        if not readers or self.readers.is_output(name):
            return False
        for node in readers:
            if isinstance(node.op, _PASSING):
                if not self.only_layers_read(node.outputs[0]):
                    return False
            elif node.name not in self.layers or node.inputs[0] != name:
                return False
        return True

    def mark(self, name: str) -> None:
        """Notes that a tensor is quantized, and what it goes through."""
        self.activations[name] = name
        for node in self.readers.of(name):
            if isinstance(node.op, _PASSING):
                self.mark(node.outputs[0])

    def quantize(self, builder: GraphBuilder, x: str, name: str, outputs: tuple[str, ...] = ()) -> str:
        """Codes of activations, or the values that they stand for; gives the tensor."""
        op = DorefaActivations(self.activation_bits, self.dtype if self.on_codes else _dtype(self.activation_bits))
        if self.on_codes:
            return builder.apply(op, x, name=name, outputs=outputs)[0]
        codes = builder.apply(op, x, name=name)[0]
        scale = _constant(builder, f"{name}.scale", 1 / levels(self.activation_bits))
        return builder.apply(DecodeCodes(), codes, scale, name=f"{name}.decode", outputs=outputs)[0]

    def add_layer(self, builder: GraphBuilder, node: Node) -> None:
        """The layer, its operands quantized."""
        x, w = node.inputs[0], node.inputs[1]
        assert x is not None and w is not None
        if self.activation_bits != FLOAT and x not in self.activations:
            self.activations[x] = self.quantize(builder, x, f"{node.name}.quantize")
        if self.weight_bits != FLOAT and w not in self.weights:
            self.weights[w] = self.quantize_weights(builder, w, f"{node.name}.weights")
        if self.on_codes:
            self.layer_on_codes(builder, node, self.activations[x], self.graph.type(w).shape, *self.weights[w])
        else:
            self.layer_on_values(builder, node, self.activations.get(x, x), w)

    def quantize_weights(self, builder: GraphBuilder, w: str, name: str) -> tuple[str, str]:
        """Packed signs or codes of weights, and their scale."""
        if self.weight_bits == 1:
            signs, scale = builder.apply(DorefaSigns(), w, name=name)
            return signs, scale
        op = DorefaWeights(self.weight_bits, self.dtype if self.on_codes else _dtype(self.weight_bits))
        return builder.apply(op, w, name=name)[0], _constant(builder, f"{name}.scale", 1 / levels(self.weight_bits))

    def layer_on_codes(
        self, builder: GraphBuilder, node: Node, x: str, shape: tuple[int, ...], w: str, w_scale: str
    ) -> None:
        """Exact sums of codes, scaled. `shape` is that of the real weights."""
        largest_x, largest_w = levels(self.activation_bits), levels(self.weight_bits)
        quantizer = DorefaGradientQuantizer(self.gradient_bits, self.dtype) if self.gradient_bits else None
        x_scale = _constant(builder, f"{node.name}.x_scale", 1 / largest_x)
        conv = node.op if isinstance(node.op, Conv) else Conv((1, 1), (1, 1), (0, 0), (0, 0))
        kernel, channels = shape[:-2] or (1, 1), shape[-2]
        layer = QuantizedConv(
            conv.strides, conv.dilations, conv.before, conv.after, conv.groups,
            kernel if self.weight_bits == 1 else (), channels if self.weight_bits == 1 else 0,
            largest_x, largest_w, levels(self.gradient_bits) if self.gradient_bits else 127,
            gradient_quantizer=quantizer, unsigned=True,
        )  # fmt: skip
        bias = node.inputs[2:3]
        if isinstance(node.op, Conv):
            builder.apply(layer, x, w, x_scale, w_scale, *bias, name=node.name, outputs=node.outputs)
            return
        rows, outputs = builder.type(x).shape[0], shape[1]
        image = builder.apply(Reshape((rows, 1, 1, channels)), x, name=f"{node.name}.image")[0]
        if self.weight_bits > 1:
            w = builder.apply(Reshape((1, 1, *shape)), w, name=f"{node.name}.taps")[0]
        y = builder.apply(layer, image, w, x_scale, w_scale, *bias, name=node.name)[0]
        builder.apply(Reshape((rows, outputs)), y, name=f"{node.name}.rows", outputs=node.outputs)

    def layer_on_values(self, builder: GraphBuilder, node: Node, x: str, w: str) -> None:
        """The layer in float32; its operands are values that codes stand for, where they have codes."""
        weights = w
        if w in self.weights:
            op: Op = DecodeSigns(self.graph.type(w).shape) if self.weight_bits == 1 else DecodeCodes()
            weights = builder.apply(op, *self.weights[w], name=f"{node.name}.values")[0]
        assert isinstance(node.op, Conv | Dense)
        if self.gradient_bits in (0, FLOAT):
            builder.apply(node.op, x, weights, *node.inputs[2:], name=node.name, outputs=node.outputs)
            return
        quantizer = DorefaGradientQuantizer(self.gradient_bits, _dtype(self.gradient_bits))
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        y = builder.apply(node.op, x, weights, name=node.name)[0]
        last = node.outputs if bias is None else ()
        y = builder.apply(QuantizeGradient(quantizer), y, name=f"{node.name}.gradient", outputs=last)[0]
        if bias is not None:
            builder.apply(Add(), y, bias, name=f"{node.name}.bias", outputs=node.outputs)


def _dtype(bits: int) -> str:
    """The smallest type that holds odd codes of this many bits."""
    return "int16" if bits == 8 else "int8"


def _constant(builder: GraphBuilder, name: str, value: float) -> str:
    return builder.constant(name, np.array(value, np.float32))
