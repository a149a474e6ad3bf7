"""Batch normalization, means, and the ops that only move values: what they compute, and that the C agrees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import (
    agrees_with_torch,
    assert_parity,
    close,
    floats,
    floats_with_special,
    one_node,
    reference_gradients,
    run_nodes,
    shapes,
    torch,
    values,
)
from toolkit.ir import Array, Graph, TensorType
from toolkit.ops.base import ShapeError, UnsupportedError
from toolkit.ops.batch_normalization import (
    BatchNormalization,
    BatchNormBatchGrad,
    BatchNormParameterGrad,
    BatchNormRunningGrad,
    BatchNormTraining,
    InverseDeviation,
    RunningStatistic,
)
from toolkit.ops.border_pad import BorderPad, BorderPadGrad
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.concat import Concat
from toolkit.ops.contexts import Training
from toolkit.ops.conv import Conv
from toolkit.ops.dense import Dense
from toolkit.ops.fold_batch_norm import fold_batch_normalization
from toolkit.ops.pad import Pad
from toolkit.ops.rectified_layer import RectifiedLayer
from toolkit.ops.reduce_mean import ReduceMean, ReduceMeanGrad
from toolkit.ops.reshape import Reshape, resolve
from toolkit.ops.residual_layer import ResidualLayer
from toolkit.ops.slice_ import Slice, SliceGrad
from toolkit.ops.transpose import Transpose

# ---- mean


@st.composite
def reductions(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape and axes side by side."""
    shape = draw(shapes(max_rank=4, max_side=9))
    first = draw(st.integers(0, len(shape) - 1))
    last = draw(st.integers(first, len(shape) - 1))
    return shape, tuple(range(first, last + 1))


@given(reductions(), st.booleans(), st.integers(0, 999))
def test_reduce_mean_is_the_mean_and_the_same_to_the_bit_in_c(case: Any, keepdims: bool, seed: int) -> None:
    shape, axes = case
    op, x = ReduceMean(axes, keepdims), floats(seed, *shape)
    close(values(op, x)[0], x.astype(np.float64).mean(axes, keepdims=keepdims).astype(np.float32))
    assert_parity(op, [floats_with_special(seed, *shape)])
    dy = floats(seed + 1, *op.infer(TensorType(shape)).shape)
    if dy.ndim:  # the helper takes a number for a scalar of the context
        assert_parity(ReduceMeanGrad(axes, shape), [dy])
    (dx,) = reference_gradients(op, [x], [dy])
    count = np.prod([shape[axis] for axis in axes])
    spread = np.broadcast_to(dy.reshape([1 if i in axes else n for i, n in enumerate(shape)]), shape) / count
    assert dx is not None
    close(dx, spread.astype(np.float32))


def test_the_mean_of_a_large_image_is_the_same_to_the_bit_in_c() -> None:
    assert_parity(ReduceMean((1, 2)), [floats(1, 2, 7, 9, 70)])
    assert_parity(ReduceMean((1,)), [floats(1, 70, 33)])


def test_axes_that_do_not_lie_side_by_side_are_an_error() -> None:
    with pytest.raises(ShapeError, match="side by side"):
        ReduceMean((0, 2)).infer(TensorType((2, 3, 4)))
    assert ReduceMean((0, 2), False).infer(TensorType((2, 1, 4))).shape == (1,)


# ---- batch normalization


def vectors(seed: int, channels: int) -> tuple[Array, Array, Array, Array]:
    """gamma, beta, mean, var."""
    var = np.abs(floats(seed + 4, channels)) + np.float32(0.1)
    return floats(seed + 1, channels), floats(seed + 2, channels), floats(seed + 3, channels), var


CHANNELS = st.sampled_from([1, 2, 3, 4, 5, 16, 19, 33])
BATCHES = st.tuples(st.integers(2, 12), CHANNELS)


