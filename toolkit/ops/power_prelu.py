"""PowerPRelu: y = x where x >= 0, else x * 2^k, a PRelu whose slope is a power of two for each channel.

    k = rint(exponent[c]), ties to even, clipped to [-126, 127]; NaN gives -126

The product is one multiplication by a power of two; an integer x is shifted instead. NaN in x takes the sloped branch.
The real exponent is what trains: the gradient goes straight through the rounding (A&B BNN, arXiv 2403.03739).

    dx        = dy where x >= 0, else dy * 2^k
    dexponent = (sum over rows, ascending, from 0, of madd(dy, x, ...) where x < 0) * (2^k * ln 2)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codegen.program import Argument
from toolkit.ir import Array, TensorType
from toolkit.numerics import from_bits, madd, rint_half_even
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.binarize_activations import require_channels
from toolkit.ops.contexts import Backward, Lowering

LN2 = np.float32(0.6931472)
LOWEST, HIGHEST = -126, 127


def slopes(exponent: Array) -> Array:
    """2^k of each channel, float32."""
    whole = rint_half_even(exponent)
    above = np.where(whole > LOWEST, whole, np.float32(LOWEST))
    k = np.where(above < HIGHEST, above, np.float32(HIGHEST)).astype(np.int32)
    return from_bits((k + 127).astype(np.uint32) << np.uint32(23))


@op
@dataclass(frozen=True)
class PowerPRelu(Op):
    """x float32 [..., C], exponent float32 [C] -> y float32 [..., C], which may be x."""

    def infer(self, x: TensorType, exponent: TensorType) -> TensorType:
        require_channels(x, exponent)
        return x

    def reference(self, run: Run, x: Array, exponent: Array) -> Array:
        return np.where(x >= 0, x, x * slopes(exponent))

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        inputs = (dy, back.input(0), back.input(1))
        dx = back.apply(PowerPReluGradInput(), *inputs) if back.needs(0) else None
        return (dx, back.apply(PowerPReluGradExponent(), *inputs) if back.needs(1) else None)

    def lower(self, to: Lowering) -> None:
        to.call("et_power_prelu_f32", *_counts(to), to.read(0), to.read(1), to.write(0, in_place=(0,)))


@dataclass(frozen=True)
class _Gradient(Op):
    """What both gradients share: inputs dy, x float32 [..., C], exponent [C]."""

    no_gradient = "second derivatives are not used"

    def check(self, dy: TensorType, x: TensorType, exponent: TensorType) -> None:
        """Raises ShapeError where the types do not fit."""
        require_channels(x, exponent)
        require(dy == x, f"gradient {dy} and input {x} differ")


@op
@dataclass(frozen=True)
class PowerPReluGradInput(_Gradient):
    """dy, x float32 [..., C], exponent [C] -> dx float32 [..., C], which may be dy or x."""

    def infer(self, dy: TensorType, x: TensorType, exponent: TensorType) -> TensorType:
        self.check(dy, x, exponent)
        return x

    def reference(self, run: Run, dy: Array, x: Array, exponent: Array) -> Array:
        return np.where(x >= 0, dy, dy * slopes(exponent))

    def lower(self, to: Lowering) -> None:
        reads = (to.read(0), to.read(1), to.read(2))
        to.call("et_power_prelu_grad_input_f32", *_counts(to), *reads, to.write(0, in_place=(0, 1)))


@op
@dataclass(frozen=True)
class PowerPReluGradExponent(_Gradient):
    """dy, x float32 [..., C], exponent [C] -> dexponent float32 [C]."""

    def infer(self, dy: TensorType, x: TensorType, exponent: TensorType) -> TensorType:
        self.check(dy, x, exponent)
        return exponent

    def reference(self, run: Run, dy: Array, x: Array, exponent: Array) -> Array:
        channels = x.shape[-1]
        total = np.zeros(channels, np.float32)
        for gradient, value in zip(dy.reshape(-1, channels), x.reshape(-1, channels), strict=True):
            total = np.where(value < 0, madd(gradient, value, total, run.fma), total)
        return np.asarray(total * (slopes(exponent) * LN2))

    def lower(self, to: Lowering) -> None:
        to.call(
            "et_power_prelu_grad_exponent_f32",
            *_counts(to), to.read(0), to.read(1), to.read(2), to.write(0),
        )  # fmt: skip


def _counts(to: Lowering) -> tuple[Argument, Argument]:
    """Rows and channels."""
    x = to.input_type(0)
    return to.size(x.size // x.shape[-1]), to.size(x.shape[-1])
