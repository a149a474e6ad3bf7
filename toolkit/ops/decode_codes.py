"""DecodeCodes, DecodeSigns: the real values that codes stand for; QuantizeGradient: rounds what flows back.

For layers that cannot compute on codes because one of their operands has none. The gradient of codes is that of the
values, so decoding hands it on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.quantized_conv import CODES, GradientQuantizer
from toolkit.ops.signs import packed_signs_shape, unpack_signs

Shape = tuple[int, ...]


@op
@dataclass(frozen=True)
class DecodeCodes(Op):
    """(codes int8 or int16 of any shape, scale float32 [], or [N] for the first axis) -> codes * scale, float32."""

    def infer(self, codes: TensorType, scale: TensorType) -> TensorType:
        require(codes.dtype in CODES, f"codes are int8 or int16, not {codes}")
        require(scale.dtype == "float32" and scale.shape in ((), codes.shape[:1]), f"{scale} does not fit {codes}")
        return TensorType(codes.shape)

    def reference(self, run: Run, codes: Array, scale: Array) -> Array:
        rows = codes.reshape(scale.size, -1).astype(np.float32) * scale.reshape(-1, 1)
        return np.asarray(rows.reshape(codes.shape))

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (dy, None)

    def lower(self, to: Lowering) -> None:
        codes, rows = to.input_type(0), to.input_type(1).size
        kernel = "et_decode_codes_i8" if codes.dtype == "int8" else "et_decode_codes_i16"
        to.call(kernel, to.size(rows), to.size(codes.size // rows), to.read(0), to.read(1), to.write(0))


@op
@dataclass(frozen=True)
class DecodeSigns(Op):
    """(packed signs uint8, scale float32 []) -> +scale and -scale, float32 [shape].

    Attributes:
        shape: [taps..., IC, OC] of the weights.
    """

    shape: Shape

    def infer(self, signs: TensorType, scale: TensorType) -> TensorType:
        expected = TensorType(packed_signs_shape(self.shape), "uint8")
        require(signs == expected and scale == TensorType(()), f"{signs} are not packed signs of {list(self.shape)}")
        return TensorType(self.shape)

    def reference(self, run: Run, signs: Array, scale: Array) -> Array:
        positive = unpack_signs(signs, self.shape[:-2], self.shape[-2]) > 0
        return np.where(positive, scale, -scale).reshape(self.shape)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (dy, None)

    def lower(self, to: Lowering) -> None:
        counts = (to.size(prod(self.shape[:-2])), to.size(self.shape[-2]), to.size(self.shape[-1]))
        to.call("et_decode_signs_f32", *counts, to.read(0), to.read(1), to.write(0))


@op
@dataclass(frozen=True)
class QuantizeGradient(Op):
    """y = x; what flows back is quantized and decoded. x float32 of any shape."""

    quantizer: GradientQuantizer

    def infer(self, x: TensorType) -> TensorType:
        return x

    def reference(self, run: Run, x: Array) -> Array:
        return x

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        assert dy is not None
        return (back.apply(DecodeCodes(), *self.quantizer.apply(back, dy)),)

    def lower(self, to: Lowering) -> None:
        to.alias()
