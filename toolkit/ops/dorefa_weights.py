"""DorefaSigns, DorefaWeights: codes of weights of 1 to 8 bits (DoReFa-Net, arXiv 1606.06160, sections 2.1 and 2.2).

    1 bit    sign(w), +1 for zeros of either sign; scale = mean |w| over the layer
    k bits   n = 2^k - 1, half = n / 2, h = half / tanh(max |w|), 0 where max |w| is below 2^-100
             code = 2 * rint(madd(tanh(w), h, half)) - n: an odd integer, ties to even; it stands for code / n

The mean is taken on integers: with 2^e the power of two of the largest magnitude, every magnitude is cut to a multiple
of 2^(e - 31) (0 below 2^-126), their sum is divided by their number and cut to that multiple, then to 24 bits; 0 below
2^-126. A weight that is not finite makes the scale NaN, or with NaN among k-bit weights all codes -n.

Gradients, straight through: 1 bit hands them on, through the scale too; k bits multiply by the derivative of tanh and
divide by tanh(max |w|), which counts as a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import from_bits, madd, rint_half_even, tanh, to_bits
from toolkit.numerics.straight_through import tanh_slope
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.dorefa_activations import LARGEST, levels, sizes, suffix
from toolkit.ops.fixed_real import real_gradient
from toolkit.ops.signs import pack_signs, packed_signs_shape

_NOT_FINITE = 255
_LEAST = np.float32(2.0**-100)


def mean_magnitude(w: Array) -> Array:
    """float32 []: the mean of |w| as stated above."""
    word = to_bits(w).reshape(-1).astype(np.int64)
    exponent = word >> 23 & 0xFF
    top = int(exponent.max())
    if top == _NOT_FINITE:
        return np.array(np.nan, np.float32)
    aligned = ((word & 0x7FFFFF | 0x800000) << 8) >> np.minimum(top - exponent, 32)
    mean = int(np.where(exponent == 0, 0, aligned).sum()) // word.size
    exponent_of_mean = top - (32 - mean.bit_length())
    if mean == 0 or exponent_of_mean <= 0:
        return np.array(0, np.float32)
    mantissa = mean << (32 - mean.bit_length()) >> 8
    return from_bits(np.array(exponent_of_mean << 23 | mantissa & 0x7FFFFF, np.uint32))


def _over_largest(w: Array, numerator: float) -> np.float32:
    """numerator / tanh(max |w|), 0 where all weights count as 0."""
    largest = np.max(np.abs(w))
    return np.float32(0) if largest < _LEAST else np.float32(numerator) / np.float32(tanh(largest)[()])


@op
@dataclass(frozen=True)
class DorefaSigns(Op):
    """w float32 [taps..., IC, OC] -> packed signs uint8 [OC, taps, ceil(IC / 8)], scale float32 []."""

    def infer(self, w: TensorType) -> tuple[TensorType, TensorType]:
        require(w.dtype == "float32" and len(w.shape) >= 2, f"float32 weights are needed, not {w}")
        return TensorType(packed_signs_shape(w.shape), "uint8"), TensorType(())

    def reference(self, run: Run, w: Array) -> tuple[Array, Array]:
        return pack_signs(w >= 0), mean_magnitude(w)

    def gradient(self, back: Backward, dy: str | None, dscale: str | None) -> Sequence[str | None]:
        return (None if dy is None else real_gradient(back, dy),)

    def lower(self, to: Lowering) -> None:
        *taps, inputs, outputs = to.input_type(0).shape
        counts = (to.size(int(np.prod(taps))), to.size(inputs), to.size(outputs))
        to.call("et_dorefa_signs_f32", *counts, to.read(0), to.write(0), to.write(1))


@op
@dataclass(frozen=True)
class DorefaWeights(Op):
    """w float32 of any shape -> codes, the same shape.

    Attributes:
        bits: 2 to 8.
        dtype: of the codes; int16 where the layer needs it, and for 8 bits.
    """

    bits: int
    dtype: str = "int8"

    def infer(self, w: TensorType) -> TensorType:
        require(w.dtype == "float32", f"float32 weights are needed, not {w}")
        require(levels(self.bits) <= LARGEST[self.dtype], f"codes of {self.bits} bits do not fit {self.dtype}")
        return TensorType(w.shape, self.dtype)

    def reference(self, run: Run, w: Array) -> Array:
        n = levels(self.bits)
        place = madd(tanh(w), _over_largest(w, n / 2), np.float32(n / 2), run.fma)
        level = np.where(place > 0, rint_half_even(place), np.float32(0))
        return np.asarray(2 * level - n).astype(self.dtype)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (back.apply(DorefaWeightsGrad(), dy, back.input(0)),)

    def lower(self, to: Lowering) -> None:
        to.call(f"et_dorefa_weights_{suffix(self.dtype)}", *sizes(to, self.bits), to.read(0), to.write(0))


@op
@dataclass(frozen=True)
class DorefaWeightsGrad(Op):
    """(dy, w) -> dw = dy * (madd(-t, t, 1) * inverse), t = tanh(w).

    inverse = 1 / tanh(max |w|), 0 where max |w| is below 2^-100.
    """

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType, w: TensorType) -> TensorType:
        require(dy == w and w.dtype == "float32", f"the gradient {dy} does not fit the weights {w}")
        return w

    def reference(self, run: Run, dy: Array, w: Array) -> Array:
        return np.asarray(dy * (tanh_slope(tanh(w), run.fma) * _over_largest(w, 1)))

    def lower(self, to: Lowering) -> None:
        count = to.size(to.input_type(0).size)
        to.call("et_dorefa_weights_grad_f32", count, to.read(0), to.read(1), to.write(0, in_place=(0,)))
