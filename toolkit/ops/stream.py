"""The residual stream of a binary network in inference: int16 codes that stand for code * 2^-fraction.

All tensors of a stream share one fraction. What enters it is rounded once; inside, everything is additions, comparisons
and shifts:

    StreamFromReal      code = rint(x * 2^fraction), ties to even, clipped to [-largest, largest]; NaN gives 0
    RealFromStream      x = float32(code) * 2^-fraction, exact
    StreamSigns         bit = code >= threshold[c]: BinarizeActivations with its scale and shift in a threshold
    StreamAveragePool   (sum of the 2^k codes of a window + 2^(k-1)) >> k

Right shifts round towards minus infinity.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import rint_half_even
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Lowering

LARGEST = 32767
NO_GRADIENT = "only inference has a stream of integers"


def require_codes(x: TensorType, axes: int = 1) -> None:
    """Raises ShapeError unless x is int16 with enough axes."""
    require(x.dtype == "int16" and len(x.shape) >= axes, f"int16 with {axes} axes or more is needed, not {x}")


@op
@dataclass(frozen=True)
class StreamFromReal(Op):
    """x float32 of any shape -> codes int16."""

    fraction: int = 8
    largest: int = LARGEST

    no_gradient = NO_GRADIENT
    elementwise = True

    def infer(self, x: TensorType) -> TensorType:
        require(x.dtype == "float32", f"float32 is needed, not {x}")
        return TensorType(x.shape, "int16")

    def reference(self, run: Run, x: Array) -> Array:
        scaled = rint_half_even(x * np.float32(2.0**self.fraction))
        known = np.where(np.isnan(scaled), np.float32(0), scaled)
        return np.clip(known, np.float32(-self.largest), np.float32(self.largest)).astype(np.int16)

    def lower(self, to: Lowering) -> None:
        count, scale = to.size(to.input_type(0).size), to.real(2.0**self.fraction)
        to.call("et_stream_from_real_i16", count, scale, to.size(self.largest), to.read(0), to.write(0))


@op
@dataclass(frozen=True)
class RealFromStream(Op):
    """codes int16 of any shape -> x float32."""

    fraction: int = 8

    no_gradient = NO_GRADIENT
    elementwise = True

    def infer(self, codes: TensorType) -> TensorType:
        require_codes(codes, 0)
        return TensorType(codes.shape)

    def reference(self, run: Run, codes: Array) -> Array:
        return np.asarray(codes.astype(np.float32) * np.float32(2.0**-self.fraction))

    def lower(self, to: Lowering) -> None:
        count = to.size(to.input_type(0).size)
        to.call("et_real_from_stream_i16", count, to.real(2.0**-self.fraction), to.read(0), to.write(0))


@op
@dataclass(frozen=True)
class StreamSigns(Op):
    """(codes int16 [..., C], thresholds int16 [C]) -> bits uint8 [..., ceil(C / 8)]."""

    no_gradient = NO_GRADIENT

    def infer(self, codes: TensorType, thresholds: TensorType) -> TensorType:
        require_codes(codes, 2)
        require(thresholds == TensorType(codes.shape[-1:], "int16"), f"{thresholds} do not fit {codes}")
        return TensorType((*codes.shape[:-1], -(-codes.shape[-1] // 8)), "uint8")

    def reference(self, run: Run, codes: Array, thresholds: Array) -> Array:
        return np.packbits(codes >= thresholds, axis=-1, bitorder="little")

    def lower(self, to: Lowering) -> None:
        shape = to.input_type(0).shape
        rows = to.size(prod(shape[:-1]))
        to.call("et_signs_b1", rows, to.size(shape[-1]), to.read(0), to.read(1), to.write(0))


@op
@dataclass(frozen=True)
class StreamAveragePool(Op):
    """codes int16 [N, H, W, C] -> int16 [N, H / rows, W / columns, C]; windows side by side, rows * columns = 2^k.

    Attributes:
        rows, columns: of a window.
    """

    rows: int = 2
    columns: int = 2

    no_gradient = NO_GRADIENT

    def infer(self, codes: TensorType) -> TensorType:
        require(codes.dtype == "int16" and len(codes.shape) == 4, f"int16 images are needed, not {codes}")
        batch, height, width, channels = codes.shape
        require(height % self.rows == 0 == width % self.columns, f"windows of {self.rows} x {self.columns} in {codes}")
        count = self.rows * self.columns
        require(count & (count - 1) == 0 and count < 2**15, f"a mean of {count} codes is no shift")
        return TensorType((batch, height // self.rows, width // self.columns, channels), "int16")

    @property
    def shift(self) -> int:
        """log2 of the codes in a window."""
        return (self.rows * self.columns).bit_length() - 1

    def reference(self, run: Run, codes: Array) -> Array:
        batch, height, width, channels = self.infer(TensorType(codes.shape, "int16")).shape
        windows = codes.reshape(batch, height, self.rows, width, self.columns, channels).astype(np.int32)
        total: Array = windows.sum((2, 4), dtype=np.int32) + np.int32(1 << self.shift >> 1)
        return (total >> np.int32(self.shift)).astype(np.int16)

    def lower(self, to: Lowering) -> None:
        batch, height, width, channels = to.output_type().shape
        fields: dict[str, int] = {
            "rows": batch * height,
            "columns": width,
            "channels": channels,
            "window_rows": self.rows,
            "window_columns": self.columns,
            "row": width * self.columns * channels,
            "window_row": width * self.columns * channels * self.rows,
            "window_column": self.columns * channels,
            "shift": self.shift,
        }
        to.call("et_stream_average_b1", to.struct("et_average_shape_b1", fields), to.read(0), to.write(0))
