"""Pooling: what it computes, and that the C agrees."""

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
from tests.support import (
    agrees_with_torch,
    assert_parity,
    floats,
    floats_with_special,
    reference_gradients,
    torch,
    values,
)
from toolkit.ir import TensorType
from toolkit.ops.average_pool import AveragePool, AveragePoolGrad
from toolkit.ops.base import Op, ShapeError
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.contexts import Training
from toolkit.ops.max_pool import MaxPool, MaxPoolGrad, MaxPoolTraining
from toolkit.ops.pooling import Window, pool_fields


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
    agrees_with_torch(
        MaxPool(window), x, lambda t: pool(t, window.kernel, window.strides, window.before, **options), seed
    )


@pytest.mark.oracle
@given(RANKS.flatmap(lambda rank: windows(rank, as_torch=True)), st.booleans(), st.integers(1, 2), st.integers(0, 999))
def test_average_pool_agrees_with_pytorch(case: Any, include: bool, batch: int, seed: int) -> None:
    window, sizes = case
    functional = torch().nn.functional
    assume(fits(AveragePool(window, include), batch, *sizes, 3))
    x = floats(seed, batch, *sizes, 3)
    pool = functional.avg_pool1d if len(sizes) == 1 else functional.avg_pool2d
    arguments = (window.kernel, window.strides, window.before, window.ceil_mode, include)
    agrees_with_torch(AveragePool(window, include), x, lambda t: pool(t, *arguments), seed)


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
