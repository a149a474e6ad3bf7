"""LogSoftmax: y = (x - max) - log(s), s as in Softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.ir import Array, TensorType
from toolkit.numerics import exp, log, madd
from toolkit.ops.base import Run, op
from toolkit.ops.contexts import Backward, Import, Lowering
from toolkit.ops.softmax import OverAxes, import_over_axes, less_maximum, sum_ascending


@op
@dataclass(frozen=True)
class LogSoftmax(OverAxes):
    """y[o][j][i] = (x[o][j][i] - max over j) - log(sum over j)."""

    onnx = ("LogSoftmax",)
    smooth = True

    def infer(self, x: TensorType) -> TensorType:
        return self.check(x)

    def reference(self, run: Run, x: Array) -> Array:
        shifted = less_maximum(x.reshape(self.split(x.shape)))
        return (shifted - log(sum_ascending(exp(shifted)))).reshape(x.shape)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return (back.apply(LogSoftmaxGrad(self.axis, self.axes), dy, back.output()),)

    def lower(self, to: Lowering) -> None:
        to.call("et_log_softmax_f32", *self.sizes(to), to.read(0), to.write(0, in_place=(0,)))

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        return import_over_axes(node, cls)


@op
@dataclass(frozen=True)
class LogSoftmaxGrad(OverAxes):
    """dx = madd(-exp(y), s, dy) with s = the sum over j of dy: plain additions, ascending, from 0."""

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType, y: TensorType) -> TensorType:
        return self.check(dy, y)

    def reference(self, run: Run, dy: Array, y: Array) -> Array:
        grouped = dy.reshape(self.split(y.shape))
        return madd(-exp(y.reshape(grouped.shape)), sum_ascending(grouped), grouped, run.fma).reshape(y.shape)

    def lower(self, to: Lowering) -> None:
        to.call("et_log_softmax_grad_f32", *self.sizes(to), to.read(0), to.read(1), to.write(0, in_place=(0, 1)))