@given(BATCHES, st.integers(0, 999))
def test_batch_normalization_is_the_same_to_the_bit_in_c(shape: tuple[int, int], seed: int) -> None:
    x, (gamma, beta, mean, var) = floats_with_special(seed, *shape), vectors(seed, shape[1])
    assert_parity(BatchNormalization(), [x, gamma, beta, mean, var])
    assert_parity(BatchNormTraining(1e-5), [x, gamma, beta])
    assert_parity(RunningStatistic(0.9), [mean, var])
    assert_parity(InverseDeviation(1e-3), [var])
    dy, inverse = floats(seed + 9, *shape), np.float32(1) / np.sqrt(var)
    assert_parity(BatchNormParameterGrad(), [dy, x, mean, inverse])
    assert_parity(BatchNormRunningGrad(), [dy, gamma, inverse])
    assert_parity(BatchNormBatchGrad(), [dy, x, gamma, mean, inverse, floats(seed, shape[1]), beta])
    layer = BatchNormTraining(1e-5)
    assert_parity(RectifiedLayer(layer), [x, gamma, beta])
    assert_parity(ResidualLayer(layer), [x, gamma, beta, dy])
    assert_parity(RectifiedLayer(ResidualLayer(layer)), [x, gamma, beta, dy])


@pytest.mark.oracle
@given(BATCHES, st.booleans(), st.integers(0, 999))
def test_batch_normalization_trains_like_pytorch(shape: tuple[int, int], batch: bool, seed: int) -> None:
    t = torch()
    x, (gamma, beta, mean, var) = floats(seed, *shape), vectors(seed, shape[1])
    dy = floats(seed + 9, *shape)
    tensors = [t.tensor(value, requires_grad=True) for value in (x, gamma, beta)]
    running = [t.tensor(value.copy()) for value in (mean, var)]
    expected = t.nn.functional.batch_norm(tensors[0], *running, *tensors[1:], batch, 0.1, 1e-3)
    expected.backward(t.tensor(dy))
    if batch:
        found, new_mean, _, new_var = values(BatchNormTraining(1e-3), x, gamma, beta)
        gradients = reference_gradients(BatchNormTraining(1e-3), [x, gamma, beta], [dy, None, None, None])
        close(values(RunningStatistic(0.9), mean, new_mean)[0], running[0].numpy())
        close(values(RunningStatistic(0.9), var, new_var)[0], running[1].numpy())
    else:
        op = BatchNormalization(1e-3)
        (found,) = values(op, x, gamma, beta, mean, var)
        wanted = [True, True, True, False, False]
        gradients = reference_gradients(op, [x, gamma, beta, mean, var], [dy, *[None] * 0], wanted)[:3]
    close(found, expected.detach().numpy())
    for gradient, tensor in zip(gradients, tensors, strict=True):
        assert gradient is not None
        close(gradient, tensor.grad.numpy())


@given(st.integers(0, 99))
def test_the_gradient_of_batch_statistics_agrees_with_finite_differences(seed: int) -> None:
    x, (gamma, beta, _, _) = floats(seed, 6, 3), vectors(seed, 3)
    dy = floats(seed + 9, 6, 3)

    def total(place: Array) -> float:
        centred = place - place.mean(0)
        return float(np.sum(dy * (centred / np.sqrt((centred**2).mean(0) + 1e-3) * gamma + beta)))

    dx = reference_gradients(BatchNormTraining(1e-3), [x, gamma, beta], [dy, None, None, None])[0]
    assert dx is not None
    steps = np.eye(x.size).reshape(-1, *x.shape) * 1e-6
    slopes = [(total(x.astype(np.float64) + step) - total(x - step)) / 2e-6 for step in steps]
    close(dx, np.array(slopes).reshape(x.shape).astype(np.float32))


def normalized(trained: set[str], rows: int = 4, mode: str = "batch") -> tuple[Graph, tuple[str, ...] | None]:
    """A graph of one batch normalization in its training form, and what for_training gave."""
    graph = one_node(BatchNormalization(), [floats(0, rows, 3), *vectors(0, 3)])
    builder = GraphBuilder("training")
    builder.declare_from(graph)
    training = Training(builder, graph.nodes[0], frozenset(trained), {"batch_norm": mode})
    outputs = BatchNormalization().for_training(training)
    return builder.finish() if outputs else graph, outputs


def test_batch_statistics_are_used_only_where_they_exist_and_the_scale_is_trained() -> None:
    assert normalized({"in1"}, rows=1)[1] is None
    assert normalized({"in1"}, mode="running")[1] is None
    assert normalized({"in2"})[1] is None  # the shift alone needs no input: nothing is kept
    builder = GraphBuilder("training")
    names = [builder.input("x", TensorType((4, 3)))]
    names += [builder.parameter(name, value) for name, value in zip("gbmv", vectors(0, 3), strict=True)]
    (y,) = builder.apply(BatchNormalization(), *names)
    node = builder.nodes.pop()
    del builder.tensors[y]
    outputs = BatchNormalization().for_training(Training(builder, node, frozenset({"g"}), {}))
    assert outputs == (y,)
    graph = builder.finish()
    assert set(graph.updates) == {"m", "v"}
    tensors = run_nodes(graph, {"x": floats(0, 4, 3)})
    expected = 0.9 * graph.data["v"] + 0.1 * floats(0, 4, 3).var(0, ddof=1)
    close(tensors[graph.updates["v"]], expected.astype(np.float32))


