"""A model file as PyTorch runs it: eager, float32, on the CPU, in PyTorch's own layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np

from toolkit.frontend.outline import Outline, OutlineNode
from toolkit.ir import Array

Form = Callable[..., Any]


class NoFormError(Exception):
    """The model has an operator that is not spelled here."""


class TorchModel:
    """Forward pass and training step of a model with one input and one output.

    Attributes:
        weights: name in the file -> leaf tensor.

    Raises:
        ImportError: PyTorch is not installed.
        NoFormError: see there.
    """

    def __init__(self, outline: Outline, threads: int) -> None:
        self.torch: Any = import_module("torch")
        self.torch.set_num_threads(threads)
        self.version = str(self.torch.__version__)
        self.weights = {name: self.torch.tensor(np.array(value)) for name, value in outline.weights.items()}
        for weight in self.weights.values():
            weight.requires_grad_(weight.is_floating_point())
        self._input, self._output = outline.inputs[0], outline.outputs[0]
        self._steps = [self._step(node) for node in outline.nodes]

    def _step(self, node: OutlineNode) -> tuple[Form, tuple[str, ...], str]:
        if node.op not in _FORMS:
            raise NoFormError(f"{node.op} is not spelled for PyTorch here")
        return _FORMS[node.op](self.torch, node.attributes), tuple(filter(None, node.inputs)), node.outputs[0]

    def forward(self, x: Any) -> Any:
        """What the model says of a tensor."""
        values = {**self.weights, self._input: x}
        for function, inputs, output in self._steps:
            values[output] = function(*[values[name] for name in inputs])
        return values[self._output]

    def inference(self, x: Array) -> Callable[[], Any]:
        """One inference without what gradients would need."""
        given, mode, forward = self.torch.from_numpy(x), self.torch.inference_mode, self.forward

        def run() -> Any:
            with mode():
                return forward(given)

        return run

    def training(self, x: Array, label: Array, learning_rate: float, loss: str) -> Callable[[], Any]:
        """One step of plain gradient descent on all weights: zero_grad, forward, loss, backward, step; gives the loss.

        Args:
            loss: "cross-entropy" with classes as labels, or "mse".
        """
        functional = self.torch.nn.functional
        given, goal = self.torch.from_numpy(x), self.torch.from_numpy(label)
        if loss == "cross-entropy":
            goal = goal.reshape(-1).long()
        compare = {"cross-entropy": functional.cross_entropy, "mse": functional.mse_loss}[loss]
        optimizer = self.torch.optim.SGD([w for w in self.weights.values() if w.requires_grad], learning_rate)
        forward = self.forward

        def run() -> Any:
            optimizer.zero_grad()
            value = compare(forward(given), goal)
            value.backward()
            optimizer.step()
            return value

        return run


def _conv(torch: Any, attributes: Mapping[str, Any]) -> Form:
    functional = torch.nn.functional
    pads = list(attributes.get("pads", [0, 0, 0, 0]))
    before, after = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    options = {
        "stride": tuple(attributes.get("strides", (1, 1))), "dilation": tuple(attributes.get("dilations", (1, 1))),
        "groups": attributes.get("group", 1),
    }  # fmt: skip
    if before == after:
        return lambda x, *weights: functional.conv2d(x, *weights, padding=tuple(before), **options)
    sides = [before[1], after[1], before[0], after[0]]
    return lambda x, *weights: functional.conv2d(functional.pad(x, sides), *weights, **options)


def _max_pool(torch: Any, attributes: Mapping[str, Any]) -> Form:
    kernel, strides = tuple(attributes["kernel_shape"]), tuple(attributes.get("strides", (1, 1)))
    if any(attributes.get("pads", ())):
        raise NoFormError("MaxPool with padding is not spelled for PyTorch here")
    return lambda x: torch.nn.functional.max_pool2d(x, kernel, strides)


def _gemm(torch: Any, attributes: Mapping[str, Any]) -> Form:
    if attributes.get("transA", 0) or attributes.get("alpha", 1.0) != 1 or attributes.get("beta", 1.0) != 1:
        raise NoFormError("such a Gemm is not spelled for PyTorch here")
    if attributes.get("transB", 0):
        return lambda x, w, *bias: torch.nn.functional.linear(x, w, *bias)
    return lambda x, w, *bias: torch.nn.functional.linear(x, w.t(), *bias)


def _relu(torch: Any, attributes: Mapping[str, Any]) -> Form:
    return lambda x: torch.relu(x)


def _add(torch: Any, attributes: Mapping[str, Any]) -> Form:
    return lambda a, b: a + b


def _flatten(torch: Any, attributes: Mapping[str, Any]) -> Form:
    axis = attributes.get("axis", 1)
    return lambda x: x.flatten(axis)


def _global_average_pool(torch: Any, attributes: Mapping[str, Any]) -> Form:
    return lambda x: x.mean((2, 3), keepdim=True)


# For the operators of the models of the zoo that are timed.
_FORMS: dict[str, Callable[[Any, Mapping[str, Any]], Form]] = {
    "Add": _add,
    "Conv": _conv,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "MaxPool": _max_pool,
    "Relu": _relu,
}
