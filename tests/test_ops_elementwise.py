"""Elementwise, softmax, loss and optimizer ops: right against float64 and PyTorch; what ends a step; their import."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import broadcast_pairs, floats, reference_gradients, run_in_c, run_nodes, shapes
from toolkit.ir import Array, TensorType
from toolkit.ops.adam import Adam, AdamAdvance
from toolkit.ops.add import Add
from toolkit.ops.base import Op, Run, ShapeError, StepAborted
from toolkit.ops.broadcasting import broadcast_shape, collapse, strides
from toolkit.ops.check_finite import CheckFinite
from toolkit.ops.clip import Clip
from toolkit.ops.div import Div
from toolkit.ops.dropout import DropoutTraining
from toolkit.ops.erf import Erf
from toolkit.ops.gelu import Gelu
from toolkit.ops.hard_sigmoid import HardSigmoid
from toolkit.ops.hard_swish import HardSwish
from toolkit.ops.leaky_relu import LeakyRelu
from toolkit.ops.log_softmax import LogSoftmax
from toolkit.ops.mean_squared_error import MeanSquaredError
from toolkit.ops.mul import Mul
from toolkit.ops.neg import Neg
from toolkit.ops.prelu import PRelu
from toolkit.ops.relu import Relu
from toolkit.ops.scale import Scale
from toolkit.ops.sgd import Sgd
from toolkit.ops.sigmoid import Sigmoid
from toolkit.ops.softmax import Softmax
from toolkit.ops.softmax_cross_entropy import SoftmaxCrossEntropy, SoftmaxCrossEntropyGrad
from toolkit.ops.squared_hinge import SquaredHinge, SquaredHingeGrad
from toolkit.ops.sub import Sub
from toolkit.ops.sum_to import SumTo
from toolkit.ops.swish import Swish
from toolkit.ops.tanh import Tanh

seeds = st.integers(0, 2**31)
BINARY: dict[type[Op], Callable[..., Any]] = {Add: np.add, Sub: np.subtract, Mul: np.multiply, Div: np.divide}


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(x: Array, axis: int) -> Array:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(e / e.sum(axis=axis, keepdims=True))


# One argument, float64: what each op means.
UNARY: list[tuple[Op, Callable[[Array], Array]]] = [
    (Relu(), lambda x: np.maximum(x, 0)),
    (LeakyRelu(0.1), lambda x: np.where(x > 0, x, 0.1 * x)),
    (LeakyRelu(-0.5), lambda x: np.where(x > 0, x, -0.5 * x)),
    (Clip(), lambda x: x),
    (Clip(0, 6), lambda x: np.clip(x, 0, 6)),
    (Clip(-1, 0), lambda x: np.clip(x, -1, 0)),
    (Clip(maximum=1.5), lambda x: np.minimum(x, 1.5)),
    (HardSigmoid(), lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
    (HardSwish(), lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    (Sigmoid(), sigmoid),
    (Tanh(), np.tanh),
    (Neg(), np.negative),
    (Scale(0.3), lambda x: 0.3 * x),
    (Erf(), np.vectorize(math.erf)),
    (Gelu(), lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2),
    (Gelu(True), lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2),
    (Swish(), lambda x: x * sigmoid(x)),
    (Swish(-0.7), lambda x: x * sigmoid(-0.7 * x)),
]
BY_UNARY = pytest.mark.parametrize(("op", "meaning"), UNARY, ids=[str(op) for op, _ in UNARY])
BY_BINARY = pytest.mark.parametrize("op", BINARY)


def close(found: Array, wanted: Array, relative: float = 1e-4) -> None:
    """Within `relative` of the largest value wanted."""
    assert found.shape == np.shape(wanted)
    largest = float(np.max(np.abs(wanted), initial=1e-3))
    np.testing.assert_allclose(found, wanted, rtol=relative, atol=relative * largest)


# ---- meaning


@BY_UNARY
def test_unary_ops_mean_what_they_say(op: Op, meaning: Callable[[Array], Array]) -> None:
    x = floats(1, 5, 7, scale=4)
    (y,) = op.run(Run(), x)
    close(y, meaning(x.astype(np.float64)), 1e-6)


@BY_BINARY
@given(broadcast_pairs(), seeds)
def test_binary_ops_are_numpy_with_broadcasting(op: type[Op], pair: Any, seed: int) -> None:
    a, b = floats(seed, *pair[0]), floats(seed + 1, *pair[1])
    (y,) = op().run(Run(), a, b)
    assert np.array_equal(y, BINARY[op](a, b))


@given(broadcast_pairs())
def test_collapsed_axes_walk_the_operands_as_broadcasting_does(pair: Any) -> None:
    shape = broadcast_shape(*pair)
    rows = collapse(shape, *pair)
    for operand in range(2):
        offsets = np.zeros((), np.int64)
        for row in rows:
            offsets = offsets[..., None] + np.arange(row[0]) * row[operand + 1]
        count = int(np.prod(pair[operand]))
        wanted = np.broadcast_to(np.arange(count).reshape(pair[operand]), shape)
        assert np.array_equal(offsets.reshape(-1), wanted.reshape(-1))
    assert all(row[0] > 1 for row in rows) or len(rows) == 1


def test_scalar_and_row_operands_collapse_to_one_and_two_axes() -> None:
    assert collapse((2, 3, 4), (2, 3, 4), ()) == [(24, 1, 0)]
    assert collapse((2, 3, 4), (2, 3, 4), (4,)) == [(6, 4, 0), (4, 1, 1)]
    assert strides((3, 1), 3) == (0, 1, 0)


def test_shapes_that_do_not_broadcast_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\[2, 3\] and \[4\]"):
        Add().output_types((TensorType((2, 3)), TensorType((4,))))
    with pytest.raises(ShapeError):
        PRelu().output_types((TensorType((3,)), TensorType((2, 3))))


@given(shapes(), st.data(), seeds)
def test_softmax_and_its_logarithm_over_any_axes(shape: tuple[int, ...], data: Any, seed: int) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    axes = data.draw(st.integers(1, len(shape) - axis))
    x = floats(seed, *shape, scale=5)
    together = x.reshape(*shape[:axis], -1, *shape[axis + axes :]).astype(np.float64)
    wanted = softmax(together, axis).reshape(shape)
    close(Softmax(axis, axes).run(Run(), x)[0], wanted, 1e-5)
    close(LogSoftmax(axis, axes).run(Run(), x)[0], np.log(wanted), 1e-5)


@given(broadcast_pairs(), seeds)
def test_sum_to_undoes_broadcasting(pair: Any, seed: int) -> None:
    x = floats(seed, *broadcast_shape(*pair))
    target = pair[0]
    padded = (1,) * (x.ndim - len(target)) + target
    axes = tuple(i for i, n in enumerate(padded) if n == 1)
    wanted = x.astype(np.float64).sum(axis=axes, keepdims=True).reshape(target)
    close(SumTo(target).run(Run(), x)[0], wanted, 1e-5)


def test_sums_are_taken_strictly_one_after_the_other() -> None:
    column = np.array([[1e8], [1.0], [-1e8], [1.0]] * 50, np.float32)
    (y,) = SumTo((1,)).run(Run(), column)
    total = np.float32(0)
    for value in column[:, 0]:
        total = total + value
    assert y[0] == total


def test_relu_and_clip_give_the_lower_bound_for_nan() -> None:
    nan = np.array([np.nan], np.float32)
    assert Relu().run(Run(), nan)[0][0] == 0
    assert Clip(-2, 3).run(Run(), nan)[0][0] == -2
    assert np.isnan(LeakyRelu().run(Run(), nan)[0][0])


def test_dropout_keeps_the_expected_share_and_differs_by_step_and_stream() -> None:
    x = np.ones(20000, np.float32)
    seed, step = np.uint32(3), np.uint32(0)
    (y,) = DropoutTraining(0.25, 7).run(Run(), x, np.asarray(seed), np.asarray(step))
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(np.mean(y != 0) - 0.75) < 0.01
    for other, later in ((7, 1), (8, 0)):
        (z,) = DropoutTraining(0.25, other).run(Run(), x, np.asarray(seed), np.asarray(np.uint32(later)))
        assert 0.3 < np.mean(y != z) < 0.45


def test_labels_out_of_range_end_the_step_before_anything_is_written() -> None:
    logits = floats(1, 3, 4)
    for bad in (-1, 4, 2**31 - 1):
        labels = np.array([0, bad, 1], np.int32)
        for op in (SoftmaxCrossEntropy(), SquaredHinge(), SoftmaxCrossEntropyGrad(), SquaredHingeGrad()):
            with pytest.raises(StepAborted, match="ET_BAD_LABEL"):
                op.run(Run(), logits, labels)
            status, outputs = run_in_c(op, [logits, labels], True)
            assert status == "ET_BAD_LABEL"
            assert all(np.all(output == 77) for output in outputs)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_non_finite_gradient_changes_nothing(value: float) -> None:
    w, gradient, m, v = floats(1, 9), floats(2, 9), floats(3, 9), np.abs(floats(4, 9))
    gradient[7] = value
    rate, powers = np.asarray(np.float32(0.1)), np.array([0.9, 0.999], np.float32)
    cases: list[tuple[Op, list[Array | None], dict[int, int]]] = [
        (Sgd(), [w, gradient, rate], {0: 0}),
        (Sgd(0.9, True, 0.01), [w, gradient, rate, m], {0: 0, 3: 1}),
        (Adam(), [w, gradient, rate, m, v, powers], {0: 0, 3: 1, 4: 2}),
    ]
    for op, inputs, states in cases:
        with pytest.raises(StepAborted, match="ET_NONFINITE_GRADIENT"):
            op.run(Run(), *inputs)
        status, outputs = run_in_c(op, inputs, True, states)
        assert status == "ET_NONFINITE_GRADIENT"
        for index, output in states.items():
            assert np.array_equal(outputs[output], inputs[index])  # type: ignore[arg-type]
    with pytest.raises(StepAborted, match="ET_NONFINITE_LOSS"):
        CheckFinite("ET_NONFINITE_LOSS").run(Run(), gradient)
    assert run_in_c(CheckFinite("ET_NONFINITE_LOSS"), [gradient], True)[0] == "ET_NONFINITE_LOSS"
    assert run_in_c(CheckFinite("ET_NONFINITE_LOSS"), [w], True)[0] == "ET_OK"


# ---- gradients


SMOOTH = [op for op, _ in UNARY if op.smooth]


def finite_differences(f: Callable[[Array], Array], x: Array, dy: Array) -> Array:
    """d(sum of f(x) * dy) / dx in float64, central."""
    x = x.astype(np.float64)
    result = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        shift = np.zeros_like(x)
        shift[index] = 1e-5
        result[index] = np.sum((f(x + shift) - f(x - shift)) * dy) / 2e-5
    return result


@pytest.mark.parametrize(("op", "meaning"), [pair for pair in UNARY if pair[0].smooth], ids=[str(op) for op in SMOOTH])
def test_smooth_unary_gradients_are_finite_differences(op: Op, meaning: Callable[[Array], Array]) -> None:
    x, dy = floats(5, 3, 4), floats(6, 3, 4)
    (dx,) = reference_gradients(op, [x], [dy])
    assert dx is not None
    close(dx, finite_differences(meaning, x, dy))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax_gradients_are_finite_differences(axis: int) -> None:
    x, dy = floats(5, 2, 3, 4), floats(6, 2, 3, 4)
    for op, outer in ((Softmax(axis), np.positive), (LogSoftmax(axis), np.log)):
        (dx,) = reference_gradients(op, [x], [dy])
        assert dx is not None
        close(dx, finite_differences(lambda x, outer=outer: outer(softmax(x, axis)), x, dy))  # type: ignore[misc]


@BY_BINARY
@given(broadcast_pairs(), seeds)
def test_binary_gradients_are_finite_differences(op: type[Op], pair: Any, seed: int) -> None:
    a, b = floats(seed, *pair[0]), floats(seed + 1, *pair[1])
    b = b + np.copysign(np.float32(1), b)
    dy = floats(seed + 2, *broadcast_shape(*pair))
    da, db = reference_gradients(op(), [a, b], [dy])
    assert da is not None and db is not None
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    close(da, finite_differences(lambda a: BINARY[op](a, b64), a, dy))
    close(db, finite_differences(lambda b: BINARY[op](a64, b), b, dy))


def torch_or_skip() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is the oracle of this test; pip install edgetrain[oracle]")


def torch_forms() -> list[tuple[Op, Callable[[Any], Any]]]:
    from functools import partial

    torch = torch_or_skip()
    f = torch.nn.functional
    return [
        (Relu(), f.relu),
        (LeakyRelu(0.1), partial(f.leaky_relu, negative_slope=0.1)),
        (LeakyRelu(-0.5), partial(f.leaky_relu, negative_slope=-0.5)),
        (Clip(0, 6), f.relu6),
        (Clip(-1, 2), partial(torch.clamp, min=-1, max=2)),
        (Clip(minimum=-1), partial(torch.clamp, min=-1)),
        (HardSigmoid(1 / 6, 0.5), f.hardsigmoid),
        (HardSwish(), f.hardswish),
        (Sigmoid(), torch.sigmoid),
        (Tanh(), torch.tanh),
        (Erf(), torch.erf),
        (Gelu(), f.gelu),
        (Gelu(True), partial(f.gelu, approximate="tanh")),
        (Swish(), f.silu),
        (Swish(-0.7), lambda x: x * torch.sigmoid(-0.7 * x)),
        (Neg(), torch.neg),
        (Softmax(1), partial(torch.softmax, dim=1)),
        (LogSoftmax(0), partial(torch.log_softmax, dim=0)),
    ]


@pytest.mark.oracle
@pytest.mark.parametrize("case", range(18))
def test_unary_gradients_agree_with_pytorch(case: int) -> None:
    torch = torch_or_skip()
    op, form = torch_forms()[case]
    x, dy = floats(case, 6, 7, scale=3), floats(case + 50, 6, 7)
    if isinstance(op, Clip):
        x[0, :4] = [0, 6, -1, 2]  # the bounds themselves: ReLU6 and clamp treat them differently
    given_x = torch.tensor(x, requires_grad=True)
    form(given_x).backward(torch.tensor(dy))
    (dx,) = reference_gradients(op, [x], [dy])
    assert dx is not None
    close(dx, given_x.grad.numpy())


@pytest.mark.oracle
@given(broadcast_pairs(), seeds)
def test_binary_gradients_agree_with_pytorch(pair: Any, seed: int) -> None:
    torch = torch_or_skip()
    a, b = floats(seed, *pair[0]), floats(seed + 1, *pair[1])
    b = b + np.copysign(np.float32(0.5), b)
    dy = floats(seed + 2, *broadcast_shape(*pair))
    for op, form in ((Add, torch.add), (Sub, torch.sub), (Mul, torch.mul), (Div, torch.div)):
        tensors = [torch.tensor(x, requires_grad=True) for x in (a, b)]
        form(*tensors).backward(torch.tensor(dy))
        for found, tensor in zip(reference_gradients(op(), [a, b], [dy]), tensors, strict=True):
            assert found is not None
            close(found, tensor.grad.numpy())


@pytest.mark.oracle
@pytest.mark.parametrize("slopes", [1, 5])
def test_prelu_gradients_agree_with_pytorch(slopes: int) -> None:
    torch = torch_or_skip()
    x, slope, dy = floats(1, 2, 3, 4, 5), floats(2, slopes), floats(3, 2, 3, 4, 5)
    given_x = torch.tensor(x.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    given_slope = torch.tensor(slope, requires_grad=True)
    torch.nn.functional.prelu(given_x, given_slope).backward(torch.tensor(dy.transpose(0, 3, 1, 2).copy()))
    dx, dslope = reference_gradients(PRelu(), [x, slope], [dy])
    assert dx is not None and dslope is not None
    close(dx.transpose(0, 3, 1, 2), given_x.grad.numpy())
    close(dslope, given_slope.grad.numpy())


@pytest.mark.oracle
@pytest.mark.parametrize("n", [1, 4])
def test_losses_and_their_gradients_agree_with_pytorch(n: int) -> None:
    torch = torch_or_skip()
    f = torch.nn.functional
    scores, target = floats(1, n, 5), floats(2, n, 5)
    labels = np.arange(n, dtype=np.int32) % 5
    soft = softmax(floats(3, n, 5).astype(np.float64), 1).astype(np.float32)
    signs = np.where(np.arange(5) == labels[:, None], 1, -1).astype(np.float32)

    def hinge(x: Any) -> Any:
        return torch.clamp(1 - torch.tensor(signs) * x, min=0).square().mean()

    cases: list[tuple[Op, Array, Callable[[Any], Any]]] = [
        (SoftmaxCrossEntropy(), labels, lambda x: f.cross_entropy(x, torch.tensor(labels).long())),
        (SoftmaxCrossEntropy(), soft, lambda x: f.cross_entropy(x, torch.tensor(soft))),
        (MeanSquaredError(), target, lambda x: f.mse_loss(x, torch.tensor(target))),
        (SquaredHinge(), labels, hinge),
        (SquaredHinge(), signs, hinge),
    ]
    for op, label, form in cases:
        x = torch.tensor(scores, requires_grad=True)
        loss = form(x)
        loss.backward()
        outputs = op.run(Run(), scores, label)
        close(outputs[0], loss.detach().numpy())
        gradients = reference_gradients(op, [scores, label], [None] * len(outputs), [True, False])
        assert gradients[0] is not None and gradients[1] is None
        close(gradients[0], x.grad.numpy())


@pytest.mark.oracle
@pytest.mark.parametrize(
    "options", [{}, {"weight_decay": 0.1}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}]
)
def test_sgd_follows_pytorch(options: dict[str, Any]) -> None:
    torch = torch_or_skip()
    w = floats(1, 10)
    parameter = torch.nn.Parameter(torch.tensor(w))
    optimizer = torch.optim.SGD([parameter], lr=0.1, **options)
    op = Sgd(**options)
    velocity = [np.zeros_like(w)] if op.momentum else []
    for step in range(5):
        gradient = floats(step + 10, 10)
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        w, *velocity = op.run(Run(), w, gradient, np.asarray(np.float32(0.1)), *velocity)
        close(w, parameter.detach().numpy(), 1e-5)


@pytest.mark.oracle
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_follows_pytorch(weight_decay: float) -> None:
    torch = torch_or_skip()
    w = floats(1, 10)
    parameter = torch.nn.Parameter(torch.tensor(w))
    optimizer = torch.optim.Adam([parameter], lr=0.01, weight_decay=weight_decay)
    m, v, powers = np.zeros_like(w), np.zeros_like(w), np.ones(2, np.float32)
    for step in range(5):
        gradient = floats(step + 10, 10)
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        (powers,) = AdamAdvance().run(Run(), powers)
        op = Adam(weight_decay=weight_decay)
        w, m, v = op.run(Run(), w, gradient, np.asarray(np.float32(0.01)), m, v, powers)
        close(w, parameter.detach().numpy(), 1e-5)


# ---- import


def imported(op_type: str, shape: tuple[int, ...], opset: int, constants: Any = (), **attributes: Any) -> Any:
    """(op of the Graph, y for x = floats(1, *shape)), through an ONNX model of one node."""
    from onnx import TensorProto, helper, numpy_helper

    from toolkit.frontend import load_model

    initializers = [numpy_helper.from_array(np.asarray(c, np.float32), f"c{i}") for i, c in enumerate(constants)]
    node = helper.make_node(op_type, ["x", *(i.name for i in initializers)], ["y"], **attributes)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph([node], "one", ports[:1], ports[1:], initializers)
    loaded = load_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]))
    x = loaded.interface[loaded.inputs[0]].inward(floats(1, *shape))
    values = run_nodes(loaded, {loaded.inputs[0]: x})
    y = loaded.interface[loaded.outputs[0]].outward(values[loaded.outputs[0]])
    return next(n.op for n in loaded.nodes if n.op.name == op_type), y


def test_clip_reads_its_bounds_from_attributes_and_from_inputs() -> None:
    for opset, constants, attributes in ((6, (), {"min": -1.0, "max": 0.5}), (13, (-1.0, 0.5), {})):
        op, y = imported("Clip", (2, 3), opset, constants, **attributes)
        assert op == Clip(-1.0, 0.5)
        assert np.array_equal(y, np.clip(floats(1, 2, 3), -1, 0.5))


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
def test_softmax_takes_all_later_axes_together_before_opset_13(op_type: str) -> None:
    x = floats(1, 2, 3, 4).astype(np.float64)
    for opset, axes in ((11, (1, 2)), (13, (1,))):
        _, y = imported(op_type, (2, 3, 4), opset, axis=1)
        e = np.exp(x)
        wanted = e / e.sum(axis=axes, keepdims=True)
        close(y, np.log(wanted) if op_type == "LogSoftmax" else wanted, 1e-5)


@pytest.mark.parametrize("slopes", [(3, 1, 1), (1,), (3, 4, 5)])
def test_prelu_slopes_follow_the_image_to_channels_last(slopes: tuple[int, ...]) -> None:
    x, slope = floats(1, 2, 3, 4, 5), floats(9, *slopes)
    _, y = imported("PRelu", x.shape, 16, (slope,))
    close(y, np.where(x > 0, x, slope * x), 1e-6)


def test_prelu_before_opset_7_has_one_slope_per_channel() -> None:
    x, slope = floats(1, 2, 3, 4, 5), floats(9, 3)
    _, y = imported("PRelu", x.shape, 6, (slope,))
    close(y, np.where(x > 0, x, slope[:, None, None] * x), 1e-6)


def test_dropout_is_nothing_in_inference() -> None:
    op, y = imported("Dropout", (2, 3), 13, (0.25,))
    assert op.ratio == 0.25
    assert np.array_equal(y, floats(1, 2, 3))
