"""Convolution gradients leave out products with zeros of dy only where this changes no bit: any values, any shape."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.rectified import check_gated
from tests.support import build_kernels
from tests.test_kernels_conv import (
    RUNTIME,
    Array,
    Build,
    can_run,
    check_updates,
    conv_shape,
    result,
)
from toolkit.ops.geometry import ConvGeometry, pack_permutation

QUICK = settings(derandomize=True, deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
HERE = Path(__file__).parent / "c"

BUILDS = (
    Build("gcc", "-O1 -march=native", 1),
    Build("gcc", "-O1 -march=native -fsanitize=undefined -fno-sanitize-recover=all", 0),
    Build("gcc", "-O1 -mavx2 -mfma", 1),
)
HAS_VECTORS = can_run("-mavx2 -mfma")
pytestmark = pytest.mark.skipif(not HAS_VECTORS, reason="the kernels are for PCs with AVX2")


def compile_build(build: Build, folder: Path) -> ctypes.CDLL:
    sources = [RUNTIME / f"et_{name}.c" for name in ("tile", "reach", "sink", "math", "gate")]
    sources += [HERE / f"{name}.c" for name in ("naive_conv", "sparse_conv_weight", "sparse_conv_input")]
    config = {"ET_FMA": build.fma, "ET_WALK": 1, "ET_FORM_GATE": 1}
    return ctypes.CDLL(str(build_kernels(folder, sources, config, build.flags, build.compiler)))


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[str, ctypes.CDLL]]]:
    builds = [build for build in BUILDS if shutil.which(build.compiler) and can_run(build.flags)]
    assert builds
    folders = [tmp_path_factory.mktemp("sparse") for _ in builds]
    with ThreadPoolExecutor(2) as pool:
        loaded = list(pool.map(compile_build, builds, folders))
    yield [(f"{b.compiler} {b.flags} ET_FMA={b.fma}", library) for b, library in zip(builds, loaded, strict=True)]


POOLED = ConvGeometry(2, 14, 14, 8, 16, 3, 3, pad_top=1, pad_left=1, pad_bottom=1, pad_right=1)
STRIPS = replace(POOLED, batch=1, height=24, width=20, channels=16, out_channels=20)  # larger than the frame
FIVE = replace(POOLED, height=12, width=12, channels=6, kernel_h=5, kernel_w=5, pad_top=0, pad_right=0)
STRIDED = replace(POOLED, height=19, width=21, channels=5, stride_h=2, stride_w=3, dilation_h=2)
FLAT = ConvGeometry(3, 1, 50, 24, 33, 1, 4, pad_left=3)  # one kernel row
TALL = replace(POOLED, width=5, channels=40, kernel_h=4)


@st.composite
def geometries(draw: st.DrawFn) -> ConvGeometry:
    def axis(most: int) -> tuple[int, int, int, int, int, int]:
        kernel, stride, dilation = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 2]))
        before, after = draw(st.integers(0, 3)), draw(st.integers(0, 3))
        least = max(1, dilation * (kernel - 1) + 1 - before - after)
        return draw(st.integers(least, least + most)), kernel, stride, dilation, before, after

    height, kernel_h, stride_h, dilation_h, top, bottom = axis(12)
    width, kernel_w, stride_w, dilation_w, left, right = axis(20)
    channels, outputs = draw(st.sampled_from([1, 3, 5, 6, 8, 10, 16, 24])), draw(st.sampled_from([1, 5, 16, 17, 40]))
    return ConvGeometry(
        draw(st.integers(1, 3)), height, width, channels, outputs, kernel_h, kernel_w, stride_h, stride_w,
        dilation_h, dilation_w, top, left, bottom, right,
    )  # fmt: skip


# What may not be left out beside zeros, or may: infinities, NaN, subnormals, and what underflows in products.
PLANTED = (np.inf, -np.inf, np.nan, 1e-40, -1e-45, 1e-30, -1e-36, 3e38, 0.0, -0.0)
PLANTS = st.lists(st.tuples(st.sampled_from(["x", "dy", "w"]), st.sampled_from(PLANTED)), max_size=3)


def sparse_values(seed: int, count: int, zeros: float) -> Array:
    """Numbers of several sizes; some zeros, of either sign."""
    random = np.random.default_rng([seed, count])
    values = random.standard_normal(count).astype(np.float32)
    values *= np.float32(2.0) ** random.integers(-4, 5, count).astype(np.float32)
    where = random.random(count) < zeros
    values[where] = np.where(random.random(int(where.sum())) < 0.5, np.float32(0), np.float32(-0.0))
    return values


def assert_same(actual: Array, expected: Array, what: str) -> None:
    """Bits; of a NaN only that it is one (N1)."""
    both = np.isnan(actual) & np.isnan(expected)
    wrong = np.flatnonzero((actual.view(np.uint32) != expected.view(np.uint32)) & ~both)
    assert wrong.size == 0, f"{what}: {wrong.size} differ, [{wrong[0]}] {actual[wrong[0]]!r} != {expected[wrong[0]]!r}"


def check(
    libraries: list[tuple[str, ctypes.CDLL]], g: ConvGeometry, seed: int, zeros: float, plants: list[tuple[str, float]]
) -> None:
    order = pack_permutation(g.kernel_h, g.kernel_w, g.channels, g.out_channels, 1)
    arrays = {
        "x": sparse_values(seed, g.batch * g.height * g.width * g.channels, 0.2),
        "dy": sparse_values(seed + 1, g.batch * g.out_height * g.out_width * g.out_channels, zeros),
        "w": sparse_values(seed + 2, order.size, 0.1),
    }
    random = np.random.default_rng(seed)
    for name, value in plants:
        arrays[name][random.integers(0, arrays[name].size, 1 + arrays[name].size // 20)] = value
    x, dy, w = arrays.values()
    old = sparse_values(seed + 3, order.size, 0.3)
    shape = conv_shape(g)
    for name, library in libraries:
        expected = result(library.naive_conv_grad_input, shape, np.zeros_like(x), dy, w)
        assert_same(
            result(library.et_conv_grad_input_f32, shape, sparse_values(9, x.size, 0), dy, w[order]),
            expected,
            f"{name}: gradient of the input",
        )
        check_gated(library, "et_conv_grad_input_gated_f32", shape, expected, seed, dy, w[order])
        for accumulate in (0, 1):
            expected = result(library.naive_conv_grad_weight, shape, old, x, dy, accumulate)[order]
            actual = result(library.et_conv_grad_weight_f32, shape, old[order], x, dy, accumulate)
            assert_same(actual, expected, f"{name}: gradient of the weights, accumulate={accumulate}")
        sums = result(library.naive_conv_grad_weight, shape, old, x, dy, 0)[order]
        if not np.isnan(sums).any():  # what is kept of a NaN is checked where the sinks are
            check_updates(library, name, "et_conv_update_f32", shape, sums, w[order], x, dy)
        if g.batch > 1:  # a walk: the first sample, then the others
            first, rest = conv_shape(replace(g, batch=1)), conv_shape(replace(g, batch=g.batch - 1))
            actual = result(library.et_conv_grad_weight_f32, first, old[order], x, dy, 0)
            x_rest, dy_rest = x[x.size // g.batch :], dy[dy.size // g.batch :]
            actual = result(library.et_conv_grad_weight_f32, rest, actual, x_rest, dy_rest, 2)
            assert_same(actual, sums, f"{name}: gradient of the weights, in two parts")


@QUICK
@given(geometries(), st.integers(0, 100), st.sampled_from([0.4, 0.75, 0.9, 1.0]), PLANTS)
@example(POOLED, 1, 0.78, [])
@example(POOLED, 2, 0.78, [("x", 1e-30), ("dy", 1e-30)])
@example(STRIPS, 3, 0.78, [])
@example(FIVE, 4, 0.78, [])
@example(STRIDED, 5, 0.9, [])
@example(FLAT, 6, 0.9, [])
@example(TALL, 7, 0.9, [])
@example(POOLED, 8, 0.0, [])
def test_gradients_with_zeros_have_the_bits_of_naive_loops(
    libraries: list[tuple[str, ctypes.CDLL]],
    geometry: ConvGeometry,
    seed: int,
    zeros: float,
    plants: list[tuple[str, float]],
) -> None:
    check(libraries, geometry, seed, zeros, plants)


def test_a_first_part_that_underflows_leaves_minus_zeros_alone(libraries: list[tuple[str, ctypes.CDLL]]) -> None:
    """Sums of -0 from the first sample, which only the ordinary kernel makes, meet zeros in the second."""
    g = POOLED
    x = np.full(g.batch * g.height * g.width * g.channels, 1e-30, np.float32)
    dy = np.zeros((g.batch, g.out_height * g.out_width * g.out_channels), np.float32)
    dy[0, :: g.out_channels], dy[1, 0] = -1e-30, 1.0
    order = np.arange(g.kernel_h * g.kernel_w * g.channels * g.out_channels)
    sums = np.zeros(order.size, np.float32)
    one = conv_shape(replace(g, batch=1))
    for name, library in libraries:
        expected = result(library.naive_conv_grad_weight, conv_shape(g), sums, x, dy.reshape(-1), 0)
        first = result(library.et_conv_grad_weight_f32, one, sums, x[: x.size // 2], dy[0], 0)
        assert np.signbit(first).any() == name.endswith("ET_FMA=1"), "two roundings leave +0"
        actual = result(library.et_conv_grad_weight_f32, one, first, x[x.size // 2 :], dy[1], 2)
        assert_same(actual, expected, name)


def spared(library: ctypes.CDLL, dy: Array, x: Array) -> bool:
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (dy, x)]
    return bool(library.spares_zeros(dy.size, pointers[0], x.size, pointers[1]))


def test_zeros_are_spared_where_nothing_underflows(libraries: list[tuple[str, ctypes.CDLL]]) -> None:
    def numbers(zeros: float, **changes: Any) -> Array:
        values = np.ones(5000, np.float32)
        values[np.random.default_rng(1).random(5000) < zeros] = -0.0
        for value in changes.values():
            values[values.size // 3] = value
        return values

    for name, library in libraries:
        for last in (np.float32(2.0) ** -103, np.float32(1.99) * np.float32(2.0) ** -103):
            assert spared(library, numbers(0.75, last=last), numbers(0.1)), name
            assert spared(library, numbers(0.75), numbers(0.1, last=-last)), name
        assert spared(library, numbers(0.75, last=2.0**-50), numbers(0.1, last=2.0**-53)), name
        assert not spared(library, numbers(0.75, last=2.0**-50), numbers(0.1, last=2.0**-54)), name
        assert not spared(library, numbers(0.3), numbers(0.1)), "too few zeros"
        for value in (np.inf, -np.inf, np.nan, 1e-40, 2.0**-104):
            assert not spared(library, numbers(0.75, last=value), numbers(0.1)), f"{name}: {value} in dy"
            assert not spared(library, numbers(0.75), numbers(0.1, last=value)), f"{name}: {value} in x"


@pytest.mark.parametrize(
    ("geometry", "of_weight", "of_input"),
    [
        (POOLED, True, True),
        (STRIPS, True, True),
        (FIVE, True, True),
        (STRIDED, True, False),
        (FLAT, False, False),
        (TALL, True, False),
        (replace(POOLED, channels=1), False, False),
        (replace(POOLED, groups=2), False, False),
        (replace(POOLED, dilation_w=2), False, False),
        (replace(POOLED, height=40, width=40), True, False),
    ],
)
def test_shapes_that_leave_zeros_out(
    libraries: list[tuple[str, ctypes.CDLL]], geometry: ConvGeometry, of_weight: bool, of_input: bool
) -> None:
    for _, library in libraries:
        shape = conv_shape(geometry)
        assert bool(library.weight_takes_sparse_form(ctypes.byref(shape))) == of_weight
        assert bool(library.input_takes_sparse_form(ctypes.byref(shape))) == of_input
