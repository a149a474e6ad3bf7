"""UnpackWeightSigns: packed signs of weights (toolkit.ops.signs) as float32 +1 and -1, in the layout of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.signs import Shape, packed_signs_shape, unpack_signs


@op
@dataclass(frozen=True)
class UnpackWeightSigns(Op):
    """bits uint8 [OC, taps, ceil(IC / 8)] -> float32 [kernel..., IC, OC].

    Attributes:
        kernel: taps along each axis; () for a dense layer.
        channels: IC.
    """

    kernel: Shape
    channels: int

    def infer(self, bits: TensorType) -> TensorType:
        shape = (*self.kernel, self.channels, bits.shape[0])
        fits = bits == TensorType(packed_signs_shape(shape), "uint8")
        require(fits, f"{bits} are not packed signs for weights {list(shape)}")
        return TensorType(shape)

    def reference(self, run: Run, bits: Array) -> Array:
        return unpack_signs(bits, self.kernel, self.channels).astype(np.float32)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (dy,)  # that of the values which the bits stand for

    def lower(self, to: Lowering) -> None:
        outputs, taps, _ = to.input_type(0).shape
        to.call(
            "et_unpack_weight_signs_f32",
            to.size(taps), to.size(self.channels), to.size(outputs), to.read(0), to.write(0),
        )  # fmt: skip
