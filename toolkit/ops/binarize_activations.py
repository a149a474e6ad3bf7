"""BinarizeActivations: one bit per activation, sign(beta * x + shift), with the surrogate gradient of a sigmoid.

    z    = madd(beta, x, shift[c])
    bit  = z >= 0                          1 is +1, 0 is -1; NaN gives 0, both zeros give 1
    bits uint8 [..., ceil(C / 8)]          bit j of byte b stands for channel 8 b + j; those beyond the last are 0

Gradient (A&B BNN, arXiv 2403.03739; the code of its authors): dz = dy * sigmoid_slope(z), which is
6 * (s * (1 - s)) with s = sigmoid(3 * z), z computed again; dx = beta * dz, and dshift is the sum of dz over all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import madd
from toolkit.numerics.straight_through import sigmoid_slope
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.scale import Scale

ONE = np.float32(1)


@op
@dataclass(frozen=True)
class BinarizeActivations(Op):
    """x float32 [..., C], shift float32 [C] -> bits uint8 [..., ceil(C / 8)].

    Attributes:
        beta: scales x before the shift; positive.
    """

    beta: float = 1.0

    def infer(self, x: TensorType, shift: TensorType) -> TensorType:
        require_channels(x, shift)
        return TensorType((*x.shape[:-1], -(-x.shape[-1] // 8)), "uint8")

    def reference(self, run: Run, x: Array, shift: Array) -> Array:
        positive = madd(np.float32(self.beta), x, shift, run.fma) >= 0
        return np.packbits(positive, axis=-1, bitorder="little")

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        dz = back.apply(BinarizeActivationsGrad(self.beta), dy, back.input(0), back.input(1))
        dx = dz if self.beta == 1 or not back.needs(0) else back.apply(Scale(self.beta), dz)
        return (dx if back.needs(0) else None, dz if back.needs(1) else None)  # summed over the rows by the caller

    def lower(self, to: Lowering) -> None:
        x = to.input_type(0)
        to.call(
            "et_binarize_activations_f32",
            to.size(x.size // x.shape[-1]), to.size(x.shape[-1]), to.real(self.beta),
            to.read(0), to.read(1), to.write(0),
        )  # fmt: skip


@op
@dataclass(frozen=True)
class BinarizeActivationsGrad(Op):
    """dy, x float32 [..., C], shift [C] -> dz float32 [..., C], which may be dy or x."""

    beta: float = 1.0

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType, x: TensorType, shift: TensorType) -> TensorType:
        require_channels(x, shift)
        require(dy == x, f"gradient {dy} and input {x} differ")
        return x

    def reference(self, run: Run, dy: Array, x: Array, shift: Array) -> Array:
        z = madd(np.float32(self.beta), x, shift, run.fma)
        return np.asarray(dy * sigmoid_slope(z))

    def lower(self, to: Lowering) -> None:
        x = to.input_type(1)
        to.call(
            "et_binarize_activations_grad_f32",
            to.size(x.size // x.shape[-1]), to.size(x.shape[-1]), to.real(self.beta),
            to.read(0), to.read(1), to.read(2), to.write(0, in_place=(0, 1)),
        )  # fmt: skip


@op
@dataclass(frozen=True)
class UnpackSigns(Op):
    """bits uint8 [..., ceil(C / 8)] as BinarizeActivations makes them -> float32 [..., C] of +1 and -1.

    Attributes:
        channels: C.
    """

    channels: int

    def infer(self, bits: TensorType) -> TensorType:
        fits = bits.dtype == "uint8" and bits.shape[-1:] == (-(-self.channels // 8),)
        require(fits, f"{bits} are not the bits of {self.channels} channels")
        return TensorType((*bits.shape[:-1], self.channels))

    def reference(self, run: Run, bits: Array) -> Array:
        unpacked = np.unpackbits(bits, axis=-1, count=self.channels, bitorder="little")
        return np.where(unpacked == 1, ONE, -ONE)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (dy,)  # that of the values which the bits stand for

    def lower(self, to: Lowering) -> None:
        bits = to.input_type(0)
        rows = to.size(bits.size // bits.shape[-1])
        to.call("et_unpack_signs_f32", rows, to.size(self.channels), to.read(0), to.write(0))


def require_channels(x: TensorType, *vectors: TensorType) -> None:
    """Raises ShapeError unless x is float32 with at least two axes and every vector is float32 [channels of x]."""
    require(len(x.shape) >= 2 and x.dtype == "float32", f"float32 with two axes or more is needed, not {x}")
    for vector in vectors:
        require(vector == TensorType(x.shape[-1:]), f"{vector} does not fit the channels of {x}")
