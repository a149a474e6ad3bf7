"""Pooling, batch normalization, means, and the ops that only move values: what they compute, and that the C agrees."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cffi import FFI
from hypothesis import assume, given
from hypothesis import strategies as st

from codegen.resources import folder
from tests.support import assert_parity, floats, floats_with_special, one_node, reference_gradients, run_nodes, shapes
from toolkit.ir import Array, Graph, TensorType
from toolkit.ops.average_pool import AveragePool, AveragePoolGrad
from toolkit.ops.base import Op, Run, ShapeError, UnsupportedError
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
from toolkit.ops.max_pool import MaxPool, MaxPoolGrad, MaxPoolTraining
from toolkit.ops.pad import Pad
from toolkit.ops.pooling import Window, pool_fields
from toolkit.ops.reduce_mean import ReduceMean, ReduceMeanGrad
from toolkit.ops.reshape import Reshape, resolve
from toolkit.ops.slice_ import Slice, SliceGrad
from toolkit.ops.transpose import Transpose


def torch() -> Any:
    """PyTorch, or the test is skipped."""
    return pytest.importorskip("torch", reason="PyTorch is not installed: pip install edgetrain[oracle]")


def close(found: Array, expected: Array) -> None:
    """Equal to a relative 1e-4 of the largest value."""
    assert found.shape == expected.shape
    assert np.max(np.abs(found - expected), initial=0) <= 1e-4 * max(1.0, float(np.max(np.abs(expected), initial=0)))


def values(op: Op, *inputs: Array | None, fma: bool = True) -> tuple[Array, ...]:
    """The outputs of an op in the reference."""
    return op.run(Run(fma), *inputs)


# ---- pooling


@st.composite
def windows(draw: st.DrawFn, rank: int, as_torch: bool = False) -> tuple[Window, tuple[int, ...]]:
    """A window and the sizes of an image into which it fits. as_torch: padding at both ends alike, no dilation."""
    sizes, fields = [], []
    for _ in range(rank):
        kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 4))
        dilation = draw(st.integers(1, 1 if as_torch else 3))
        before = draw(st.integers(0, kernel // 2))
        after = before if as_torch else draw(st.integers(0, kernel // 2))
        least = max(1, (kernel - 1) * dilation + 1 - before - after)
        sizes.append(draw(st.integers(least, least + 7)))
        fields.append((kernel, stride, dilation, before, after))
    kernel_, strides, dilations, befores, afters = (tuple(column) for column in zip(*fields, strict=True))
    return Window(kernel_, strides, dilations, befores, afters, draw(st.booleans())), tuple(sizes)


def fits(op: Op, *shape: int) -> bool:
    """Whether an op takes an input of this shape."""
    try:
        op.infer(TensorType(shape))
    except ShapeError:
        return False
    return True


RANKS = st.integers(1, 2)
CHANNELS = st.sampled_from([1, 2, 3, 4, 5, 16, 19, 33])


@given(RANKS.flatmap(windows), st.integers(1, 2), CHANNELS, st.integers(0, 999))
def test_max_pool_is_the_same_to_the_bit_in_c(case: Any, batch: int, channels: int, seed: int) -> None:
    window, sizes = case
    assume(fits(MaxPool(window), batch, *sizes, channels))
    x = np.round(floats_with_special(seed, batch, *sizes, channels))  # rounded: many are equal
    assert_parity(MaxPool(window), [x])
    assert_parity(MaxPoolTraining(window), [x])
    y, position = values(MaxPoolTraining(window), x)
    np.testing.assert_array_equal(y, values(MaxPool(window), x)[0])
    assert_parity(MaxPoolGrad(window, x.shape), [floats(seed + 1, *y.shape), position])


@given(RANKS.flatmap(windows), st.booleans(), st.integers(1, 2), CHANNELS, st.integers(0, 999))
def test_average_pool_is_the_same_to_the_bit_in_c(
    case: Any, include: bool, batch: int, channels: int, seed: int
) -> None:
    window, sizes = case
    op = AveragePool(window, include)
    assume(fits(op, batch, *sizes, channels))
    x = floats_with_special(seed, batch, *sizes, channels)
    assert_parity(op, [x])
    dy = floats(seed + 1, *op.infer(TensorType(x.shape)).shape)
    assert_parity(AveragePoolGrad(window, include, x.shape), [dy])


def test_a_window_of_more_than_256_taps_has_positions_of_16_bits() -> None:
    window = Window((17, 18), (3, 2), (1, 1), (8, 9), (8, 9))
    x = floats(3, 1, 20, 21, 5)
    y, position = values(MaxPoolTraining(window), x)
    assert position.dtype == np.uint16 and position.max() > 255
    assert_parity(MaxPoolTraining(window), [x])
    assert_parity(MaxPoolGrad(window, x.shape), [floats(4, *y.shape), position])


@pytest.mark.parametrize(("kernel", "bytes"), [((2, 2), 2), ((4, 4), 3), ((5, 4), 5)])
def test_positions_take_2_4_or_8_bits(kernel: tuple[int, int], bytes: int) -> None:
    window = Window(kernel, (1, 1), (1, 1), (0, 0), (0, 0))
    x = floats(5, 2, 6, 5, 5)
    y, position = values(MaxPoolTraining(window), x)
    assert position.shape == (*y.shape[:-1], bytes) and position.dtype == np.uint8
    first = x[0, : kernel[0], : kernel[1], 0].argmax()
    assert position[0, 0, 0, 0] & (255, 3, 15)[(5, 2, 3).index(bytes)] == first
    assert_parity(MaxPoolTraining(window), [x])
    assert_parity(MaxPoolGrad(window, x.shape), [floats(4, *y.shape), position])


@pytest.mark.parametrize(
    ("window", "bits"),
    [(Window((3, 2), (2, 1), (1, 2), (1, 0), (1, 1)), 4), (Window((2, 2), (2, 1), (1, 1), (0, 0), (0, 0)), 2)],
)
@pytest.mark.parametrize("flags", ["-O2", "-O3 -march=native", "-O3 -mavx2 -mfma", "-O2 -DET_SCALAR_CORE=1"])
def test_every_vector_width_gives_the_same_bits(flags: str, window: Window, bits: int, tmp_path: Path) -> None:
    for channels in (1, 3, 4, 7, 8, 12, 16, 23, 40, 66, 133):
        x = np.round(floats_with_special(channels, 2, 7, 6, channels))
        y, position = values(MaxPoolTraining(window), x)
        found, where = np.zeros_like(y), np.zeros_like(position)
        ffi, library = _pool_library(flags, tmp_path)
        shape = ffi.new("et_pool_shape *", pool_fields(window, x.shape, y.shape))
        kinds = (("float", x), ("float", found), ("uint8_t", where))
        data = [ffi.from_buffer(f"{kind}[]", a) for kind, a in kinds]
        assert library.et_max_pool_packed_f32(shape, bits, *data) == 0
        np.testing.assert_array_equal(where, position)
        np.testing.assert_array_equal(found.view(np.uint32)[~np.isnan(y)], y.view(np.uint32)[~np.isnan(y)])


def _pool_library(flags: str, place: Path) -> tuple[Any, Any]:
    """et_pool.c built with these flags; the test is skipped where this machine cannot run it."""
    ffi, library, runtime = FFI(), place / "pool.so", folder("runtime_c")
    if "avx2" in flags and "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this machine has no AVX2")
    header = re.sub(r"/\*.*?\*/", "", (runtime / "et_pool.h").read_text(), flags=re.DOTALL)
    ffi.cdef("typedef int et_status;" + re.findall(r"typedef struct \{[^}]*\} et_pool_shape;", header)[0])
    ffi.cdef(re.findall(r"et_status et_max_pool_packed_f32\([^;]*;", header)[0])
    if not library.exists():
        (place / "et_config.h").write_text("#define ET_FMA 1\n")
        source = str(runtime / "et_pool.c")
        command = ["gcc", "-std=c99", "-fPIC", "-shared", "-ffp-contract=off", *flags.split(), f"-I{place}"]
        subprocess.run([*command, f"-I{runtime}", source, "-o", str(library)], check=True)
    return ffi, ffi.dlopen(str(library))


@pytest.mark.parametrize(("sizes", "stride"), [((6, 8), 2), ((7, 8), 2), ((5, 6), 1), ((8, 7), 3)])
def test_windows_of_two_by_two_are_the_same_to_the_bit(sizes: tuple[int, int], stride: int) -> None:
    """With a loop of their own on small cores, also where they leave parts of the image out or overlap."""
    window = Window((2, 2), (stride, stride), (1, 1), (0, 0), (0, 0))
    for channels in (4, 12, 16, 24):
        x = np.round(floats_with_special(7, 2, *sizes, channels))
        assert_parity(MaxPool(window), [x])
        assert_parity(MaxPoolTraining(window), [x])
        y, position = values(MaxPoolTraining(window), x)
        dy = floats(8, *y.shape)
        dy[:, ::2] = -0.0
        assert_parity(MaxPoolGrad(window, x.shape), [dy, position])


def test_the_first_of_equal_maxima_wins_and_gets_the_gradient() -> None:
    window = Window((2, 2), (2, 2), (1, 1), (0, 0), (0, 0))
    x = np.array([[1, 5], [5, 5]], np.float32).reshape(1, 2, 2, 1)
    (dx,) = reference_gradients(MaxPool(window), [x], [np.ones((1, 1, 1, 1), np.float32)])
    assert dx is not None
    np.testing.assert_array_equal(dx.reshape(2, 2), [[0, 1], [0, 0]])


def test_gradients_of_overlapping_windows_are_added_in_ascending_order_of_the_windows() -> None:
    window = Window((3,), (1,), (1,), (0,), (0,))
    x = np.array([0, 0, 9, 0, 0], np.float32).reshape(1, 5, 1)
    big, small = np.float32(2**24), np.float32(1)
    dy = np.array([small, big, -big], np.float32).reshape(1, 3, 1)  # (1 + 2^24) - 2^24 = 0, any other order gives 1
    (dx,) = reference_gradients(MaxPool(window), [x], [dy])
    assert dx is not None and dx[0, 2, 0] == 0


@pytest.mark.oracle
@given(RANKS.flatmap(lambda rank: windows(rank, as_torch=True)), st.integers(1, 2), st.integers(0, 999))
def test_max_pool_agrees_with_pytorch(case: Any, batch: int, seed: int) -> None:
    window, sizes = case
    functional = torch().nn.functional
    assume(fits(MaxPool(window), batch, *sizes, 3))
    x = floats(seed, batch, *sizes, 3)
    pool = functional.max_pool1d if len(sizes) == 1 else functional.max_pool2d
    options = {"ceil_mode": window.ceil_mode, "dilation": window.dilations}
    _compare(MaxPool(window), x, lambda t: pool(t, window.kernel, window.strides, window.before, **options), seed)


@pytest.mark.oracle
@given(RANKS.flatmap(lambda rank: windows(rank, as_torch=True)), st.booleans(), st.integers(1, 2), st.integers(0, 999))
def test_average_pool_agrees_with_pytorch(case: Any, include: bool, batch: int, seed: int) -> None:
    window, sizes = case
    functional = torch().nn.functional
    assume(fits(AveragePool(window, include), batch, *sizes, 3))
    x = floats(seed, batch, *sizes, 3)
    pool = functional.avg_pool1d if len(sizes) == 1 else functional.avg_pool2d
    arguments = (window.kernel, window.strides, window.before, window.ceil_mode, include)
    _compare(AveragePool(window, include), x, lambda t: pool(t, *arguments), seed)


def _compare(op: Op, x: Array, function: Any, seed: int) -> None:
    """Forward and gradient of a channels-last op against a channels-first function of PyTorch."""
    there, back = (0, x.ndim - 1, *range(1, x.ndim - 1)), (0, *range(2, x.ndim), 1)
    t = torch().tensor(x.transpose(there).copy(), requires_grad=True)
    expected = function(t)
    close(values(op, x)[0], expected.detach().numpy().transpose(back))
    dy = floats(seed + 1, *values(op, x)[0].shape)
    expected.backward(torch().tensor(dy.transpose(there).copy()))
    (dx,) = reference_gradients(op, [x], [dy])
    assert dx is not None
    close(dx, t.grad.numpy().transpose(back))


def test_max_pool_keeps_positions_only_where_a_gradient_flows() -> None:
    builder = GraphBuilder("two pools")
    window = Window((2,), (2,), (1,), (0,), (0,))
    x, w = builder.input("x", TensorType((1, 8, 3))), builder.parameter("w", floats(0, 3))
    (early,) = builder.apply(MaxPool(window), x)
    node = builder.nodes.pop()
    trained = frozenset({"w"})
    del builder.tensors[early]
    assert MaxPool(window).for_training(Training(builder, node, trained, {})) is None
    builder.apply(MaxPool(window), x, outputs=(early,))
    (biased,) = builder.apply(_add(), early, w)
    (late,) = builder.apply(MaxPool(window), biased)
    node = builder.nodes.pop()
    del builder.tensors[late]
    replaced = MaxPool(window).for_training(Training(builder, node, trained, {}))
    assert replaced is not None and replaced[0] == late and builder.type(replaced[1]).dtype == "uint8"


def _add() -> Op:
    from toolkit.ops.add import Add

    return Add()


def test_a_window_that_sees_only_padding_is_an_error() -> None:
    with pytest.raises(ShapeError, match="nothing but padding"):
        MaxPool(Window((2,), (1,), (4,), (3,), (3,))).infer(TensorType((1, 2, 1)))


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
    _compare(op, floats(5, 2, 4, 5, 3), lambda t: torch().nn.functional.pad(t, (1, 3, 2, 1), mode=name), 6)


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
