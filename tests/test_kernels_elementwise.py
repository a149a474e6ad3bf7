"""The kernels of the elementwise, softmax, loss and optimizer ops: the same bits as the reference, in place and not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import assert_parity, broadcast_pairs, floats, floats_with_special, reference_gradients, shapes
from toolkit.ops.accumulate import Accumulate
from toolkit.ops.adam import Adam, AdamAdvance
from toolkit.ops.add import Add
from toolkit.ops.base import Op, Run
from toolkit.ops.broadcasting import broadcast_shape
from toolkit.ops.clip import Clip, ClipGrad
from toolkit.ops.div import Div
from toolkit.ops.dropout import DropoutTraining
from toolkit.ops.erf import Erf, ErfGrad
from toolkit.ops.gelu import Gelu, GeluGrad
from toolkit.ops.hard_sigmoid import HardSigmoid, HardSigmoidGrad
from toolkit.ops.hard_swish import HardSwish, HardSwishGrad
from toolkit.ops.leaky_relu import LeakyRelu, LeakyReluGrad
from toolkit.ops.log_softmax import LogSoftmax, LogSoftmaxGrad
from toolkit.ops.mean_squared_error import MeanSquaredError, MeanSquaredErrorGrad
from toolkit.ops.mul import Mul
from toolkit.ops.neg import Neg
from toolkit.ops.prelu import PRelu, PReluGradInput, PReluGradSlope
from toolkit.ops.relu import Relu, ReluGrad
from toolkit.ops.scale import Scale
from toolkit.ops.sgd import Sgd
from toolkit.ops.sigmoid import Sigmoid, SigmoidGrad
from toolkit.ops.softmax import Softmax, SoftmaxGrad
from toolkit.ops.softmax_cross_entropy import SoftmaxCrossEntropy, SoftmaxCrossEntropyGrad
from toolkit.ops.squared_hinge import SquaredHinge, SquaredHingeGrad
from toolkit.ops.sub import Sub
from toolkit.ops.sum_to import SumTo
from toolkit.ops.swish import Swish, SwishGrad
from toolkit.ops.tanh import Tanh, TanhGrad
from toolkit.ops.zero import Zero

seeds = st.integers(0, 2**31)


SAME_SHAPE: list[tuple[Op, int]] = [
    (Relu(), 1), (LeakyRelu(0.1), 1), (LeakyRelu(-0.5), 1), (Clip(), 1), (Clip(0, 6), 1), (Clip(-1, 0), 1), (Neg(), 1),
    (Clip(maximum=1.5), 1), (HardSigmoid(), 1), (HardSwish(), 1), (Sigmoid(), 1), (Tanh(), 1), (Scale(0.3), 1),
    (Erf(), 1), (Gelu(), 1), (Gelu(True), 1), (Swish(), 1), (Swish(-0.7), 1),
    (ErfGrad(), 2), (GeluGrad(), 2), (GeluGrad(True), 2), (SwishGrad(1.0), 2), (SwishGrad(-0.7), 2),
    (Add(), 2), (Sub(), 2), (Mul(), 2), (Div(), 2),
    (Accumulate(), 2), (ReluGrad(), 2), (LeakyReluGrad(0.1), 2), (ClipGrad(-1, 3), 2), (HardSigmoidGrad(0.2), 2),
    (ClipGrad(1e-45, 1.5), 2), (ClipGrad(2, 1), 2),
    (HardSwishGrad(), 2), (SigmoidGrad(), 2), (TanhGrad(), 2), (PRelu(), 2), (PReluGradSlope(), 2),
    (MeanSquaredErrorGrad(), 2), (Softmax(0), 1), (LogSoftmax(0), 1), (SoftmaxGrad(0), 2), (LogSoftmaxGrad(0), 2),
    (MeanSquaredError(), 2),
]  # fmt: skip


@pytest.mark.parametrize(("op", "operands"), SAME_SHAPE, ids=[str(op) for op, _ in SAME_SHAPE])
@given(st.integers(1, 70), seeds, st.booleans())
def test_elementwise_kernels_give_the_bits_of_the_reference(
    op: Op, operands: int, count: int, seed: int, odd: bool
) -> None:
    make = floats_with_special if odd else floats
    assert_parity(op, [make(seed + index, count) for index in range(operands)])


@pytest.mark.parametrize("op", [Add, Sub, Mul, Div])
@given(broadcast_pairs(), seeds)
def test_broadcast_kernels_give_the_bits_of_the_reference(op: type[Op], pair: Any, seed: int) -> None:
    assert_parity(op(), [floats_with_special(seed, *pair[0]), floats_with_special(seed + 1, *pair[1])])


@given(shapes(), st.data(), seeds)
def test_prelu_kernels_give_the_bits_of_the_reference(shape: tuple[int, ...], data: Any, seed: int) -> None:
    slope = tuple(1 if data.draw(st.booleans()) else n for n in shape)[data.draw(st.integers(0, len(shape) - 1)) :]
    dy, x, slopes = (floats_with_special(seed + i, *s) for i, s in enumerate((shape, shape, slope)))
    assert_parity(PRelu(), [x, slopes])
    assert_parity(PReluGradInput(), [dy, x, slopes])


@given(broadcast_pairs(), st.sampled_from([1, 7, 40]), seeds)
def test_sum_to_gives_the_bits_of_the_reference(pair: Any, columns: int, seed: int) -> None:
    assert_parity(SumTo(pair[0]), [floats_with_special(seed, *broadcast_shape(*pair))])
    assert_parity(SumTo((columns,)), [floats(seed, 5, 3, columns)])
    assert_parity(SumTo((5, 1, columns)), [floats(seed, 2, 5, 3, columns)])
    assert_parity(SumTo((3, 1)), [floats(seed, 2, 3, columns)])


@given(shapes(max_rank=3), st.data(), seeds, st.booleans())
def test_softmax_kernels_give_the_bits_of_the_reference(
    shape: tuple[int, ...], data: Any, seed: int, odd: bool
) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    make = floats_with_special if odd else floats
    x, dy = make(seed, *shape), make(seed + 1, *shape)
    for op in (Softmax, LogSoftmax):
        assert_parity(op(axis), [x])
    for gradient in (SoftmaxGrad, LogSoftmaxGrad):
        assert_parity(gradient(axis), [dy, x])


@given(st.integers(1, 5), st.integers(1, 12), seeds, st.booleans())
def test_loss_kernels_give_the_bits_of_the_reference(n: int, classes: int, seed: int, odd: bool) -> None:
    make = floats_with_special if odd else floats
    scores, targets = make(seed, n, classes), make(seed + 1, n, classes)
    labels = np.random.default_rng(seed).integers(0, classes, n).astype(np.int32)
    for op in (SoftmaxCrossEntropy(), SoftmaxCrossEntropyGrad(), SquaredHinge(), SquaredHingeGrad()):
        assert_parity(op, [scores, labels])
        assert_parity(op, [scores, targets])
    assert_parity(MeanSquaredError(), [scores, targets])


@given(st.integers(1, 40), st.sampled_from([0.0, 0.01]), seeds)
def test_optimizer_kernels_give_the_bits_of_the_reference(count: int, decay: float, seed: int) -> None:
    w, gradient, m = (floats(seed + i, count) for i in range(3))
    v, powers, rate = np.abs(floats(seed, count)), np.array([0.9, 0.999], np.float32), np.asarray(np.float32(0.05))
    for keep in (False, True):  # outputs in memory of their own, and in that of the states they replace
        assert_parity(Sgd(0, False, decay), [w, gradient, rate], {0: 0} if keep else None)
        for nesterov in (False, True):
            states = {0: 0, 3: 1} if keep else None
            assert_parity(Sgd(0.9, nesterov, decay), [w, gradient, rate, m], states)
        states = {0: 0, 3: 1, 4: 2} if keep else None
        assert_parity(Adam(weight_decay=decay), [w, gradient, rate, m, v, powers], states)
        assert_parity(AdamAdvance(), [powers], {0: 0} if keep else None)
        assert_parity(Accumulate(), [w, gradient], {0: 0} if keep else None)
    assert_parity(Zero(), [w], {0: 0})


@given(shapes(), st.sampled_from([0.1, 0.5, 0.9]), st.integers(0, 2**32 - 1), st.integers(0, 1000))
def test_dropout_gives_the_bits_of_the_reference(shape: tuple[int, ...], ratio: float, seed: int, step: int) -> None:
    x = floats(seed % 1000, *shape)
    scalars = [np.asarray(np.uint32(seed)), np.asarray(np.uint32(step))]
    assert_parity(DropoutTraining(ratio, 0xDEADBEEF), [x, *scalars])
    dx, *_ = reference_gradients(DropoutTraining(ratio, 5), [x, *scalars], [x])
    assert dx is not None and np.array_equal(dx, DropoutTraining(ratio, 5).run(Run(), x, *scalars)[0])