LAYERS = {
    "dense": (Dense(), (5, 4), (4, 3)),
    "convolution": (Conv((1, 1), (1, 1), (1, 1), (1, 1)), (2, 5, 4, 2), (3, 3, 2, 3)),
    "depthwise convolution": (Conv((2,), (1,), (0,), (1,), groups=3), (1, 7, 3), (3, 1, 3)),
}


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_a_frozen_batch_normalization_goes_into_the_layer_before(layer: str, with_bias: bool) -> None:
    op, shape, weights = LAYERS[layer]
    builder = GraphBuilder("fold")
    x, weight = builder.input("x", TensorType(shape)), builder.parameter("w", floats(7, *weights))
    bias = [builder.parameter("bias", floats(8, 3))] if with_bias else []
    (linear,) = builder.apply(op, x, weight, *bias, name="linear")
    parameters = [builder.parameter(name, value) for name, value in zip("gbmv", vectors(0, 3), strict=True)]
    (y,) = builder.apply(BatchNormalization(), linear, *parameters, name="norm")
    builder.outputs = [y]
    graph = builder.finish()
    folded = fold_batch_normalization(graph, frozenset())
    assert [node.name for node in folded.nodes] == ["linear"] and folded.outputs == graph.outputs
    assert not set(folded.data) & {*"gbmv", "w", "bias"}
    given_x = {"x": floats(1, *shape)}
    close(run_nodes(folded, given_x)[y], run_nodes(graph, given_x)[y])
    for trained in ({"w"}, {"g"}, {"b"}):
        assert len(fold_batch_normalization(graph, frozenset(trained)).nodes) == 2


def test_a_layer_that_something_else_reads_keeps_its_values() -> None:
    builder = GraphBuilder("fold")
    x, weight = builder.input("x", TensorType((5, 4))), builder.parameter("w", floats(7, 4, 3))
    (linear,) = builder.apply(Dense(), x, weight)
    parameters = [builder.parameter(name, value) for name, value in zip("gbmv", vectors(0, 3), strict=True)]
    builder.outputs = [builder.apply(BatchNormalization(), linear, *parameters)[0], linear]
    assert len(fold_batch_normalization(builder.finish(), frozenset()).nodes) == 2


# ---- moving values


@given(shapes(max_rank=6, max_side=5), st.randoms(use_true_random=False), st.integers(0, 999))
def test_transpose_is_the_same_to_the_bit_in_c(shape: tuple[int, ...], random: Any, seed: int) -> None:
    permutation = list(range(len(shape)))
    random.shuffle(permutation)
    op, x = Transpose(tuple(permutation)), floats_with_special(seed, *shape)
    moved = [axis for axis in permutation if shape[axis] > 1]
    if moved != sorted(moved):
        assert_parity(op, [x])
    (dx,) = reference_gradients(op, [x], [x.transpose(permutation).copy()])
    assert dx is not None
    np.testing.assert_array_equal(dx.view(np.uint32), x.view(np.uint32))


def test_large_planes_are_transposed_tile_by_tile() -> None:
    assert_parity(Transpose((0, 3, 1, 2)), [floats(0, 2, 5, 9, 19)])
    assert_parity(Transpose((0, 2, 3, 1)), [floats(0, 2, 17, 3, 13)])
    assert_parity(Transpose((1, 0)), [floats(0, 33, 31)])


