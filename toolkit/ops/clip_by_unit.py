"""ClipByUnit: adaptive gradient clipping (NFNet, arXiv 2102.06171): no output unit moves by more than a part of itself.

For each output channel (last axis), with sums over ascending row-major index from 0:

    limit  = fraction * max(sqrt(sum of madd(w, w, ...)), 1e-3)
    norm   = max(sqrt(sum of madd(g, g, ...)), 1e-12)
    factor = limit / norm
    g'     = g * factor where factor < 1, else g             a NaN factor leaves g as it is
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics import madd, sqrt
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Lowering
from toolkit.ops.elementwise import same_type

LEAST_WEIGHT = np.float32(1e-3)
LEAST_GRADIENT = np.float32(1e-12)


def _norm(rows: Array, least: np.float32, fma: bool) -> Array:
    total = np.zeros(rows.shape[-1], np.float32)
    for row in rows:
        total = madd(row, row, total, fma)
    root = sqrt(total)
    return np.where(root > least, root, least)


@op
@dataclass(frozen=True)
class ClipByUnit(Op):
    """w, g float32 [..., OC] -> g' of the same shape, which may be g.

    Attributes:
        fraction: of a unit's norm that its gradient may have.
    """

    fraction: float

    no_gradient = "it only clips gradients"

    def infer(self, w: TensorType, g: TensorType) -> TensorType:
        require(len(w.shape) >= 2, f"weights [..., OC] are needed, not {w}")
        return same_type(w, g)

    def reference(self, run: Run, w: Array, g: Array) -> Array:
        channels = w.shape[-1]
        limit = np.float32(self.fraction) * _norm(w.reshape(-1, channels), LEAST_WEIGHT, run.fma)
        factor = limit / _norm(g.reshape(-1, channels), LEAST_GRADIENT, run.fma)
        return np.where(factor < 1, g * factor, g)

    def lower(self, to: Lowering) -> None:
        w = to.input_type(0)
        channels = w.shape[-1]
        to.call(
            "et_clip_by_unit_f32",
            to.size(w.size // channels), to.size(channels), to.real(self.fraction),
            to.read(0), to.read(1), to.scratch(8 * channels), to.write(0, in_place=(1,)),
        )  # fmt: skip
