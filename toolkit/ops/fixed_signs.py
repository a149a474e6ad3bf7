"""FixedSigns: the signs of int16 weights, packed, and their mean magnitude (DoReFa-Net, arXiv 1606.06160, section 2.1).

    bit = w >= 0
    scale = (float32(sum of magnitudes) / float32(count)) * unit, the magnitude of w < 0 being -w - 1; at least 1 in sum

`unit` is the resolution of the weights. Integers all the way to the sum, for cores without floating point. The gradient
passes straight through, through the scale too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.signs import pack_signs, packed_signs_shape

MOST_OUTPUTS = 16384  # the magnitudes of eight rows fit into 32 bits


@op
@dataclass(frozen=True)
class FixedSigns(Op):
    """w int16 [taps..., IC, OC] -> packed signs uint8 [OC, taps, ceil(IC / 8)], scale float32 [].

    Attributes:
        exponent: of the resolution 2^exponent of the weights.
    """

    exponent: int = -14

    def infer(self, w: TensorType) -> tuple[TensorType, TensorType]:
        require(w.dtype == "int16" and len(w.shape) >= 2, f"int16 weights are needed, not {w}")
        require(w.shape[-1] <= MOST_OUTPUTS, f"more than {MOST_OUTPUTS} outputs")
        return TensorType(packed_signs_shape(w.shape), "uint8"), TensorType(())

    def reference(self, run: Run, w: Array) -> tuple[Array, Array]:
        wide = w.astype(np.int64)
        total = max(int((wide ^ (wide >> 63)).sum()), 1)
        mean = np.float32(total) / np.float32(w.size)
        return pack_signs(w >= 0), np.array(mean * np.float32(2.0**self.exponent))

    def gradient(self, back: Backward, dy: str | None, dscale: str | None) -> Sequence[str | None]:
        return (dy,)

    def lower(self, to: Lowering) -> None:
        *taps, inputs, outputs = to.input_type(0).shape
        counts = (to.size(prod(taps)), to.size(inputs), to.size(outputs))
        to.call("et_fixed_signs_i16", *counts, to.real(2.0**self.exponent), to.read(0), to.write(0), to.write(1))
