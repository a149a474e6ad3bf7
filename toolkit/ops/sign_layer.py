"""A layer whose weights are -limit and +limit, as nodes; and RealConv, which is one only while it trains.

    y = limit * (convolution of x with packed signs) + bias

With a limit of 1 the bias goes into the convolution. Otherwise the sums are scaled once for each output, and the bias
is added after that: the convolution itself never multiplies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from zlib import crc32

from toolkit.ops.add import Add
from toolkit.ops.base import op
from toolkit.ops.binarize_weights import StochasticBinarizeWeights
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.contexts import Training
from toolkit.ops.conv import Conv, Convolution, Shape
from toolkit.ops.scale import Scale
from toolkit.ops.unpack_weight_signs import UnpackWeightSigns


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
    weights = builder.apply(UnpackWeightSigns(shape[:-2], shape[-2]), bits, name=f"{name}.weights")[0]
    inside = () if bias is None or limit != 1 else (bias,)
    scaled = limit != 1
    named: dict[str, Any] = {"name": f"{name}.sums"} if scaled else {"name": name, "outputs": outputs}
    y = builder.apply(Conv(*attributes), x, weights, *inside, **named)[0]
    if scaled:
        last = bias is None
        y = builder.apply(Scale(limit), y, name=name if last else f"{name}.scaled", outputs=outputs if last else ())[0]
        if bias is not None:
            y = builder.apply(Add(), y, bias, name=name, outputs=outputs)[0]
    return y


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
        draw = StochasticBinarizeWeights(self.limit, None, stream)
        bits = builder.apply(draw, w, seed, step, name=f"{node.name}.signs")[0]
        shape = builder.type(w).shape
        return (add_sign_layer(builder, self, shape, self.limit, x, bits, bias, node.name, node.outputs),)
