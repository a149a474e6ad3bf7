"""Dropout: nothing in inference; in training, elements vanish with probability `ratio` and the others are scaled up.

The mask is a function of (seed, step, stream, index) (numerics N5): the backward pass makes it again, nothing is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import random_unit
from toolkit.ops.base import Op, Run, UnsupportedError, op, require
from toolkit.ops.contexts import Backward, Import, Lowering, Training
from toolkit.ops.elementwise import import_elementwise, same_type


@op
@dataclass(frozen=True)
class Dropout(Op):
    """y = x. What stands in a model outside of training.

    Attributes:
        ratio: the probability, in [0, 1), with which a training step drops an element.
    """

    ratio: float = 0.5

    onnx = ("Dropout",)
    smooth = True

    def infer(self, x: TensorType) -> TensorType:
        return same_type(x)

    def reference(self, run: Run, x: Array) -> Array:
        return x

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (dy,)

    def lower(self, to: Lowering) -> None:
        to.alias()

    def for_training(self, training: Training) -> tuple[str, ...] | None:
        if self.ratio == 0:
            return None
        stream = crc32(training.node.name.encode())
        seed, step = (training.builder.runtime(name, "uint32") for name in ("seed", "step"))
        return training.apply(DropoutTraining(self.ratio, stream), training.node.inputs[0], seed, step)

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        """An attribute before opset 12, an input from then on; `training_mode` is up to us, not to the file."""
        if node.output_used(1):
            raise UnsupportedError("the mask of Dropout is read by another node")
        ratio = node.attribute("ratio", 0.5)
        if node.opset >= 12 and node.has(1):
            ratio = node.value(1, "the ratio of Dropout").item()
        if not 0 <= ratio < 1:
            raise UnsupportedError(f"a Dropout ratio of {ratio:g}")
        return import_elementwise(node, cls(float(ratio)))


@op
@dataclass(frozen=True)
class DropoutTraining(Op):
    """y[i] = x[i] * (float32) (1 / (1 - ratio)) where random_unit(seed, step, stream, i) >= (float32) ratio, else 0.

    Its gradient is itself. Inputs: x float32 of any shape; seed, step uint32 scalars.

    Attributes:
        stream: tells the nodes of a model apart.
    """

    ratio: float
    stream: int

    def infer(self, x: TensorType, seed: TensorType, step: TensorType) -> TensorType:
        require(seed == step == TensorType((), "uint32"), "seed and step are uint32 scalars")
        return same_type(x)

    def reference(self, run: Run, x: Array, seed: Array, step: Array) -> Array:
        index = np.arange(x.size).reshape(x.shape)
        keep = random_unit(int(seed), int(step), self.stream, index) >= np.float32(self.ratio)
        return np.where(keep, x * np.float32(1 / (1 - self.ratio)), np.float32(0))

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (back.apply(self, dy, back.input(1), back.input(2)), None, None)

    def lower(self, to: Lowering) -> None:
        to.call(
            "et_dropout_f32",
            to.size(to.input_type(0).size),
            to.real(self.ratio),
            to.real(1 / (1 - self.ratio)),
            to.read(1),
            to.read(2),
            to.constant(f"{self.stream}u", "uint32_t"),
            to.read(0),
            to.write(0, in_place=(0,)),
        )
