"""EncodeRange, DecodeRange: a float32 tensor in int8 codes whose range is found at run time.

    low = min(0, smallest x); high = max(0, largest x); NaN counts for neither
    scale = (high - low) / 255;  inverse = 255 / (high - low), 0 where high = low
    zero = -128 + rint(t), t = -low * inverse brought into [0, 255], NaN becoming 0
    code = as AffineQuantize, with this inverse and zero
    y = (code - zero) * scale

Every operation is rounded once. A zero stays a zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import rint_half_even
from toolkit.ops.affine_codes import LOWEST, AffineQuantize
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Lowering

_STEPS = np.float32(255)


@op
@dataclass(frozen=True)
class EncodeRange(Op):
    """x float32 of any shape -> codes int8 of that shape, and scale and zero, float32 [2]."""

    no_gradient = "it only keeps what the gradients of other ops read"

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        require(x.dtype == "float32", f"float32 is needed, not {x}")
        return TensorType(x.shape, "int8"), TensorType((2,))

    def reference(self, run: Run, x: Array) -> tuple[Array, Array]:
        low, high = x[x < 0].min(initial=np.float32(0)), x[x > 0].max(initial=np.float32(0))
        span = high - low
        inverse = _STEPS / span if span > 0 else np.float32(0)
        t = -low * inverse
        t = t if t > 0 else np.float32(0)
        t = t if t < _STEPS else _STEPS
        zero = LOWEST + int(rint_half_even(t))
        codes = AffineQuantize(float(inverse), zero).reference(run, x)
        return codes, np.array([span / _STEPS, zero], np.float32)

    def lower(self, to: Lowering) -> None:
        count = to.size(to.input_type(0).size)
        to.call("et_encode_range_i8", count, to.read(0), to.write(0), to.write(1))


@op
@dataclass(frozen=True)
class DecodeRange(Op):
    """(codes int8 of any shape, scale and zero float32 [2]) -> (codes - zero) * scale, float32."""

    no_gradient = "it only restores what the gradients of other ops read"

    def infer(self, codes: TensorType, range: TensorType) -> TensorType:
        require(codes.dtype == "int8" and range == TensorType((2,)), f"{codes} and {range} are not of EncodeRange")
        return TensorType(codes.shape)

    def reference(self, run: Run, codes: Array, range: Array) -> Array:
        return np.asarray((codes.astype(np.float32) - range[1]) * range[0])

    def lower(self, to: Lowering) -> None:
        to.call("et_decode_range_i8", to.size(to.input_type(0).size), to.read(0), to.read(1), to.write(0))