@st.composite
def slices(draw: st.DrawFn) -> tuple[tuple[int, ...], Slice]:
    """A shape and a slice of it."""
    shape = draw(shapes(max_rank=4, max_side=7))
    parts = []
    for size in shape:
        step = draw(st.sampled_from([1, 1, 1, 2, 3, -1, -2]))
        low = draw(st.integers(0, size - 1))
        count = 1 + draw(st.integers(0, (size - 1 - low) // abs(step)))
        parts.append((low if step > 0 else low + (count - 1) * -step, count, step))
    starts, sizes, steps = (tuple(column) for column in zip(*parts, strict=True))
    return shape, Slice(starts, sizes, steps)


@given(slices(), st.integers(0, 999))
def test_slice_and_its_gradient_are_the_same_to_the_bit_in_c(case: tuple[tuple[int, ...], Slice], seed: int) -> None:
    shape, op = case
    x = floats_with_special(seed, *shape)
    parts = tuple(
        slice(s, e if (e := s + n * d) >= 0 else None, d)
        for s, n, d in zip(op.starts, op.sizes, op.steps, strict=True)
    )
    np.testing.assert_array_equal(values(op, x)[0], x[parts])
    if op.sizes != shape or any(step != 1 for step in op.steps):
        assert_parity(op, [x])
    dy = floats(seed, *op.sizes)
    assert_parity(SliceGrad(shape, op.starts, op.steps), [dy])
    expected = np.zeros(shape, np.float32)
    expected[parts] = dy
    (dx,) = reference_gradients(op, [x], [dy])
    assert dx is not None
    np.testing.assert_array_equal(dx, expected)


@given(shapes(), st.data())
def test_pad_is_the_same_to_the_bit_in_c(shape: tuple[int, ...], data: st.DataObject) -> None:
    before, after = (tuple(data.draw(st.integers(0, 3)) for _ in shape) for _ in range(2))
    op, x = Pad(before, after, data.draw(st.sampled_from([0.0, -1.5, np.inf]))), floats_with_special(1, *shape)
    assert_parity(op, [x])
    dy = floats(2, *op.infer(TensorType(shape)).shape)
    (dx,) = reference_gradients(op, [x], [dy])
    assert dx is not None
    np.testing.assert_array_equal(dx, dy[tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))])


@given(shapes(), st.sampled_from(["edge", "reflect", "wrap"]), st.data())
def test_padding_with_copies_is_the_same_to_the_bit_in_c(
    shape: tuple[int, ...], mode: Any, data: st.DataObject
) -> None:
    before, after = (tuple(data.draw(st.integers(0, 3)) for _ in shape) for _ in range(2))
    op, x = BorderPad(before, after, mode), floats_with_special(1, *shape)
    np.testing.assert_array_equal(values(op, x)[0], np.pad(x, tuple(zip(before, after, strict=True)), mode=mode))
    assert_parity(op, [x])
    dy = floats(2, *op.infer(TensorType(shape)).shape)
    assert_parity(BorderPadGrad(before, after, mode, shape), [dy])


@pytest.mark.oracle
@pytest.mark.parametrize(("mode", "name"), [("edge", "replicate"), ("reflect", "reflect"), ("wrap", "circular")])
def test_the_gradient_of_padding_with_copies_agrees_with_pytorch(mode: str, name: str) -> None:
    op = BorderPad((0, 2, 1, 0), (0, 1, 3, 0), mode)
    agrees_with_torch(op, floats(5, 2, 4, 5, 3), lambda t: torch().nn.functional.pad(t, (1, 3, 2, 1), mode=name), 6)


@given(shapes(), st.integers(0, 3), st.lists(st.integers(1, 5), min_size=2, max_size=4))
def test_concat_is_the_same_to_the_bit_in_c(shape: tuple[int, ...], axis: int, lengths: list[int]) -> None:
    axis %= len(shape)
    inputs = [floats_with_special(i, *shape[:axis], n, *shape[axis + 1 :]) for i, n in enumerate(lengths)]
    assert_parity(Concat(axis), inputs)
    dy = floats(9, *shape[:axis], sum(lengths), *shape[axis + 1 :])
    gradients = reference_gradients(Concat(axis), inputs, [dy])
    np.testing.assert_array_equal(np.concatenate([g for g in gradients if g is not None], axis), dy)


def test_a_shape_may_copy_sizes_and_leave_one_open() -> None:
    assert resolve([0, -1], (2, 3, 4)) == (2, 12)
    assert resolve([-1, 0, 2], (4, 3)) == (2, 3, 2)
    for wrong in ([5, -1], [-1, -1], [0, 0, 0], [2, 2]):
        with pytest.raises(UnsupportedError):
            resolve(wrong, (2, 3))
    (dx,) = reference_gradients(Reshape((6,)), [floats(0, 2, 3)], [floats(1, 6)])
    assert dx is not None and dx.shape == (2, 3)
