"""BatchNormalization over the last axis (channels), and how it trains.

Inference normalises with the running statistics:
    a = gamma / sqrt(var + epsilon),  b = madd(-mean, a, beta),  y = madd(x, a, b)
Training with batch statistics (training option `batch_norm` = batch, the default), where gamma is trained:
    mean = sum(x) * (1 / rows)                           rows ascending, plain additions from 0
    squares = sum of madd(x - mean, x - mean, ...)       rows ascending, from 0
    inverse_deviation = 1 / sqrt(squares * (1 / rows) + epsilon)
    y = madd(x - mean, gamma * inverse_deviation, beta)
    variance = squares * (1 / (rows - 1))                unbiased, for the running statistics, as in PyTorch
    running = madd(momentum, running, (1 - momentum) * batch value)
`rows` is everything but the channels. A layer with one row per channel has no batch statistics, and a layer whose gamma
is frozen does not drift: both, and all layers with `batch_norm` = running, normalise with the running statistics, which
then stay as they are and count as constants in the gradient. Where beta alone is trained, x is therefore not needed for
the backward pass, and is not kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codegen.forms import Form
from codegen.program import Argument
from toolkit.ir import Array, TensorType
from toolkit.numerics import madd, rsqrt, sqrt
from toolkit.ops.base import Op, Run, UnsupportedError, op, require
from toolkit.ops.contexts import Backward, Import, Lowering, Training

OPTION = "batch_norm"
ONE = np.float32(1)


def _require_channels(x: TensorType, *vectors: TensorType) -> None:
    """Raises ShapeError unless every vector has one float32 per channel of x."""
    require(len(x.shape) >= 2, f"batch normalization needs at least two axes, not {x}")
    for vector in (TensorType(x.shape[-1:]), *vectors):
        require(vector == TensorType(x.shape[-1:], x.dtype), f"{vector} does not fit the channels of {x}")


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


@op
@dataclass(frozen=True)
class BatchNormalization(Op):
    """Inputs x [..., C], gamma, beta, mean, var [C]; output y [..., C]; all float32. y may be x."""

    epsilon: float = 1e-5
    momentum: float = 0.9

    onnx = ("BatchNormalization",)
    smooth = True
    bias_inputs = (2,)
    statistics_inputs = (3, 4)

    def infer(self, x: TensorType, *vectors: TensorType) -> TensorType:
        _require_channels(x, *vectors)
        return x

    def reference(self, run: Run, x: Array, gamma: Array, beta: Array, mean: Array, var: Array) -> Array:
        scale = gamma / sqrt(var + np.float32(self.epsilon))
        return madd(x, scale, madd(-mean, scale, beta, run.fma), run.fma)

    def for_training(self, training: Training) -> tuple[str, ...] | None:
        x, gamma, beta, mean, var = training.node.inputs
        mode = training.options.get(OPTION, "batch")
        rows = training.builder.type(x or "").size // training.builder.type(gamma or "").size
        if mode != "batch" or rows == 1 or gamma not in training.trained:
            return None
        y, batch_mean, _, batch_var = training.apply(BatchNormTraining(self.epsilon), x, gamma, beta)
        for old, new, what in ((mean, batch_mean, "mean"), (var, batch_var, "var")):
            assert old is not None
            name = f"{training.node.name}.running_{what}"
            training.update(old, training.builder.apply(RunningStatistic(self.momentum), old, new, name=name)[0])
        return (y,)

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        x, gamma, mean, var = (back.input(index) for index in (0, 1, 3, 4))
        inverse = back.apply(InverseDeviation(self.epsilon), var) if back.needs(0) or back.needs(1) else None
        dx = back.apply(BatchNormRunningGrad(), dy, gamma, inverse) if back.needs(0) else None
        if not back.needs(1):
            return (dx, None, dy if back.needs(2) else None, None, None)  # summed over the rows by the caller
        dgamma, dbeta = back.apply_all(BatchNormParameterGrad(), dy, x, mean, inverse)
        return (dx, dgamma, dbeta if back.needs(2) else None, None, None)

    def lower(self, to: Lowering) -> None:
        x = to.input_type(0)
        channels = x.shape[-1]
        to.call(
            "et_batch_norm_f32",
            to.size(x.size // channels), to.size(channels), to.real(self.epsilon),
            *(to.read(index) for index in range(5)),
            to.scratch(8 * channels), to.write(0, in_place=(0,)),
        )  # fmt: skip

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        if node.attribute("training_mode", 0) or any(node.output_used(i) for i in range(1, node.outputs)):
            raise UnsupportedError("training_mode=1; export the model in evaluation mode, training is chosen here")
        if node.opset < 9 and not node.attribute("spatial", 1):
            raise UnsupportedError("spatial=0: statistics for every pixel are not supported")
        shape = node.shape(0)
        if len(shape) < 2:
            raise UnsupportedError(f"an input of {len(shape)} axes; at least two are needed")
        x = node.channels_last(0) if len(shape) > 2 else node.plain(0)
        parameters = [node.parameter(index) for index in range(1, 5)]
        normalized = cls(float(node.attribute("epsilon", 1e-5)), float(node.attribute("momentum", 0.9)))
        (y,) = node.apply(normalized, x, *parameters)
        return (node.emit_channels_last(0, y) if len(shape) > 2 else node.emit(0, y),)


@op
@dataclass(frozen=True)
class BatchNormTraining(Op):
    """Inputs x [..., C], gamma, beta [C]. Outputs y [..., C], mean, inverse deviation and unbiased variance [C]."""

    epsilon: float

    bias_inputs = (2,)
    addend = 3
    relu_form = None

    def infer(self, x: TensorType, gamma: TensorType, beta: TensorType) -> tuple[TensorType, ...]:
        _require_channels(x, gamma, beta)
        require(x.size > x.shape[-1], f"{x} has one element per channel: there are no batch statistics")
        return x, gamma, gamma, gamma

    def reference(self, run: Run, x: Array, gamma: Array, beta: Array) -> tuple[Array, ...]:
        rows = _rows(x)
        share, unbiased = ONE / np.float32(len(rows)), ONE / np.float32(len(rows) - 1)
        total = np.zeros(x.shape[-1], np.float32)
        for row in rows:
            total += row
        mean = total * share
        squares = np.zeros_like(mean)
        for row in rows - mean:
            squares = madd(row, row, squares, run.fma)
        inverse = rsqrt(squares * share + np.float32(self.epsilon))
        y = madd(x - mean, gamma * inverse, beta, run.fma)
        return y, mean, inverse, squares * unbiased

    def gradient(self, back: Backward, dy: str | None, *others: str | None) -> Sequence[str | None]:
        x, gamma = back.input(0), back.input(1)
        statistics = back.output(1), back.output(2)
        dgamma, dbeta = back.apply_all(BatchNormParameterGrad(), dy, x, *statistics)
        dx = back.apply(BatchNormBatchGrad(), dy, x, gamma, *statistics, dgamma, dbeta) if back.needs(0) else None
        return (dx, dgamma if back.needs(1) else None, dbeta if back.needs(2) else None)

    def lower(self, to: Lowering) -> None:
        self.call_kernel(to, "")

    def ends_in_relu(self, *inputs: TensorType | None) -> bool:
        """Whether there is a kernel of both."""
        return True

    def ends_in_sum(self, x: TensorType, *vectors: TensorType) -> tuple[Form, ...]:
        """The kernel that adds a tensor to y takes nothing that the others do not have."""
        return ()

    def call_kernel(self, to: Lowering, part: str, *options: Argument) -> None:
        """Calls et_batch_norm_train<part>_f32, with options behind epsilon, and any addend behind the inputs."""
        x = to.input_type(0)
        addend = (to.read(self.addend),) if to.has(self.addend) else ()
        to.call(
            f"et_batch_norm_train{part}_f32",
            to.size(x.size // x.shape[-1]), to.size(x.shape[-1]), to.real(self.epsilon), *options,
            to.read(0), to.read(1), to.read(2), *addend,
            to.write(0, in_place=(self.addend,)), to.write(1), to.write(2), to.write(3),
        )  # fmt: skip


@op
@dataclass(frozen=True)
class RunningStatistic(Op):
    """madd(momentum, running, (1 - momentum) * batch); inputs running, batch [C]; in the memory of `running`."""

    momentum: float

    no_gradient = "only used for what is kept between steps"
    elementwise = True

    def infer(self, running: TensorType, batch: TensorType) -> TensorType:
        require(running == batch, f"{running} and {batch} differ")
        return running

    def reference(self, run: Run, running: Array, batch: Array) -> Array:
        return madd(np.float32(self.momentum), running, np.float32(1 - self.momentum) * batch, run.fma)

    def lower(self, to: Lowering) -> None:
        to.call(
            "et_running_statistic_f32",
            to.size(to.input_type(0).size), to.real(self.momentum), to.real(1 - self.momentum),
            to.read(0), to.read(1), to.write(0, in_place=(0,)),
        )  # fmt: skip


@op
@dataclass(frozen=True)
class InverseDeviation(Op):
    """1 / sqrt(var + epsilon): a root and a division, each rounded."""

    epsilon: float

    no_gradient = "running statistics are constants"
    elementwise = True

    def infer(self, var: TensorType) -> TensorType:
        return var

    def reference(self, run: Run, var: Array) -> Array:
        return rsqrt(var + np.float32(self.epsilon))

    def lower(self, to: Lowering) -> None:
        count = to.size(to.input_type(0).size)
        to.call("et_inverse_deviation_f32", count, to.real(self.epsilon), to.read(0), to.write(0, in_place=(0,)))


@op
@dataclass(frozen=True)
class BatchNormParameterGrad(Op):
    """Inputs dy, x [..., C], mean, inverse deviation [C]; outputs dgamma, dbeta [C].

    dgamma = inverse * sum of madd(dy, x - mean, ...), dbeta = sum of dy; rows ascending, from 0.
    """

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType, x: TensorType, *vectors: TensorType) -> tuple[TensorType, TensorType]:
        require(dy == x, f"gradient {dy} and input {x} differ")
        _require_channels(x, *vectors)
        return vectors[0], vectors[0]

    def reference(self, run: Run, dy: Array, x: Array, mean: Array, inverse: Array) -> tuple[Array, Array]:
        dgamma, dbeta = np.zeros_like(mean), np.zeros_like(mean)
        for gradient, deviation in zip(_rows(dy), _rows(x) - mean, strict=True):
            dgamma = madd(gradient, deviation, dgamma, run.fma)
            dbeta = dbeta + gradient
        return dgamma * inverse, dbeta

    def lower(self, to: Lowering) -> None:
        x = to.input_type(1)
        to.call(
            "et_batch_norm_grad_parameters_f32",
            to.size(x.size // x.shape[-1]), to.size(x.shape[-1]),
            to.read(0), to.read(1), to.read(2), to.read(3), to.write(0), to.write(1),
        )  # fmt: skip


@op
@dataclass(frozen=True)
class BatchNormRunningGrad(Op):
    """dx = dy * (gamma * inverse): the running statistics are constants. dx may be dy."""

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType, *vectors: TensorType) -> TensorType:
        _require_channels(dy, *vectors)
        return dy

    def reference(self, run: Run, dy: Array, gamma: Array, inverse: Array) -> Array:
        return np.asarray(dy * (gamma * inverse))

    def lower(self, to: Lowering) -> None:
        dy = to.input_type(0)
        to.call(
            "et_batch_norm_grad_running_f32",
            to.size(dy.size // dy.shape[-1]), to.size(dy.shape[-1]),
            to.read(0), to.read(1), to.read(2), to.write(0, in_place=(0,)),
        )  # fmt: skip


@op
@dataclass(frozen=True)
class BatchNormBatchGrad(Op):
    """Inputs dy, x [..., C], gamma, mean, inverse deviation, dgamma, dbeta [C]; output dx, which may be dy or x.

    dx = (gamma * inverse) * madd(-slope, x - mean, dy - shift)
    with slope = (dgamma * inverse) * (1 / rows) and shift = dbeta * (1 / rows).
    """

    no_gradient = "second derivatives are not used"

    def infer(self, dy: TensorType, x: TensorType, *vectors: TensorType) -> TensorType:
        require(dy == x, f"gradient {dy} and input {x} differ")
        _require_channels(x, *vectors)
        return x

    def reference(
        self, run: Run, dy: Array, x: Array, gamma: Array, mean: Array, inverse: Array, dgamma: Array, dbeta: Array
    ) -> Array:
        share = ONE / np.float32(len(_rows(x)))
        slope, shift = (dgamma * inverse) * share, dbeta * share
        return np.asarray((gamma * inverse) * madd(-slope, x - mean, dy - shift, run.fma))

    def lower(self, to: Lowering) -> None:
        x = to.input_type(1)
        to.call(
            "et_batch_norm_grad_batch_f32",
            to.size(x.size // x.shape[-1]), to.size(x.shape[-1]),
            *(to.read(index) for index in range(7)), to.write(0, in_place=(0, 1)),
        )  # fmt: skip
