"""mask: of a tensor that only gradients of activations ask for, they keep what they need of each element, in k bits.

    (by itself)     exact, 1 bit: ReLU, LeakyReLU, ReLU6, Clip, HardSigmoid. No bit of a gradient changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isinf

import numpy as np

from toolkit.ir import Node
from toolkit.ops.activation_mask import ActivationMask, MaskedGradient
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.clip import ClipGrad
from toolkit.ops.hard_sigmoid import HardSigmoidGrad
from toolkit.ops.leaky_relu import LeakyReluGrad
from toolkit.ops.relu import ReluGrad
from toolkit.train.codecs.codec import GradientCodec
from toolkit.train.codecs.saved import Saved, Step


@dataclass(frozen=True)
class Steps:
    """A derivative that is constant between borders.

    Attributes:
        mask: of the tensor that the gradient reads.
        factors: of the codes.
    """

    mask: ActivationMask
    factors: tuple[float, ...]


def _one_border(border: float, below: float) -> Steps:
    return Steps(ActivationMask(1, (border,), (0, 1)), (below, 1.0))


def _inside(low: float, high: float, slope: float) -> Steps:
    """`slope` where low < x <= high, else 0."""
    return Steps(ActivationMask(1, (low, high), (0, 1, 0)), (0.0, slope))


def _below(value: float) -> float:
    """The next float32 below, with +0 for -0."""
    return float(np.nextafter(np.float32(value), np.float32(-np.inf))) + 0.0


def _of_leaky_relu(op: LeakyReluGrad) -> Steps | None:
    return _one_border(0.0, op.alpha) if np.float32(op.alpha) != 0 else None  # 0 * dy has a sign, a mask's 0 has none


def _of_clip(op: ClipGrad) -> Steps | None:
    low, high = np.float32(op.minimum), np.float32(op.maximum)
    if isinf(low) or not low <= high:
        return None  # -infinity is inside then, and NaN is not: one comparison cannot tell them apart
    return _inside(_below(op.minimum), float(high) + 0.0, 1.0)


def _of_hard_sigmoid(op: HardSigmoidGrad) -> Steps | None:
    return _inside(0.0, _below(1.0), op.alpha) if np.float32(op.alpha) != 0 else None


# For the gradients of activations made of straight pieces: what they need of input 1. Input 0 is dy.
_EXACT: dict[type, Callable[..., Steps | None]] = {
    ReluGrad: lambda op: _one_border(0.0, 0.0),
    LeakyReluGrad: _of_leaky_relu,
    ClipGrad: _of_clip,
    HardSigmoidGrad: _of_hard_sigmoid,
}


def exact_steps(reader: Node, views: tuple[str, ...]) -> Steps | None:
    """What a node needs of a tensor, where it is the gradient of an activation made of straight pieces."""
    if type(reader.op) not in _EXACT or reader.inputs[1] not in views or reader.inputs[0] in views:
        return None
    return _EXACT[type(reader.op)](reader.op)


class MaskCodec(GradientCodec):
    """A mask in place of a tensor that all readers need for the same steps."""

    def steps(self, saved: Saved, reader: Node) -> Steps | None:
        """What a reader needs of the tensor; None where it is no gradient that the codec knows."""
        raise NotImplementedError

    def refusal(self, step: Step, saved: Saved) -> str | None:
        if saved.type.dtype != "float32":
            return f"it is {saved.type.dtype}, not float32"
        found: Steps | None = None
        for reader in saved.readers:
            needed = self.steps(saved, reader)
            if needed is None:
                return f"{reader.name} needs more of it than a mask"
            if found is not None and needed.mask != found.mask:
                return f"{saved.readers[0].name} and {reader.name} need different masks"
            found = needed
        return None

    def serves(self, saved: Saved, reader: Node) -> bool:
        return self.steps(saved, reader) is not None

    def keep(self, builder: GraphBuilder, saved: Saved) -> tuple[str, ...]:
        steps = self.steps(saved, saved.readers[0])
        assert steps is not None
        activation = saved.readers[0].name.rpartition(".")[0]
        return builder.apply(steps.mask, saved.name, name=f"{activation}.mask")

    def gradient(self, saved: Saved, kept: tuple[str, ...], reader: Node) -> Node:
        steps = self.steps(saved, reader)
        assert steps is not None
        return replace(reader, op=MaskedGradient(steps.factors), inputs=(reader.inputs[0], *kept))


@dataclass(frozen=True)
class ExactMask(MaskCodec):
    """1 bit an element, the same gradients; used wherever it applies and no pattern says otherwise."""

    keyword = "mask"
    summary = "exact masks of activations made of straight pieces"

    def steps(self, saved: Saved, reader: Node) -> Steps | None:
        return exact_steps(reader, saved.views)
