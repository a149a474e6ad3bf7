"""DorefaActivations: codes of activations in [0, 1], of 1 to 8 bits (DoReFa-Net, arXiv 1606.06160, section 2.3).

    n = 2^bits - 1; code = rint(n * clip(x, 0, 1)), of the exact product, ties to even; it stands for code / n

NaN gives 0. The gradient passes where 0 < x < 1. In training a node with something trained in front of it also gives
that condition as one bit per element, so that x need not be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codegen.program import Argument, Zeros
from toolkit.ir import Array, TensorType
from toolkit.numerics.straight_through import inside
from toolkit.ops.activation_mask import PASS_MASKED, mask_type, pack_codes
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Lowering, Training
from toolkit.ops.fixed_real import real_gradient

LARGEST = {"int8": 127, "int16": 32767}


def levels(bits: int) -> int:
    """The largest code of `bits` bits: 2^bits - 1."""
    return (1 << bits) - 1


@op
@dataclass(frozen=True)
class DorefaActivations(Op):
    """x float32 of any shape -> codes, the same shape.

    Attributes:
        bits: 1 to 8.
        dtype: of the codes; int16 where the layer that reads them needs it, and for 8 bits.
    """

    bits: int
    dtype: str = "int8"

    def infer(self, x: TensorType) -> TensorType:
        require(x.dtype == "float32", f"float32 is needed, not {x}")
        require(levels(self.bits) <= LARGEST[self.dtype], f"codes of {self.bits} bits do not fit {self.dtype}")
        return TensorType(x.shape, self.dtype)

    def reference(self, run: Run, x: Array) -> Array:
        clipped = np.where(x > 0, np.minimum(x, np.float32(1)), np.float32(0)).astype(np.float64)
        return np.rint(clipped * levels(self.bits)).astype(self.dtype)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        # Only where the node was not replaced by its training form: the mask is made then.
        assert dy is not None
        _, mask = back.apply_all(DorefaActivationsTraining(self.bits, self.dtype), back.input(0))
        return (back.apply(PASS_MASKED, real_gradient(back, dy), mask),)

    def for_training(self, training: Training) -> tuple[str, ...] | None:
        if not training.is_trained_before():
            return None
        return training.apply(DorefaActivationsTraining(self.bits, self.dtype), training.node.inputs[0])

    def lower(self, to: Lowering) -> None:
        to.call(f"et_dorefa_activations_{suffix(self.dtype)}", *sizes(to, self.bits), to.read(0), to.write(0))


@op
@dataclass(frozen=True)
class DorefaActivationsTraining(Op):
    """x -> codes as DorefaActivations gives them, and the mask of 0 < x < 1, uint8 [ceil(size / 8)]."""

    bits: int
    dtype: str = "int8"

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        return DorefaActivations(self.bits, self.dtype).infer(x), mask_type(x, 1)

    def reference(self, run: Run, x: Array) -> tuple[Array, Array]:
        return DorefaActivations(self.bits, self.dtype).reference(run, x), pack_codes(inside(x, 0, 1), 1)

    def gradient(self, back: Backward, dy: str | None, dmask: str | None) -> Sequence[str | None]:
        assert dy is not None
        return (back.apply(PASS_MASKED, real_gradient(back, dy), back.output(1)),)

    def zeros(self) -> Zeros:
        return "half"

    def lower(self, to: Lowering) -> None:
        kernel = f"et_dorefa_activations_masked_{suffix(self.dtype)}"
        to.call(kernel, *sizes(to, self.bits), to.read(0), to.write(0), to.write(1))


def suffix(dtype: str) -> str:
    """How the names of kernels spell a type of codes."""
    return {"int8": "i8", "int16": "i16"}[dtype]


def sizes(to: Lowering, bits: int) -> tuple[Argument, Argument]:
    """The first arguments of a kernel: count of input 0, and levels."""
    return to.size(to.input_type(0).size), to.constant(f"{levels(bits)}u", "uint32_t")
