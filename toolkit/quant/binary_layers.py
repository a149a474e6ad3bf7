"""What A&B BNN puts in place of one layer: its parameters, and the chain of nodes from the input to the output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod, sqrt

import numpy as np

from toolkit.errors import UserError
from toolkit.ir import Array, Graph, Node
from toolkit.ops.base import Op
from toolkit.ops.binarize_activations import BinarizeActivations, UnpackSigns
from toolkit.ops.binary_conv import LARGEST_SUM, BinaryConv
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.conv import Conv, Shape
from toolkit.ops.dense import Dense
from toolkit.ops.mul import Mul
from toolkit.ops.nearest_power_of_two import NearestPowerOfTwo
from toolkit.ops.reshape import Reshape
from toolkit.ops.scale import Scale
from toolkit.ops.standardize_weights import BinarizeStandardized, StandardizeWeights, standardized
from toolkit.ops.to_real import ToReal
from toolkit.ops.unpack_weight_signs import UnpackWeightSigns
from toolkit.quant.blocks import Block, weight_shape
from toolkit.quant.method import WHERE, Context

SPREAD = 1.7  # of weights, times the square root of the fan-in: makes up for what signs and slopes take away
Step = tuple[Op, tuple[str, ...], str]


@dataclass
class BinaryLayer:
    """One layer while it is rewritten.

    Parameters are named after the layer: /conv1.b0, .b1, .b2, .L and .gain. They start from what an earlier training
    left (Context.saved), else from the values given here.

    Attributes:
        shares_weight: whether something that is not binarized reads the weight too.
        steps: (op, further inputs, what it is) of the chain so far; each op's input 0 is the output of the one before.
    """

    builder: GraphBuilder
    graph: Graph
    block: Block
    context: Context
    strict: bool
    step: int
    shares_weight: bool
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.node: Node = self.block.layer
        self.name = self.node.name
        weight = self.node.inputs[1]
        assert weight is not None
        self.weight = weight
        self.trained = weight in self.context.trained
        self.shape = weight_shape(self.graph, self.node)
        self.bias = self.node.inputs[2] if len(self.node.inputs) > 2 else None
        self.norm = self.block.norm
        self.shift_trained = self.trained or any(name in self.context.trained for name in self._shifts())
        gain, self.first_shift = self._folded()
        if self.saved("gain") is None and not self.shares_weight:
            self.builder.data[weight] = self._start(self.graph.data[weight], np.sign(gain) + (gain == 0))
            gain = np.abs(gain)
        self.gain = self.vector("gain", gain)

    def saved(self, what: str) -> Array | None:
        """The value that an earlier training left."""
        return self.context.saved.get(f"{self.name}.{what}")

    def vector(self, what: str, first: Array | float, is_shift: bool = False) -> str:
        """A new parameter with one element per channel, trained where the layer is.

        Raises:
            UserError: what was saved is of another shape.
        """
        channels = self.shape[-2] if what == "b0" else self.shape[-1]
        value = np.asarray(np.broadcast_to(np.float32(first), (channels,)), np.float32)
        saved = self.saved(what)
        if saved is not None:
            if saved.shape != value.shape:
                raise UserError(
                    f"the model keeps {list(saved.shape)} values of {self.name}.{what}; the layer has {channels}",
                    where=WHERE,
                )
            value = np.asarray(saved, np.float32)
        name = self.builder.parameter(f"{self.name}.{what}", value)
        if self.trained or (is_shift and self.shift_trained):
            self.context.trained.add(name)
        return name

    def with_shift_of(self, projection: BinaryLayer) -> Array | None:
        """What this layer and the projection on its shortcut add together; None where neither adds anything."""
        self.shift_trained |= projection.shift_trained
        if self.first_shift is None or projection.first_shift is None:
            return projection.first_shift if self.first_shift is None else self.first_shift
        return np.asarray(self.first_shift + projection.first_shift)

    def then(self, op: Op, *inputs: str, what: str) -> None:
        """Continues the chain."""
        self.steps.append((op, inputs, what))

    def finish(self, x: str) -> None:
        """Adds the nodes; the last one writes what the block wrote."""
        value = x
        for position, (op, inputs, what) in enumerate(self.steps):
            outputs = (self.block.output,) if position == len(self.steps) - 1 else ()
            name = self.name if what == "layer" else f"{self.name}.{what}"
            value = self.builder.apply(op, value, *inputs, name=name, outputs=outputs)[0]

    def binary(self, alpha: float, beta: float) -> None:
        """The chain of a layer that reads signs, up to its scaled sums."""
        shift = self.vector("b0", 0.0)
        batch = self.graph.type(self.node.outputs[0]).shape[0]
        dense = isinstance(self._op, Dense)
        if dense and self.step == 2:
            self.then(Reshape((batch, 1, 1, self.shape[0])), what="image")
        self.then(BinarizeActivations(beta), shift, what="signs")
        if self.step == 1:
            self.then(UnpackSigns(self.shape[-2]), what="unpacked")
            self.then(self._op, self._real_weights(alpha), what="layer")
            return
        count = prod(self.shape[:-1])
        if count > LARGEST_SUM:
            what = f"{self.name} sums {count} signs; {LARGEST_SUM} is the most for binary layers"
            raise UserError(what, where=WHERE, hint=f'leave it out: "{self.name}" = "none" in a .toml file')
        signs, scale = self._binary_weights(alpha)
        self.then(BinaryConv(*self._window(), kernel=self._kernel(), channels=self.shape[-2]), signs, what="layer")
        self.then(ToReal(), what="sums")
        if dense:
            self.then(Reshape((batch, self.shape[-1])), what="row")
        self.then(Mul(), scale, what="scaled")

    def project(self, keep_bias: bool = False) -> None:
        """The chain of a layer that reads real values."""
        if self.step == 1:
            bias = [self.bias] if keep_bias and self.bias is not None else []
            self.then(self._op, self._real_weights(1.0), *bias, what="layer")
            return
        signs, scale = self._binary_weights(1.0)
        values = UnpackWeightSigns(self.shape[:-2], self.shape[-2])
        self.then(self._op, self._apply("sign_values", values, signs), what="layer")
        self.then(Mul(), scale, what="scaled")

    def _real_weights(self, alpha: float) -> str:
        """ws * (gain * factor)."""
        factor = self._apply("factor", Scale(self._factor(alpha)), self.gain)
        return self._apply("weights", Mul(), self._apply("standardized", StandardizeWeights(), self.weight), factor)

    def _binary_weights(self, alpha: float) -> tuple[str, str]:
        """Packed signs, and the scale of each output channel: gain * (magnitude * factor)."""
        signs, magnitude = self.builder.apply(BinarizeStandardized(), self.weight, name=f"{self.name}.weights")
        factor = self._apply("magnitude", Scale(self._factor(alpha)), magnitude)
        scale = self._apply("scale", Mul(), self.gain, factor)
        return signs, self._apply("power", NearestPowerOfTwo(), scale) if self.strict else scale

    def _apply(self, what: str, op: Op, *inputs: str) -> str:
        return self.builder.apply(op, *inputs, name=f"{self.name}.{what}")[0]

    def _factor(self, alpha: float) -> float:
        return alpha * SPREAD / sqrt(prod(self.shape[:-1]))

    @property
    def _op(self) -> Conv | Dense:
        assert isinstance(self.node.op, Conv | Dense)
        return self.node.op

    def _kernel(self) -> Shape:
        return self.shape[:-2] or (1, 1)

    def _window(self) -> tuple[Shape, Shape, Shape, Shape]:
        """strides, dilations, before, after."""
        op = self._op
        if isinstance(op, Conv):
            return op.strides, op.dilations, op.before, op.after
        return (1, 1), (1, 1), (0, 0), (0, 0)

    def _shifts(self) -> Sequence[str]:
        names = (self.bias, self.norm.inputs[2] if self.norm is not None else None)
        return [name for name in names if name is not None]

    def _folded(self) -> tuple[Array, Array | None]:
        """First gain [OC], and what the layer and its normalization add; None where nothing does."""
        data = self.graph.data
        if self.norm is not None:
            gamma, beta = (data[name or ""] for name in self.norm.inputs[1:3])
            return gamma, beta
        return np.ones(self.shape[-1], np.float32), None if self.bias is None else data[self.bias]

    def _start(self, weight: Array, signs: Array) -> Array:
        """The weights standardised, so that the first learning rate means the same to every layer."""
        return (standardized(weight, self.context.fma)[0].reshape(weight.shape) * signs).astype(np.float32)
