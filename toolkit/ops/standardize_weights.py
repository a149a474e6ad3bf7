"""Weights standardised per output channel, as numbers or as signs (A&B BNN, arXiv 2403.03739, section on weights).

Output channels are the last axis; n is the number of weights of one. Sums run over ascending row-major index, from 0:

    mean      = sum(w) * (1 / n)                                    plain additions
    deviation = sqrt(squares * (1 / n)),  squares = sum of madd(w - mean, w - mean, ...)
    inverse   = 1 / (deviation + 1e-5)
    ws        = (w - mean) * inverse

StandardizeWeights gives ws; BinarizeStandardized gives their signs, packed (toolkit.ops.signs; ws >= 0 is +1, NaN is
-1), and magnitude = sum(|ws|) * (1 / n), the mean size of a weight. Gradient, for g = dws, or for g = d sign where
|ws| <= 1 and 0 elsewhere (straight through; the magnitude counts as a constant):

    centre = sum(g) * (1 / n)                                       plain additions
    slope  = (sum of madd(g, ws, ...) * (1 / n)) / deviation        0 where the deviation is not above 0
    dw     = madd(-slope, ws, inverse * (g - centre))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import madd, sqrt
from toolkit.numerics.straight_through import within
from toolkit.ops.base import Arrays, Op, Run, op, require
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.reshape import Reshape
from toolkit.ops.signs import pack_signs, packed_signs_shape

EPSILON = np.float32(1e-5)
ONE = np.float32(1)


def _sum(rows: Array) -> Array:
    """Plain additions over the first axis, strictly ascending, from +0."""
    total: Array = np.add.accumulate(rows, axis=0)[-1] + np.float32(0)
    return total


def _sum_of_products(first: Array, second: Array, fma: bool) -> Array:
    total = np.zeros(first.shape[-1], np.float32)
    for a, b in zip(first, second, strict=True):
        total = madd(a, b, total, fma)
    return total


def standardized(w: Array, fma: bool) -> tuple[Array, Array, Array]:
    """(ws [n, OC], deviation [OC], inverse [OC]) of weights [..., OC]."""
    rows = w.reshape(-1, w.shape[-1])
    share = ONE / np.float32(len(rows))
    centred = rows - _sum(rows) * share
    deviation = sqrt(_sum_of_products(centred, centred, fma) * share)
    inverse = ONE / (deviation + EPSILON)
    return centred * inverse, deviation, inverse


def _require_weights(w: TensorType) -> None:
    require(w.dtype == "float32" and len(w.shape) >= 2, f"float32 weights [..., IC, OC] are needed, not {w}")


def _counts(w: TensorType) -> tuple[int, int]:
    """Weights per output channel, and output channels."""
    return w.size // w.shape[-1], w.shape[-1]


@op
@dataclass(frozen=True)
class StandardizeWeights(Op):
    """w float32 [..., IC, OC] -> ws float32 of the same shape."""

    def infer(self, w: TensorType) -> TensorType:
        _require_weights(w)
        return w

    def reference(self, run: Run, w: Array) -> Array:
        return standardized(w, run.fma)[0].reshape(w.shape)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (back.apply(StandardizeWeightsGrad(False), dy, back.input(0)),)

    def lower(self, to: Lowering) -> None:
        count, channels = _counts(to.input_type(0))
        to.call(
            "et_standardize_weights_f32",
            to.size(count), to.size(channels), to.read(0), to.scratch(8 * channels), to.write(0),
        )  # fmt: skip


@op
@dataclass(frozen=True)
class BinarizeStandardized(Op):
    """w float32 [taps..., IC, OC] -> (packed signs uint8 [OC, taps, ceil(IC / 8)], magnitude float32 [OC])."""

    def infer(self, w: TensorType) -> tuple[TensorType, TensorType]:
        _require_weights(w)
        return TensorType(packed_signs_shape(w.shape), "uint8"), TensorType(w.shape[-1:])

    def reference(self, run: Run, w: Array) -> Arrays:
        ws = standardized(w, run.fma)[0]
        magnitude = _sum(np.abs(ws)) * (ONE / np.float32(len(ws)))
        return pack_signs((ws >= 0).reshape(w.shape)), magnitude

    def gradient(self, back: Backward, dsigns: str | None, dmagnitude: str | None) -> Sequence[str | None]:
        if dsigns is None:
            return (None,)
        w = back.input(0)
        shape = back.type(w).shape
        if back.type(dsigns).shape != shape:
            assert back.type(dsigns).shape == (1, 1, *shape), "a dense layer is a convolution with one tap"
            dsigns = back.apply(Reshape(shape), dsigns)
        return (back.apply(StandardizeWeightsGrad(True), dsigns, w),)

    def lower(self, to: Lowering) -> None:
        w = to.input_type(0)
        outputs, taps, _ = packed_signs_shape(w.shape)
        to.call(
            "et_binarize_standardized_f32",
            to.size(taps), to.size(w.shape[-2]), to.size(outputs),
            to.read(0), to.scratch(8 * outputs), to.write(0), to.write(1),
        )  # fmt: skip


@op
@dataclass(frozen=True)
class StandardizeWeightsGrad(Op):
    """dy, w float32 [..., OC] -> dw, which may be dy.

    Attributes:
        clip: dy is the gradient of the signs: it counts where |ws| <= 1.
    """

    clip: bool

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType, w: TensorType) -> TensorType:
        _require_weights(w)
        require(dy == w, f"gradient {dy} and weights {w} differ")
        return w

    def reference(self, run: Run, dy: Array, w: Array) -> Array:
        ws, deviation, inverse = standardized(w, run.fma)
        g = dy.reshape(ws.shape)
        if self.clip:
            g = np.where(within(ws, 1), g, np.float32(0))
        share = ONE / np.float32(len(ws))
        centre = _sum(g) * share
        slope = np.where(deviation > 0, (_sum_of_products(g, ws, run.fma) * share) / deviation, np.float32(0))
        return madd(-slope, ws, inverse * (g - centre), run.fma).reshape(w.shape)

    def lower(self, to: Lowering) -> None:
        count, channels = _counts(to.input_type(1))
        to.call(
            "et_standardize_weights_grad_f32",
            to.size(count), to.size(channels), to.constant("true" if self.clip else "false", "bool"),
            to.read(0), to.read(1), to.scratch(16 * channels), to.write(0, in_place=(0,)),
        )  # fmt: skip
