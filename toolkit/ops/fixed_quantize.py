"""FixedQuantize: mantissas of dynamic fixed point and the power of two that they share; FixedUpper: those of a master.

Formulas, bits and special values: toolkit.numerics.fixed. Inference rounds to the nearest and draws nothing; where
`draws` is set, training rounds stochastically.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from zlib import crc32

from toolkit.ir import Array, TensorType
from toolkit.numerics.fixed import DTYPES, fixed_nearest, fixed_random, largest_mantissa, upper_mantissa
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Lowering, Training
from toolkit.ops.fixed_real import real_gradient
from toolkit.ops.quantized_conv import GradientQuantizer


@op
@dataclass(frozen=True)
class FixedQuantize(Op):
    """x float32 of any shape[, seed, step uint32 scalars] -> mantissas int8 or int16, scale float32 [].

    The gradient passes straight through.

    Attributes:
        bits: 8 or 16.
        draws: whether a training step rounds stochastically.
        stochastic: rounds stochastically; takes seed and step.
        stream: tells the nodes of a model apart.
    """

    bits: int = 8
    draws: bool = True
    stochastic: bool = False
    stream: int = 0

    def infer(
        self, x: TensorType, seed: TensorType | None = None, step: TensorType | None = None
    ) -> tuple[TensorType, TensorType]:
        require(x.dtype == "float32", f"float32 is needed, not {x}")
        scalar = TensorType((), "uint32") if self.stochastic else None
        require(seed == step == scalar, "stochastic rounding takes seed and step, uint32 scalars")
        return TensorType(x.shape, DTYPES[self.bits]), TensorType(())

    def reference(
        self, run: Run, x: Array, seed: Array | None = None, step: Array | None = None
    ) -> tuple[Array, Array]:
        if seed is None or step is None:
            return fixed_nearest(x, self.bits)
        return fixed_random(x, self.bits, int(seed), int(step), self.stream)

    def gradient(self, back: Backward, dy: str | None, dscale: str | None) -> Sequence[str | None]:
        return (None if dy is None else real_gradient(back, dy), *(None for _ in back.node.inputs[1:]))

    def for_training(self, training: Training) -> tuple[str, ...] | None:
        if not self.draws or self.stochastic:
            return None
        drawing = replace(self, stochastic=True, stream=crc32(training.node.name.encode()))
        seed, step = (training.builder.runtime(name, "uint32") for name in ("seed", "step"))
        return training.apply(drawing, training.node.inputs[0], seed, step)

    def lower(self, to: Lowering) -> None:
        count = to.size(to.input_type(0).size)
        if not self.stochastic:
            to.call(f"et_fixed_nearest_i{self.bits}", count, to.read(0), to.write(0), to.write(1))
            return
        stream = to.constant(f"{self.stream}u", "uint32_t")
        draw = (to.read(1), to.read(2), stream)
        to.call(f"et_fixed_random_i{self.bits}", count, *draw, to.read(0), to.write(0), to.write(1))


@dataclass(frozen=True)
class FixedGradientQuantizer(GradientQuantizer):
    """Gradients in dynamic fixed point, rounded stochastically."""

    bits: int = 8

    @property
    def largest(self) -> int:  # type: ignore[override]
        return largest_mantissa(self.bits)

    def apply(self, back: Backward, dy: str) -> tuple[str, str]:
        stream = crc32(f"{back.node.name}.gradient".encode())
        op = FixedQuantize(self.bits, stochastic=True, stream=stream)
        mantissas, scale = back.apply_all(op, dy, *(back.runtime(name, "uint32") for name in ("seed", "step")))
        return mantissas, scale


@op
@dataclass(frozen=True)
class FixedUpper(Op):
    """master int16 -> mantissas int8: (master + 128) >> 8, at most 127. The gradient passes straight through.

    Ties go up, not to the even neighbour: an addition and a shift is all that a weight costs.
    """

    def infer(self, master: TensorType) -> TensorType:
        require(master.dtype == "int16", f"a master of int16 is needed, not {master}")
        return TensorType(master.shape, "int8")

    def reference(self, run: Run, master: Array) -> Array:
        return upper_mantissa(master)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (dy,)

    def lower(self, to: Lowering) -> None:
        to.call("et_fixed_upper_i8", to.size(to.input_type(0).size), to.read(0), to.write(0))
