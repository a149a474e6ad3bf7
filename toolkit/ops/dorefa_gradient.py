"""DorefaGradient: codes of gradients, of 1 to 8 bits, with noise (DoReFa-Net, arXiv 1606.06160, section 2.4).

For each sample, with n = 2^bits - 1:

    m      largest |g|
    f      n * 2^15 / m, rounded to float32
    place  floor(|g| * f), of the exact product, with the sign of g: in [-n * 2^15, n * 2^15]
    code   2 * ((place + n * 2^15 + h) >> 16) - n: an odd integer in [-n, n]; it stands for code * scale
    scale  m / n

h is half i % 2, lowest first, of random number i / 2 of (seed, step, stream), for element i of the tensor. This is the
paper's 2 m (quantize(g / (2 m) + 1/2 + noise) - 1/2) with noise of 2^16 values: codes are unbiased to 2^-16, and no
noise leads out of [0, 1] what the paper clips to it. |g| below 2^-126 counts as 0. Where m is below 2^-100, all places
are 0 and so is the scale; where an element is not finite, all places of its sample are 0 and the scale is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.numerics.fixed import random_units
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.dorefa_activations import LARGEST, levels, suffix
from toolkit.ops.quantized_conv import GradientQuantizer
from toolkit.ops.reshape import Reshape

_LEAST = np.float32(2.0**-100)
_LEAST_NORMAL = np.float32(2.0**-126)


@op
@dataclass(frozen=True)
class DorefaGradient(Op):
    """(g float32 [N, ...], seed, step uint32 scalars) -> codes, the same shape; scale float32 [N].

    Attributes:
        bits: 1 to 8.
        dtype: of the codes; int16 where the layer needs it, and for 8 bits.
        stream: tells the nodes of a model apart.
    """

    bits: int
    dtype: str = "int8"
    stream: int = 0

    no_gradient = "second derivatives are not used"

    def infer(self, g: TensorType, seed: TensorType, step: TensorType) -> tuple[TensorType, TensorType]:
        require(g.dtype == "float32" and len(g.shape) >= 1, f"a float32 gradient of samples is needed, not {g}")
        require(seed == step == TensorType((), "uint32"), "seed and step are uint32 scalars")
        require(levels(self.bits) <= LARGEST[self.dtype], f"codes of {self.bits} bits do not fit {self.dtype}")
        return TensorType(g.shape, self.dtype), TensorType(g.shape[:1])

    def reference(self, run: Run, g: Array, seed: Array, step: Array) -> tuple[Array, Array]:
        n = levels(self.bits)
        samples = g.reshape(g.shape[0], -1)
        largest = np.max(np.abs(samples), axis=1)
        usable = np.isfinite(largest) & (largest >= _LEAST)
        factor = np.where(usable, np.float32(n << 15) / largest, np.float32(0)).astype(np.float64)
        finite = np.where(usable[:, None] & (np.abs(samples) >= _LEAST_NORMAL), samples, np.float32(0))
        place = np.trunc(finite.astype(np.float64) * factor[:, None]).astype(np.int64)
        half = random_units(16, int(seed), int(step), self.stream, g.size).reshape(place.shape)
        codes = 2 * ((place + (n << 15) + half) >> 16) - n
        without = np.where(np.isfinite(largest), np.float32(0), np.float32(np.nan))
        return codes.reshape(g.shape).astype(self.dtype), np.where(usable, largest / np.float32(n), without)

    def lower(self, to: Lowering) -> None:
        g = to.input_type(0)
        counts = (to.size(g.shape[0]), to.size(g.size // g.shape[0]), to.constant(f"{levels(self.bits)}u", "uint32_t"))
        draw = (to.read(1), to.read(2), to.constant(f"{self.stream}u", "uint32_t"))
        kernel = f"et_dorefa_gradient_{suffix(self.dtype)}"
        to.call(kernel, *counts, *draw, to.read(0), to.write(0), to.write(1))


@dataclass(frozen=True)
class DorefaGradientQuantizer(GradientQuantizer):
    """Gradients of 1 to 8 bits with noise."""

    bits: int
    dtype: str = "int8"

    @property
    def largest(self) -> int:  # type: ignore[override]
        return levels(self.bits)

    def apply(self, back: Backward, dy: str) -> tuple[str, str]:
        stream = crc32(f"{back.node.name}.gradient".encode())
        draw = (back.runtime(name, "uint32") for name in ("seed", "step"))
        codes, scale = back.apply_all(DorefaGradient(self.bits, self.dtype, stream), dy, *draw)
        return codes, scale


@dataclass(frozen=True)
class DorefaTensorGradientQuantizer(GradientQuantizer):
    """Gradients of 1 to 7 bits with noise, one scale for all samples."""

    bits: int

    @property
    def largest(self) -> int:  # type: ignore[override]
        return levels(self.bits)

    def apply(self, back: Backward, dy: str) -> tuple[str, str]:
        shape = back.type(dy).shape
        row = back.apply(Reshape((1, back.type(dy).size)), dy)
        codes, scale = DorefaGradientQuantizer(self.bits).apply(back, row)
        return back.apply(Reshape(shape), codes), back.apply(Reshape(()), scale)
