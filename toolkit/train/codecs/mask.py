"""mask: of a tensor that only gradients of activations ask for, they keep what they need of each element, in k bits.

    mask        exact, 1 bit: ReLU, LeakyReLU, ReLU6, Clip, HardSigmoid. No bit of a gradient changes. Needs no asking.
    mask:K      1 to 4 bits: the nearest step function (few_bit.py) in place of the derivative of hard-swish, SiLU,
                GELU, sigmoid and tanh; exact where 1 bit is enough
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isinf

import numpy as np

from toolkit.errors import UserError
from toolkit.ir import Node
from toolkit.ops.activation_mask import ActivationMask, MaskedGradient
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.clip import ClipGrad
from toolkit.ops.gelu import GeluGrad
from toolkit.ops.hard_sigmoid import HardSigmoidGrad
from toolkit.ops.hard_swish import HardSwishGrad
from toolkit.ops.leaky_relu import LeakyReluGrad
from toolkit.ops.relu import ReluGrad
from toolkit.ops.sigmoid import SigmoidGrad
from toolkit.ops.swish import SwishGrad
from toolkit.ops.tanh import TanhGrad
from toolkit.train.codecs.codec import WHERE, GradientCodec, codec
from toolkit.train.codecs.few_bit import EVEN, FUNCTIONS, nearest_pieces
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


_OF_OUTPUT: dict[type, str] = {SigmoidGrad: "sigmoid", TanhGrad: "tanh"}  # they read y, which rises with x
_OF_INPUT: dict[type, str] = {HardSwishGrad: "hard-swish", SwishGrad: "silu", GeluGrad: "gelu"}


def exact_steps(reader: Node, views: tuple[str, ...]) -> Steps | None:
    """What a node needs of a tensor, where it is the gradient of an activation made of straight pieces."""
    if type(reader.op) not in _EXACT or not reads_beside_gradient(reader, views):
        return None
    return _EXACT[type(reader.op)](reader.op)


def reads_beside_gradient(reader: Node, views: tuple[str, ...]) -> bool:
    """Whether a gradient of (dy, tensor) reads a tensor as the latter."""
    return len(reader.inputs) == 2 and reader.inputs[1] in views and reader.inputs[0] not in views


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


@codec
@dataclass(frozen=True)
class Mask(MaskCodec):
    """Masks by the tables of exact_steps and few_bit.

    Attributes:
        bits: for activations that are not made of straight pieces; 0 leaves those alone.
    """

    bits: int = 0

    keyword = "mask"
    summary = "what the gradient of an activation needs: exact in 1 bit, or nearly in K"

    @classmethod
    def parse(cls, options: Sequence[str]) -> Mask:
        if not options:
            return cls()
        if len(options) > 1 or options[0] not in ("1", "2", "3", "4"):
            where = f"{WHERE} mask:{':'.join(options)}"
            hint = "mask:2, mask:approx, mask:helu or mask:helu:0.05"
            raise UserError("a mask has 1, 2, 3 or 4 bits", where=where, hint=hint)
        return cls(int(options[0]))

    def steps(self, saved: Saved, reader: Node) -> Steps | None:
        exact = exact_steps(reader, saved.views)
        if exact is not None or not self.bits or not reads_beside_gradient(reader, saved.views):
            return exact
        return few_steps(reader.op, self.bits)


EXACT_MASK = Mask()


def few_steps(op: object, bits: int) -> Steps | None:
    """The nearest steps to the derivative of an activation, in terms of what its gradient reads."""
    name = smooth_name(op)
    if name is None:
        return None
    pieces = nearest_pieces(name, bits)
    borders, codes = np.array(pieces.borders), list(range(1 << bits))
    if name in EVEN:
        borders, codes = np.array([*-borders[::-1], *borders]), [*codes[:0:-1], *codes]
    if type(op) in _OF_OUTPUT:
        borders = FUNCTIONS[name](borders)
    mask = ActivationMask(bits, tuple(float(np.float32(border)) + 0.0 for border in borders), tuple(codes))
    return Steps(mask, pieces.levels)


def smooth_name(op: object) -> str | None:
    """The function of few_bit that an op is the gradient of; None where there is no table for it."""
    if isinstance(op, SwishGrad) and np.float32(op.alpha) != 1:
        return None
    return {**_OF_OUTPUT, **_OF_INPUT}.get(type(op))
