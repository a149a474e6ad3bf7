"""BinarizeWeights and StochasticBinarizeWeights: the signs of real weights, packed (toolkit.ops.signs).

    deterministic   bit = w >= 0                                 1 is +1, 0 is -1; both zeros give 1, NaN gives 0
    stochastic      bit = random_unit(seed, step, stream, i) < p     NaN gives 0
                    p   = madd(w, float32(0.5 / limit), 0.5)         hard sigmoid of w / limit; the comparison clips it

i is the row-major index of the weight. Weights are float32, or stored in 16 bits (toolkit.numerics.stored).

Gradient of both as in BinaryConnect (Courbariaux et al., arXiv 1511.00363, section 2.4): that of the binary weights
-limit and +limit is applied to the real ones. The bits stand for -1 and +1, so it is float32(1 / limit) * dy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from zlib import crc32

import numpy as np

from codegen.program import Argument, Layout
from toolkit.ir import Array, TensorType
from toolkit.numerics import madd, random_unit
from toolkit.numerics.stored import StoredFormat
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Lowering, Training
from toolkit.ops.packing import packed_layout
from toolkit.ops.reshape import Reshape
from toolkit.ops.scale import Scale
from toolkit.ops.signs import pack_signs, packed_signs_shape

HALF = np.float32(0.5)


@dataclass(frozen=True)
class _Binarize(Op):
    """What both share.

    Attributes:
        limit: the binary weights are -limit and +limit; positive.
        format: of weights that are stored in 16 bits; None for float32.
        groups: of the convolution that the weights belong to.
    """

    limit: float = 1.0
    format: StoredFormat | None = None
    groups: int = 1

    def __post_init__(self) -> None:
        require(self.limit > 0, "the magnitude of binary weights is positive")

    def check(self, w: TensorType) -> TensorType:
        """The type of the bits of weights w. Raises ShapeError where they are no weights."""
        stored = "float32" if self.format is None else self.format.dtype
        require(len(w.shape) >= 2 and w.dtype == stored, f"weights [taps..., IC, OC] of {stored} are needed, not {w}")
        return TensorType(packed_signs_shape(w.shape), "uint8")

    def values(self, w: Array) -> Array:
        """The real weights, float32."""
        return w if self.format is None else self.format.decode(w)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        assert dy is not None
        shape = back.type(back.input(0)).shape
        dw = dy if back.type(dy).shape == shape else back.apply(Reshape(shape), dy)
        dw = dw if self.limit == 1 else back.apply(Scale(1 / self.limit), dw)
        return (dw, *(None for _ in back.node.inputs[1:]))

    def layout(self, shape: tuple[int, ...]) -> Layout | None:
        """The order that the kernel of the weights' gradient leaves it in, so that an update need not reorder it."""
        taps, outputs = shape[:-2], shape[-1]
        depthwise = shape[-2] == 1 and self.groups == outputs
        if self.format is not None or depthwise:
            return None
        kernel_h, kernel_w = (*(1,) * (2 - len(taps)), *taps)
        return packed_layout(kernel_h, kernel_w, shape[-2], outputs, self.groups)

    def lower_signs(self, to: Lowering, kernel: str, *draw: Argument) -> None:
        """The call of a kernel, with what it needs to draw."""
        suffix = "f32" if self.format is None else self.format.kernel
        shape = to.input_type(0).shape
        layout = self.layout(shape)
        order = (1, shape[-1]) if layout is None else (self.groups, 16)
        sizes = [to.size(size) for size in (prod(shape[:-2]), shape[-2], shape[-1], *order)]
        to.call(f"et_{kernel}_{suffix}", *sizes, *draw, to.read(0, layout), to.write(0))

    def lower_draw(self, to: Lowering, *draw: Argument) -> None:
        """The call that draws signs with these seed, step and stream."""
        fixed = self.format if self.format is not None and self.format.name == "fixed" else None
        exponent = () if fixed is None else (to.constant(fixed.exponent, "int32_t"),)
        self.lower_signs(to, "draw_signs", *exponent, to.real(0.5 / self.limit), *draw)


@op
@dataclass(frozen=True)
class BinarizeWeights(_Binarize):
    """w [taps..., IC, OC] -> bits uint8 [OC, taps, ceil(IC / 8)].

    Attributes:
        stochastic: whether training draws the signs of weights that train.
    """

    stochastic: bool = False

    def infer(self, w: TensorType) -> TensorType:
        return self.check(w)

    def reference(self, run: Run, w: Array) -> Array:
        return pack_signs(self.values(w) >= 0)

    def for_training(self, training: Training) -> tuple[str, ...] | None:
        w = training.node.inputs[0]
        if not self.stochastic or w not in training.trained:
            return None
        stream = crc32(f"{training.node.name}.signs".encode())
        seed, step = (training.builder.runtime(name, "uint32") for name in ("seed", "step"))
        return training.apply(StochasticBinarizeWeights(self.limit, self.format, self.groups, stream), w, seed, step)

    def lower(self, to: Lowering) -> None:
        self.lower_signs(to, "pack_signs")


@op
@dataclass(frozen=True)
class StochasticBinarizeWeights(_Binarize):
    """(w [taps..., IC, OC], seed, step uint32 scalars) -> bits uint8 [OC, taps, ceil(IC / 8)].

    Drawn once a step: forward pass and data gradient read the same bits.

    Attributes:
        stream: tells the nodes of a model apart.
    """

    stream: int = 0

    def infer(self, w: TensorType, seed: TensorType, step: TensorType) -> TensorType:
        require(seed == step == TensorType((), "uint32"), "seed and step are uint32 scalars")
        return self.check(w)

    def reference(self, run: Run, w: Array, seed: Array, step: Array) -> Array:
        chance = madd(self.values(w), np.float32(0.5 / self.limit), HALF, run.fma)
        index = np.arange(w.size).reshape(w.shape)
        return pack_signs(random_unit(int(seed), int(step), self.stream, index) < chance)

    def lower(self, to: Lowering) -> None:
        self.lower_draw(to, to.read(1), to.read(2), to.constant(f"{self.stream}u", "uint32_t"))


@op
@dataclass(frozen=True)
class SampleSigns(_Binarize):
    """w -> bits drawn as in a training step with these numbers: one member of an ensemble, fixed when compiling.

    Attributes:
        member: which of the ensemble, as the step of the draw.
        stream: tells the nodes of a model apart.
    """

    member: int = 0
    stream: int = 0

    no_gradient = "an ensemble is not trained"

    def infer(self, w: TensorType) -> TensorType:
        return self.check(w)

    def reference(self, run: Run, w: Array) -> Array:
        drawn = StochasticBinarizeWeights(self.limit, self.format, self.groups, self.stream)
        return drawn.reference(run, w, np.array(0, np.uint32), np.array(self.member, np.uint32))

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        raise AssertionError(self.no_gradient)

    def lower(self, to: Lowering) -> None:
        self.lower_draw(to, *(to.constant(f"{number}u", "uint32_t") for number in (0, self.member, self.stream)))
