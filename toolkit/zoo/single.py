"""Models of one convolution or dense layer, of any stride, dilation, group and padding: for measuring kernels."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto

Pair = tuple[int, int]


@dataclass(frozen=True)
class LayerShape:
    """A convolution; a dense layer is one of kernel 1 on an image of one pixel.

    Attributes:
        pads: top, left, bottom, right.
    """

    channels: int
    image: Pair
    outputs: int
    kernel: Pair = (3, 3)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    groups: int = 1
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)

    @property
    def kind(self) -> str:
        """What a reader would call it."""
        if self.image == (1, 1):
            return "dense"
        if self.groups == self.channels == self.outputs and self.groups > 1:
            return "depthwise"
        return "pointwise" if self.kernel == (1, 1) else "grouped" if self.groups > 1 else "conv"

    @property
    def text(self) -> str:
        """The shape in one line, leaving out what is as usual."""
        parts = [f"{self.image[0]}x{self.image[1]}x{self.channels} -> {self.outputs}"]
        if self.kind == "dense":
            return f"{self.channels} -> {self.outputs}"
        parts.append(f"kernel {self.kernel[0]}x{self.kernel[1]}")
        if self.stride != (1, 1):
            parts.append(f"stride {self.stride[0]}x{self.stride[1]}")
        if self.dilation != (1, 1):
            parts.append(f"dilation {self.dilation[0]}x{self.dilation[1]}")
        if self.groups > 1 and self.kind != "depthwise":
            parts.append(f"groups {self.groups}")
        if any(self.pads):
            parts.append(f"pads {','.join(map(str, self.pads))}")
        return ", ".join(parts)


def single_layer(shape: LayerShape, followed: bool = False) -> ModelProto:
    """input + offset -> layer -> output; training the offset asks for the gradient of the layer's input.

    Args:
        followed: by a layer of one channel that reads nothing else, so that a quantized layer gives codes.
    """
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    inputs = shape.channels // shape.groups * shape.kernel[0] * shape.kernel[1]
    dense = shape.kind == "dense"
    weight_shape = (shape.outputs, shape.channels) if dense else (
        shape.outputs, shape.channels // shape.groups, *shape.kernel
    )  # fmt: skip
    constants = {
        "offset": np.zeros((shape.channels,) if dense else (shape.channels, 1, 1)),
        "weight": random.standard_normal(weight_shape) * sqrt(2 / inputs),
        "bias": random.uniform(-1, 1, shape.outputs),
    }
    if dense:
        layer = helper.make_node("Gemm", ["shifted", "weight", "bias"], ["output"], name="/layer", transB=1)
        image: tuple[int, ...] = ()
    else:
        layer = helper.make_node(
            "Conv", ["shifted", "weight", "bias"], ["output"], name="/layer", kernel_shape=shape.kernel,
            strides=shape.stride, dilations=shape.dilation, group=shape.groups, pads=shape.pads,
        )  # fmt: skip
        image = tuple(
            (shape.image[a] + shape.pads[a] + shape.pads[a + 2] - (shape.kernel[a] - 1) * shape.dilation[a] - 1)
            // shape.stride[a] + 1
            for a in range(2)
        )  # fmt: skip
    nodes, outputs = [layer], shape.outputs
    if followed:
        layer.output[0] = "middle"
        constants["next"] = np.ones((1, shape.outputs) if dense else (1, shape.outputs, 1, 1))
        kind, outputs = "Gemm" if dense else "Conv", 1
        attributes = {"transB": 1} if dense else {"kernel_shape": (1, 1)}
        nodes.append(helper.make_node(kind, ["middle", "next"], ["output"], name="/next", **attributes))
    source = ["N", shape.channels, *(() if dense else shape.image)]
    graph = helper.make_graph(
        [helper.make_node("Add", ["input", "offset"], ["shifted"], name="/offset"), *nodes],
        "single",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, source)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", outputs, *image])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
