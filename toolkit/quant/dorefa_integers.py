"""What lies between the layers of DoReFa-Net on integers too: dorefa with master=int16.

Not a method: the part of dorefa for cores without floating point. Layers have weights of one bit, the signs of int16
masters, and codes of activations and gradients; exact sums go through batch normalization, ReLU and max pooling on
integers to the next layer's codes (toolkit.ops.fixed_unit), and gradients back the same way. The first and the last
layer are those of fixed8, unless all layers are quantized.
"""

from __future__ import annotations

import numpy as np

from toolkit.errors import UserError
from toolkit.ir import Graph, Node
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.conv import Conv
from toolkit.ops.dorefa_activations import DorefaActivations, levels
from toolkit.ops.dorefa_gradient import DorefaTensorGradientQuantizer
from toolkit.ops.dorefa_weights import DorefaSigns
from toolkit.ops.fixed_conv import FixedConvolution
from toolkit.ops.fixed_sign_conv import FixedSignConv
from toolkit.ops.fixed_signs import FixedSigns
from toolkit.ops.fixed_unit import FixedUnit
from toolkit.quant.fixed import FixedRewriting
from toolkit.quant.fixed_units import Unit, is_integer
from toolkit.quant.method import WHERE, Context, is_layer


class DorefaOnIntegers(FixedRewriting):
    """One pass over a graph.

    Args:
        activations, gradients: bits, 1 to 7.
        all_layers: the first and the last layer too.
    """

    def __init__(
        self,
        activations: int,
        gradients: int,
        all_layers: bool,
        graph: Graph,
        layers: frozenset[str],
        context: Context,
    ) -> None:
        super().__init__(8, "int16", graph, layers, context)
        self.activation_bits, self.gradient_bits = activations, gradients
        names = [node.name for node in graph.nodes if is_layer(node)]
        self.signed = layers - (set() if all_layers else {names[0], names[-1]})
        other = [node.name for node in graph.nodes if node.name in self.signed and not is_integer(graph, node)]
        if other:
            raise UserError(
                f"master=int16 needs layers of one group, without dilation and with weights of their own, unlike "
                f"{', '.join(other)}",
                where=f"{WHERE} dorefa",
                hint="leave these to another method through a TOML file, or take master=float32",
            )

    def input(self, builder: GraphBuilder, node: Node) -> tuple[str, str]:
        x = node.inputs[0]
        assert x is not None
        if node.name not in self.signed or x in self.codes:
            return super().input(builder, node)
        codes = builder.apply(DorefaActivations(self.activation_bits), x, name=f"{node.name}.quantize")[0]
        unit = np.array(np.float32(1) / np.float32(levels(self.activation_bits)))
        return codes, builder.constant(f"{node.name}.x_scale", unit)

    def weights(self, builder: GraphBuilder, node: Node) -> tuple[str, str]:
        w = node.inputs[1]
        assert w is not None
        if node.name not in self.signed:
            return super().weights(builder, node)
        op = FixedSigns(self.store(builder, w).exponent) if self.is_stored(w) else DorefaSigns()
        signs, scale = builder.apply(op, w, name=f"{node.name}.weights")
        return signs, scale

    def as_image(self, builder: GraphBuilder, node: Node, x: str, w: str) -> tuple[str, str, tuple[int, int]]:
        if node.name not in self.signed:
            return super().as_image(builder, node, x, w)
        return self.rows_as_image(builder, node, x), w, (builder.type(x).shape[0], builder.type(w).shape[0])

    def convolution(self, node: Node, conv: Conv) -> FixedConvolution:
        if node.name not in self.signed:
            return super().convolution(node, conv)
        shape = self.graph.type(node.inputs[1] or "").shape
        geometry = (conv.strides, conv.dilations, conv.before, conv.after)
        quantizer = DorefaTensorGradientQuantizer(self.gradient_bits)
        kernel, largest = shape[:-2] or (1, 1), levels(self.activation_bits)
        return FixedSignConv(
            *geometry, kernel=kernel, channels=shape[-2], largest=largest, gradient_quantizer=quantizer, unsigned=True
        )

    def unit(self, node: Node, unit: Unit) -> FixedUnit:
        reads_codes = any(reader.name in self.signed for reader in self.graph.readers(unit.output))
        return FixedUnit(
            unit.relu,
            unit.window,
            levels=levels(self.activation_bits) if reads_codes else 0,
            gradient_levels=levels(self.gradient_bits) if node.name in self.signed else 0,
        )
