"""A layer whose weights are -limit and +limit, as nodes; RealConv and CodedSignConv, which are one while they train.

    y = limit * (convolution of x with packed signs) + bias

With a limit of 1 the bias goes into the convolution. Otherwise the sums are scaled once for each output, and the bias
is added after that: the convolution itself never multiplies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from toolkit.ops.add import Add
from toolkit.ops.base import op
from toolkit.ops.binarize_weights import StochasticBinarizeWeights
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.contexts import Training
from toolkit.ops.conv import Conv, Convolution, Shape
from toolkit.ops.quantized_conv import QuantizedConv
from toolkit.ops.scale import Scale
from toolkit.ops.sign_conv import SignConv


def add_sign_layer(
    builder: GraphBuilder,
    convolution: Convolution,
    shape: Shape,
    limit: float,
    x: str,
    bits: str,
    bias: str | None,
    name: str,
    outputs: tuple[str, ...] = (),
) -> str:
    """Adds the nodes and gives the output, float32 [N, spatial..., OC].

    Args:
        convolution: its strides, dilations, padding and groups.
        shape: of the weights, [taps..., IC / groups, OC].
        x: float32 [N, spatial..., IC].
        bits: packed signs of the weights.
        bias: [OC].
        name, outputs: of the last node.
    """
    attributes = (
        convolution.strides, convolution.dilations, convolution.before, convolution.after, convolution.groups,
    )  # fmt: skip
    inside = () if bias is None or limit != 1 else (bias,)
    scaled = limit != 1
    named: dict[str, Any] = {"name": f"{name}.sums"} if scaled else {"name": name, "outputs": outputs}
    y = builder.apply(SignConv(*attributes, shape[:-2], shape[-2]), x, bits, *inside, **named)[0]
    if scaled:
        last = bias is None
        y = builder.apply(Scale(limit), y, name=name if last else f"{name}.scaled", outputs=outputs if last else ())[0]
        if bias is not None:
            y = builder.apply(Add(), y, bias, name=name, outputs=outputs)[0]
    return y


def add_coded_sign_layer(
    builder: GraphBuilder,
    convolution: Convolution,
    shape: Shape,
    limit: float,
    x: tuple[str, str],
    bits: str,
    bias: str | None,
    name: str,
    outputs: tuple[str, ...] = (),
) -> str:
    """The same on int8 codes: exact sums, scaled once. Arguments as for `add_sign_layer`.

    Args:
        x: codes and their scale.
    """
    layer = CodedSignConv(
        convolution.strides, convolution.dilations, convolution.before, convolution.after, convolution.groups,
        shape[:-2], shape[-2], largest_w=1,
    )  # fmt: skip
    magnitude = builder.constant(f"{name}.magnitude", np.array(limit, np.float32))
    inputs = (x[0], bits, x[1], magnitude) if bias is None else (x[0], bits, x[1], magnitude, bias)
    return builder.apply(layer, *inputs, name=name, outputs=outputs)[0]


@op
@dataclass(frozen=True)
class CodedSignConv(QuantizedConv):
    """QuantizedConv of codes and packed signs in inference; in training, the sign layer on what the codes stand for."""

    def for_training(self, training: Training) -> tuple[str, ...] | None:
        node, builder = training.node, training.builder
        codes, bits, _, magnitude, bias = (*node.inputs, None)[:5]
        quantizer = next(each for each in builder.nodes if codes in each.outputs)
        x = quantizer.inputs[0]
        assert x is not None and bits is not None and magnitude is not None
        limit = float(builder.data[magnitude])
        shape = self.weight_shape(builder.type(bits))
        return (add_sign_layer(builder, self, shape, limit, x, bits, bias, node.name, node.outputs),)


@op
@dataclass(frozen=True)
class RealConv(Conv):
    """Conv in inference; in training, weights of magnitude `limit` are drawn (BinaryConnect tested with real weights).

    Attributes:
        limit: the real weights lie in [-limit, limit].
    """

    limit: float = 1.0

    onnx = ()  # type: ignore[assignment]

    def for_training(self, training: Training) -> tuple[str, ...] | None:
        node, builder = training.node, training.builder
        x, w, bias = (*node.inputs, None)[:3]
        assert x is not None and w is not None
        stream = crc32(f"{node.name}.signs".encode())
        seed, step = (builder.runtime(name, "uint32") for name in ("seed", "step"))
        draw = StochasticBinarizeWeights(self.limit, None, self.groups, stream)
        bits = builder.apply(draw, w, seed, step, name=f"{node.name}.signs")[0]
        shape = builder.type(w).shape
        return (add_sign_layer(builder, self, shape, self.limit, x, bits, bias, node.name, node.outputs),)
