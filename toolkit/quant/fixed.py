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
from toolkit.numerics.stored import fixed_format_for
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.conv import Conv
from toolkit.ops.dense import Dense
from toolkit.ops.fixed_quantize import FixedGradientQuantizer, FixedQuantize, FixedUpper
from toolkit.ops.quantized_conv import QuantizedConv
from toolkit.ops.reshape import Reshape
from toolkit.quant.method import WHERE, Context, Method, method, parse_options, rebuild
from toolkit.train.stored_rule import StoredRule

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
        activations: dict[str, tuple[str, str]] = {}
        weights: dict[str, tuple[str, str]] = {}

        def quantized(builder: GraphBuilder, node: Node) -> bool:
            if node.name not in layers:
                return False
            x, w = node.inputs[0], node.inputs[1]
            assert x is not None and w is not None
            if x not in activations:
                made = builder.apply(FixedQuantize(self.bits), x, name=f"{node.name}.quantize")
                activations[x] = (made[0], made[1])
            if w not in weights:
                weights[w] = self._weights(builder, graph, node, layers, context)
            self._layer(builder, node, activations[x], weights[w])
            return True

        return rebuild(graph, quantized)

    def _weights(
        self, builder: GraphBuilder, graph: Graph, node: Node, layers: frozenset[str], context: Context
    ) -> tuple[str, str]:
        """Mantissas and scale of a layer's weights; those that another node reads too keep a float32 master."""
        w = node.inputs[1]
        assert w is not None
        name = f"{node.name}.weights"
        elsewhere = any(reader.name not in layers for reader in graph.readers(w))
        if self.master == "float32" or w not in context.trained or elsewhere:
            mantissas, scale = builder.apply(FixedQuantize(self.bits, draws=False), w, name=name)
            return mantissas, scale
        format = fixed_format_for(graph.data[w])
        store_parameter(builder, w, StoredRule(format))
        step = format.step * (256 if self.bits == 8 else 1)
        scale = builder.constant(f"{name}.scale", np.array(step, np.float32))
        return (builder.apply(FixedUpper(), w, name=name)[0] if self.bits == 8 else w), scale

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
        assert isinstance(node.op, Dense)
        rows, inputs = builder.type(x[0]).shape
        outputs = builder.type(w[0]).shape[1]
        image = builder.apply(Reshape((rows, 1, 1, inputs)), x[0], name=f"{node.name}.image")[0]
        taps = builder.apply(Reshape((1, 1, inputs, outputs)), w[0], name=f"{node.name}.taps")[0]
        dense = QuantizedConv((1, 1), (1, 1), (0, 0), (0, 0), gradient_quantizer=quantizer, **limits)
        y = builder.apply(dense, image, taps, x[1], w[1], *bias, name=node.name)[0]
        builder.apply(Reshape((rows, outputs)), y, name=f"{node.name}.rows", outputs=node.outputs)


def store_parameter(builder: GraphBuilder, parameter: str, rule: StoredRule) -> None:
    """Keeps a float32 parameter in 16 bits, by its rule."""
    stored = rule.format.nearest(builder.data[parameter])
    tensor = builder.tensors[parameter]
    builder.data[parameter] = stored
    builder.tensors[parameter] = replace(tensor, type=TensorType(tensor.type.shape, str(stored.dtype)))
    builder.rules[parameter] = rule
