"""Layers of the zoo's models: each adds ONNX nodes and keeps count of shapes."""

from __future__ import annotations

from math import prod, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import UserError
from toolkit.ir import Array

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

OPSET = 17
IR_VERSION = 10  # what runtimes of today can read; the onnx package would write its newest
Pads = tuple[int, int]


class Layers:
    """A model in the making. The current tensor is `value`, of shape `shape` (without the batch).

    Weights are drawn in the order in which layers are added: He-normal for weights, uniform in 1/sqrt(fan-in) for
    biases. Nodes are named /conv1, /relu1, ...; their initializers conv1.weight, conv1.bias, ...
    """

    def __init__(self, name: str, shape: tuple[int, ...], seed: int) -> None:
        self.name = name
        self.shape = shape
        self.value = "input"
        self._input_shape = shape
        self._random = np.random.default_rng(seed)
        self._nodes: list[NodeProto] = []
        self._initializers: list[TensorProto] = []
        self._counts: dict[str, int] = {}

    def conv(
        self,
        channels: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: str = "same",
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        """A convolution with `channels` outputs.

        Args:
            padding: "same" (output = input / stride rounded up, the odd row below and right, as TensorFlow has it) or
                "valid".
        """
        kernel_shape = (kernel, kernel) if isinstance(kernel, int) else kernel
        self._needs_image("conv")
        pads = [self._same_padding(axis, kernel_shape[axis], stride) for axis in range(2)]
        if padding == "valid":
            pads = [(0, 0), (0, 0)]
        depth, *image = self.shape
        inputs = (depth // groups) * prod(kernel_shape)
        name = self._name("conv")
        weights = [self._he(f"{name}.weight", (channels, depth // groups, *kernel_shape), inputs)]
        if bias:
            weights.append(self._bias(f"{name}.bias", channels, inputs))
        self._add(
            "Conv", name, *weights,
            kernel_shape=kernel_shape, strides=(stride, stride), group=groups,
            pads=(pads[0][0], pads[1][0], pads[0][1], pads[1][1]),
        )
        sizes = [(n + sum(pad) - k) // stride + 1 for n, pad, k in zip(image, pads, kernel_shape, strict=True)]
        self._set_shape((channels, *sizes), "conv")

    def batch_norm(self) -> None:
        """Normalisation per channel, with statistics as a trained model has them (neither 0 nor 1)."""
        name, channels = self._name("bn"), self.shape[0]
        self._add(
            "BatchNormalization", name,
            self._uniform(f"{name}.weight", channels, 0.8, 1.2), self._uniform(f"{name}.bias", channels, -0.1, 0.1),
            self._uniform(f"{name}.running_mean", channels, -0.2, 0.2),
            self._uniform(f"{name}.running_var", channels, 0.5, 1.5),
            epsilon=1e-5, momentum=0.9,
        )

    def relu(self) -> None:
        """max(x, 0)."""
        self._add("Relu", self._name("relu"))

    def relu6(self) -> None:
        """min(max(x, 0), 6), as PyTorch exports it: a Clip."""
        name = self._name("relu")
        bounds = [self._constant(f"{name}.{what}", value) for what, value in (("min", 0.0), ("max", 6.0))]
        self._add("Clip", name, *bounds)

    def hard_swish(self) -> None:
        """x * min(max(x / 6 + 1/2, 0), 1)."""
        self._add("HardSwish", self._name("act"))

    def hard_sigmoid(self) -> None:
        """min(max(x / 6 + 1/2, 0), 1)."""
        self._add("HardSigmoid", self._name("gate"), alpha=1 / 6, beta=0.5)

    def squeeze_excite(self, channels: int) -> None:
        """Each channel times a factor, computed from the means of all channels through `channels` hidden ones."""
        entry, shape = self.value, self.shape
        self._add("GlobalAveragePool", self._name("pool"))
        self.shape = (shape[0], 1, 1)
        self.conv(channels, 1)
        self.relu()
        self.conv(shape[0], 1)
        self.hard_sigmoid()
        self._add("Mul", self._name("scale"), entry)
        self.shape = shape

    def max_pool(self, size: int = 2) -> None:
        """The largest of each size x size square."""
        self._needs_image("pool")
        self._add("MaxPool", self._name("pool"), kernel_shape=(size, size), strides=(size, size))
        depth, *image = self.shape
        self._set_shape((depth, *(n // size for n in image)), "pool")

    def average_pool(self, size: int = 2) -> None:
        """The mean of each size x size square; what is left at the border counts as a smaller one."""
        self._needs_image("pool")
        self._add("AveragePool", self._name("pool"), kernel_shape=(size, size), strides=(size, size), ceil_mode=1)
        depth, *image = self.shape
        self._set_shape((depth, *(-(-n // size) for n in image)), "pool")

    def global_average_pool(self) -> None:
        """The mean of each channel; leaves a vector."""
        self._needs_image("pool")
        self._add("GlobalAveragePool", self._name("pool"))
        self.shape = (self.shape[0], 1, 1)
        self.flatten()

    def flatten(self) -> None:
        """All axes of a sample become one."""
        self._add("Flatten", self._name("flatten"), axis=1)
        self.shape = (prod(self.shape),)

    def dense(self, units: int, bias: bool = True) -> None:
        """A fully connected layer; weights are stored [units][inputs], as PyTorch exports them."""
        (inputs,) = self.shape
        name = self._name("fc")
        parameters = [self._he(f"{name}.weight", (units, inputs), inputs)]
        if bias:
            parameters.append(self._bias(f"{name}.bias", units, inputs))
        self._add("Gemm", name, *parameters, transB=1)
        self.shape = (units,)

    def add(self, other: str) -> None:
        """Adds another tensor of the same shape to the current one."""
        self._add("Add", self._name("add"), other)

    def finish(self) -> ModelProto:
        """The model, checked."""
        import onnx
        from onnx import TensorProto, helper

        self._nodes[-1].output[0] = "output"
        graph = helper.make_graph(
            self._nodes,
            self.name,
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", *self._input_shape])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", *self.shape])],
            self._initializers,
        )
        model = helper.make_model(
            graph, producer_name="edgetrain", ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
        )
        onnx.checker.check_model(model)
        return model

    def _add(self, op_type: str, name: str, *inputs: str, **attributes: Any) -> None:
        from onnx import helper

        output = f"{name}.out"
        node = helper.make_node(op_type, [self.value, *inputs], [output], name=f"/{name}", **attributes)
        self._nodes.append(node)
        self.value = output

    def _name(self, kind: str) -> str:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return f"{kind}{self._counts[kind]}"

    def _initializer(self, name: str, value: Array) -> str:
        from onnx import numpy_helper

        self._initializers.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def _constant(self, name: str, value: float) -> str:
        from onnx import helper

        self._nodes.append(helper.make_node("Constant", [], [name], name=f"/{name}", value_float=value))
        return name

    def _he(self, name: str, shape: tuple[int, ...], inputs: int) -> str:
        return self._initializer(name, self._random.standard_normal(shape) * sqrt(2 / inputs))

    def _bias(self, name: str, count: int, inputs: int) -> str:
        return self._uniform(name, count, -1 / sqrt(inputs), 1 / sqrt(inputs))

    def _uniform(self, name: str, count: int, low: float, high: float) -> str:
        return self._initializer(name, self._random.uniform(low, high, count))

    def _same_padding(self, axis: int, kernel: int, stride: int) -> Pads:
        size = self.shape[1 + axis]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2

    def _needs_image(self, layer: str) -> None:
        assert len(self.shape) == 3, (layer, self.shape)

    def _set_shape(self, shape: tuple[int, ...], layer: str) -> None:
        if min(shape) < 1:
            size = "x".join(map(str, self._input_shape))
            raise UserError(f"samples of {size} are too small for {self.name}: nothing is left after a {layer} layer")
        self.shape = shape
