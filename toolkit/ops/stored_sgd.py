"""StoredSgd: plain SGD on a weight kept in 16 bits, rounded stochastically as it is stored; StoredValue reads it.

    w = value of the stored number                 exact in float32 (toolkit.numerics.stored)
    g = madd(weight_decay, w, gradient)            only with weight decay
    v = madd(-(learning_rate * rate_scale), g, w)
    v = low where v < low, high where v > high
    stored' = v rounded stochastically             random_u32(seed, step, stream, row-major index)

Random numbers cost more than the rest. With `lines`, rows and columns (the last axis) draw instead:

    r(i) = random_u32(seed, step, stream, i)       element (i, j) rounds with r(i) xor r(rows + j)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np

from codegen.program import Argument
from toolkit.ir import Array, TensorType
from toolkit.numerics import all_finite, madd
from toolkit.numerics.random import random_at, random_key
from toolkit.numerics.stored import StoredFormat
from toolkit.ops.base import Op, Run, StepAborted, op, require
from toolkit.ops.contexts import Backward, Lowering


@op
@dataclass(frozen=True)
class StoredSgd(Op):
    """(stored, gradient float32, learning_rate, seed, step scalars) -> stored', which replaces stored in place.

    A non-finite gradient ends the step with ET_NONFINITE_GRADIENT before anything is changed (N8).

    Attributes:
        format: of the stored numbers.
        weight_decay: 0 leaves that line out.
        rate_scale: multiplies the learning rate.
        low, high: bounds of the weights.
        stream: tells the parameters of a model apart.
        lines: rows and columns draw, instead of each element for itself.
    """

    format: StoredFormat = field(default_factory=StoredFormat)
    weight_decay: float = 0.0
    rate_scale: float = 1.0
    low: float = -inf
    high: float = inf
    stream: int = 0
    lines: bool = False

    no_gradient = "it is the optimizer"

    def infer(
        self, stored: TensorType, gradient: TensorType, learning_rate: TensorType, seed: TensorType, step: TensorType
    ) -> TensorType:
        require(stored.dtype == self.format.dtype, f"{stored} is not stored as {self.format.name}")
        require(gradient == TensorType(stored.shape), f"the gradient {gradient} does not fit {stored}")
        require(learning_rate == TensorType(()), "the learning rate is a float32 scalar")
        require(seed == step == TensorType((), "uint32"), "seed and step are uint32 scalars")
        return stored

    def reference(
        self, run: Run, stored: Array, gradient: Array, learning_rate: Array, seed: Array, step: Array
    ) -> Array:
        if not all_finite(gradient):
            raise StepAborted("ET_NONFINITE_GRADIENT")
        w = self.format.decode(stored)
        g = madd(np.float32(self.weight_decay), w, gradient, run.fma) if self.weight_decay else gradient
        v = madd(-(learning_rate * np.float32(self.rate_scale)), g, w, run.fma)
        low, high = np.float32(self.low), np.float32(self.high)
        v = np.where(v < low, low, np.where(v > high, high, v))
        key = random_key(int(seed), int(step), self.stream)
        if not self.lines:
            return self.format.encode(v, random_at(key, np.arange(stored.size).reshape(stored.shape)))
        rows, columns = self._matrix(TensorType(stored.shape))
        row = random_at(key, np.arange(rows))[:, None]
        random = (row ^ random_at(key, rows + np.arange(columns))).reshape(stored.shape)
        return self.format.encode(v, random)

    @staticmethod
    def _matrix(w: TensorType) -> tuple[int, int]:
        """Rows and columns of a weight."""
        columns = w.shape[-1] if w.shape else 1
        return w.size // columns, columns

    def options(self, to: Lowering) -> Argument:
        """The struct et_stored_sgd."""
        rows, columns = self._matrix(to.output_type())
        return to.struct(
            "et_stored_sgd",
            {
                "exponent": self.format.exponent, "rate_scale": self.rate_scale, "weight_decay": self.weight_decay,
                "low": self.low, "high": self.high, "stream": self.stream,
                "lines": int(self.lines), "rows": rows, "columns": columns,
            },
            "options",
        )  # fmt: skip

    def lower(self, to: Lowering) -> None:
        rate, seed, step = (to.read(index) for index in (2, 3, 4))
        kernel = f"et_sgd_{self.format.kernel}"
        count = to.size(to.input_type(0).size)
        to.call(
            kernel, count, self.options(to), rate, seed, step, to.read(1), to.read(0), to.write(0, in_place=(0,))
        )


@op
@dataclass(frozen=True)
class StoredValue(Op):
    """stored -> the float32 values, exact. The gradient of the values is that of what is stored."""

    format: StoredFormat = field(default_factory=StoredFormat)

    def infer(self, stored: TensorType) -> TensorType:
        require(stored.dtype == self.format.dtype, f"{stored} is not stored as {self.format.name}")
        return TensorType(stored.shape)

    def reference(self, run: Run, stored: Array) -> Array:
        return self.format.decode(stored)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (dy,)

    def lower(self, to: Lowering) -> None:
        count, exponent = to.size(to.input_type(0).size), to.constant(self.format.exponent, "int32_t")
        options = (exponent,) if self.format.name == "fixed" else ()
        to.call(f"et_decode_{self.format.kernel}", count, *options, to.read(0), to.write(0))
