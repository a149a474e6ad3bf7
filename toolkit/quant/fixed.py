"""fixed8, fixed16: dynamic fixed point, forward and backward (METHODS.md S22; Tayaranian et al.).

    every tensor        mantissa * 2^e, one e per tensor from its largest magnitude; mantissas int8 or int16
    inputs, gradients   rounded stochastically in training; inference rounds to the nearest
    weights             master=float32: mantissas made anew in every step, to the nearest
                        master=int16: kept as int16 with a fixed power of two, two bits of headroom, updated by plain
                        SGD with stochastic rounding; half the RAM. fixed8 computes with their upper 8 bits.
    convolutions        exact integer sums, forward and for both gradients

The training path for cores without floating point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from toolkit.errors import UserError
from toolkit.ir import Graph, Node, TensorType
from toolkit.numerics.fixed import largest_mantissa
from toolkit.numerics.stored import StoredFormat, fixed_format_for
from toolkit.ops.batch_norm_affine import BatchNormAffine
from toolkit.ops.batch_normalization import BatchNormalization
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.conv import Conv
from toolkit.ops.fixed_conv import FixedConv, FixedConvolution
from toolkit.ops.fixed_quantize import FixedGradientQuantizer, FixedQuantize, FixedUpper
from toolkit.ops.fixed_real import FixedReal
from toolkit.ops.fixed_unit import FixedUnit
from toolkit.ops.quantized_conv import QuantizedConv
from toolkit.ops.reshape import Reshape
from toolkit.quant.fixed_units import Unit, find_units, is_integer
from toolkit.quant.method import WHERE, Context, Method, method, parse_options, rebuild
from toolkit.train.stored_rule import FixedRule, StoredRule

MASTERS = ("float32", "int16")
_BITS = {"fixed8": 8, "fixed16": 16}
_DEFAULT_MASTER = {8: "int16", 16: "float32"}


@method("fixed8", "fixed16")
@dataclass(frozen=True)
class Fixed(Method):
    """Dynamic fixed point.

    Attributes:
        bits: 8 or 16, of all mantissas; from the keyword.
        master: how weights that train are kept: float32 or int16.
    """

    bits: int = 8
    master: str = "int16"
    all: bool = False

    keyword = "fixed8"
    summary = "dynamic fixed point, forward and backward: training without floating point"

    @classmethod
    def parse(cls, options: Sequence[str]) -> Method:
        bits = _BITS["fixed16" if "fixed16" in options else "fixed8"]
        given: dict[str, Any] = parse_options(cls, [option for option in options if option not in _BITS])
        if "bits" in given:
            raise UserError("the bits are in the name of the method", where=WHERE, hint="fixed8 or fixed16")
        master = given.get("master", _DEFAULT_MASTER[bits])
        if master not in MASTERS:
            raise UserError(f"there is no master '{master}'", where=WHERE, hint=f"one of {', '.join(MASTERS)}")
        return cls(bits, master)

    def rewrite(self, graph: Graph, layers: frozenset[str], context: Context) -> Graph:
        return FixedRewriting(self.bits, self.master, graph, layers, context).run()


class FixedRewriting:
    """One pass over a graph."""

    def __init__(self, bits: int, master: str, graph: Graph, layers: frozenset[str], context: Context) -> None:
        self.bits, self.master = bits, master
        self.graph, self.layers, self.context = graph, layers, context
        self.units = find_units(graph, layers) if self.bits == 8 else {}
        self.absorbed = {node.name for unit in self.units.values() for node in unit.nodes}
        self.codes: dict[str, tuple[str, str]] = {}  # float32 tensor of the given graph -> mantissas and scale

    def run(self) -> Graph:
        """The graph with its layers quantized."""
        return rebuild(self.graph, self._replace)

    def _replace(self, builder: GraphBuilder, node: Node) -> bool:
        if node.name in self.absorbed:
            return True
        if node.name not in self.layers:
            return False
        x = self.input(builder, node)
        w = self.weights(builder, node)
        if self.bits == 8 and is_integer(self.graph, node):
            self._integer_layer(builder, node, x, w)
        else:
            self._layer(builder, node, x, w)
        return True

    def input(self, builder: GraphBuilder, node: Node) -> tuple[str, str]:
        """Mantissas and scale of a layer's input."""
        x = node.inputs[0]
        assert x is not None
        if x in self.codes:
            return self.codes[x]
        mantissas, scale = builder.apply(FixedQuantize(self.bits), x, name=f"{node.name}.quantize")
        return mantissas, scale

    def weights(self, builder: GraphBuilder, node: Node) -> tuple[str, str]:
        """Mantissas and scale of a layer's weights; those that another node reads too keep a float32 master."""
        w = node.inputs[1]
        assert w is not None
        name = f"{node.name}.weights"
        if not self.is_stored(w):
            mantissas, scale = builder.apply(FixedQuantize(self.bits, draws=False), w, name=name)
            return mantissas, scale
        format = self.store(builder, w)
        step = format.step * (256 if self.bits == 8 else 1)
        scale = builder.constant(f"{name}.scale", np.array(step, np.float32))
        return (builder.apply(FixedUpper(), w, name=name)[0] if self.bits == 8 else w), scale

    def is_stored(self, w: str) -> bool:
        """Whether weights become int16 masters."""
        return self.master == "int16" and w in self.context.trained and len(self.graph.readers(w)) == 1

    def store(self, builder: GraphBuilder, w: str) -> StoredFormat:
        """Makes weights int16 masters; gives their format."""
        format = fixed_format_for(self.graph.data[w])
        store_parameter(builder, w, FixedRule(format))
        return format

    def convolution(self, node: Node, conv: Conv) -> FixedConvolution:
        """The op that computes a layer's sums."""
        return FixedConv(conv.strides, conv.dilations, conv.before, conv.after)

    def unit(self, node: Node, unit: Unit) -> FixedUnit:
        """The op that computes what follows a layer."""
        return FixedUnit(unit.relu, unit.window)

    def _integer_layer(self, builder: GraphBuilder, node: Node, x: tuple[str, str], w: tuple[str, str]) -> None:
        """The layer with integer sums, and what comes after it on integers where it can."""
        if isinstance(node.op, Conv):
            conv = self.convolution(node, node.op)
            sums, scale = builder.apply(conv, x[0], w[0], x[1], w[1], name=node.name)
        else:
            image, taps, rows = self.as_image(builder, node, x[0], w[0])
            dense = self.convolution(node, Conv((1, 1), (1, 1), (0, 0), (0, 0)))
            sums, scale = builder.apply(dense, image, taps, x[1], w[1], name=node.name)
            sums = builder.apply(Reshape(rows), sums, name=f"{node.name}.rows")[0]
        bias = (*node.inputs, None)[2]
        unit = self.units.get(node.name)
        if unit is None:
            with_bias = () if bias is None else (bias,)
            builder.apply(FixedReal(), sums, scale, *with_bias, name=f"{node.name}.real", outputs=node.outputs)
            return
        a, b = None, bias
        if unit.normalization is not None:
            norm = unit.normalization
            assert isinstance(norm.op, BatchNormalization)
            affine = BatchNormAffine(norm.op.epsilon, norm.op.momentum)
            a, b = builder.apply(affine, *norm.inputs[1:], name=norm.name)
        made = builder.apply(self.unit(node, unit), sums, scale, a, b, name=f"{node.name}.unit")
        codes = made[0]
        for view in unit.views:
            codes = builder.apply(view.op, codes, name=view.name)[0]  # type: ignore[arg-type]
        self.codes[unit.output] = (codes, made[1])

    def as_image(
        self, builder: GraphBuilder, node: Node, x: str, w: str
    ) -> tuple[str, str, tuple[int, int]]:
        """Input and weights of a dense layer as those of a 1x1 convolution, and the shape of its output."""
        rows, inputs = builder.type(x).shape
        outputs = builder.type(w).shape[1]
        image = self.rows_as_image(builder, node, x)
        taps = builder.apply(Reshape((1, 1, inputs, outputs)), w, name=f"{node.name}.taps")[0]
        return image, taps, (rows, outputs)

    def rows_as_image(self, builder: GraphBuilder, node: Node, x: str) -> str:
        """[N, K] as [N, 1, 1, K]."""
        rows, inputs = builder.type(x).shape
        return builder.apply(Reshape((rows, 1, 1, inputs)), x, name=f"{node.name}.image")[0]

    def _layer(self, builder: GraphBuilder, node: Node, x: tuple[str, str], w: tuple[str, str]) -> None:
        """The layer on mantissas, its output as float32."""
        largest = largest_mantissa(self.bits)
        limits: dict[str, Any] = {"largest_x": largest, "largest_w": largest, "largest_g": largest}
        quantizer = FixedGradientQuantizer(self.bits)
        bias = node.inputs[2:3]
        if isinstance(node.op, Conv):
            op = node.op
            layer = QuantizedConv(
                op.strides, op.dilations, op.before, op.after, op.groups, gradient_quantizer=quantizer, **limits
            )
            builder.apply(layer, x[0], w[0], x[1], w[1], *bias, name=node.name, outputs=node.outputs)
            return
        image, taps, rows = self.as_image(builder, node, x[0], w[0])
        dense = QuantizedConv((1, 1), (1, 1), (0, 0), (0, 0), gradient_quantizer=quantizer, **limits)
        y = builder.apply(dense, image, taps, x[1], w[1], *bias, name=node.name)[0]
        builder.apply(Reshape(rows), y, name=f"{node.name}.rows", outputs=node.outputs)


def store_parameter(builder: GraphBuilder, parameter: str, rule: StoredRule) -> None:
    """Keeps a float32 parameter in 16 bits, by its rule."""
    stored = rule.format.nearest(builder.data[parameter])
    tensor = builder.tensors[parameter]
    builder.data[parameter] = stored
    builder.tensors[parameter] = replace(tensor, type=TensorType(tensor.type.shape, str(stored.dtype)))
    builder.rules[parameter] = rule
