"""The convolution, depthwise, dense and matmul kernels give the bits of naive loops, in every variant and build."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from codegen.resources import folder
from tests.rectified import check_gated, check_rectified, check_sums
from tests.support import build_kernels
from toolkit.numerics import madd
from toolkit.ops.geometry import (
    ConvGeometry,
    conv_shape_fields,
    dense_shape_fields,
    matmul_shape_fields,
    pack_permutation,
)

Array = npt.NDArray[Any]
RUNTIME = folder("runtime_c")

HEADERS = [
    *("conv", "conv_grad_input", "conv_grad_weight", "depthwise", "depthwise_grad_weight"),
    *("dense", "dense_grad", "matmul"),
]
KERNELS = [*HEADERS, "product", "tile", "reach", "sink", "math", "gate"]
QUICK = settings(derandomize=True, deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))


# --- builds -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Build:
    """A way to compile the kernels."""

    compiler: str
    flags: str
    fma: int


_DEPTHWISE = ("DEPTHWISE", "DEPTHWISE_ROLLS", "DEPTHWISE_STRIDES", "DEPTHWISE_WEIGHTS")
_FORMS = (*_DEPTHWISE, "DOT", "GROUPED", "STILL", "TAPS", "TEN")
FORMS = " ".join(f"-DET_FORM_{form}=1" for form in _FORMS)
ENDS = {f"ET_FORM_{form}": 1 for form in ("RECTIFY", "CEILING", "ADDEND", "ADDEND_NARROW", "GATE")}

BUILDS = (
    Build("gcc", "-O3 -march=native", 1),
    Build("gcc", "-O3 -march=native", 0),
    Build("gcc", "-O2 -mavx2 -mfma", 1),
    Build("gcc", "-O2 -DET_FORCE_SCALAR -mfma", 1),
    Build("gcc", "-O2 -DET_FORCE_SCALAR", 0),
    Build("gcc", f"-O2 -DET_FORCE_SCALAR -mfma {FORMS}", 1),
    Build("gcc", "-O2 -DET_FORCE_SCALAR -DET_SMALL_TILES=1", 0),
    Build("gcc", "-Os -DET_FORCE_SCALAR -DET_SMALL_CODE=1", 0),
    Build("clang-19", "-O2 -march=native", 1),
)


class Segment(ctypes.Structure):
    """et_segment."""

    _fields_ = [(f"field{i}", ctypes.c_int16) for i in range(9)]


_INT32 = ["batch", "height", "width", "channels", "out_height", "out_width", "out_channels"]
_INT16 = ["kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w", "pad_top", "pad_left"]


class ConvShape(ctypes.Structure):
    """et_conv_shape."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in _INT32),
        *((name, ctypes.c_int16) for name in _INT16),
        *((name, ctypes.c_int32) for name in ("groups", "row_count", "column_count")),
        *((name, ctypes.POINTER(Segment)) for name in ("rows", "columns")),
        *((name, ctypes.c_int32) for name in ("grad_row_count", "grad_column_count")),
        *((name, ctypes.POINTER(Segment)) for name in ("grad_rows", "grad_columns")),
    ]


def conv_shape(geometry: ConvGeometry) -> ConvShape:
    """The C struct, from the very fields that generated code gets."""
    shape = ConvShape()
    fields = conv_shape_fields(geometry)
    assert list(fields) == [name for name, _ in ConvShape._fields_]
    for name, value in fields.items():
        setattr(shape, name, value if isinstance(value, int) else (Segment * len(value))(*(Segment(*v) for v in value)))
    return shape


def int32_struct(fields: dict[str, int]) -> Any:
    """A C struct of int32 fields only."""
    return (ctypes.c_int32 * len(fields))(*fields.values())


def compile_kernels(build: Build, folder: Path) -> Path | None:
    """A shared library with the kernels and the naive loops; None without the compiler or the instructions."""
    if shutil.which(build.compiler) is None:
        return None
    sources = [*(RUNTIME / f"et_{name}.c" for name in KERNELS), Path(__file__).parent / "c" / "naive_conv.c"]
    return build_kernels(folder, sources, {"ET_FMA": build.fma} | ENDS, build.flags, build.compiler)


def can_run(flags: str) -> bool:
    """Whether this machine has the instructions that the flags ask for."""
    wanted = {flag.removeprefix("-m") for flag in flags.split() if flag in ("-mavx2", "-mfma")}
    try:
        have = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return not wanted
    return wanted <= have


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[str, ctypes.CDLL]]]:
    """All builds that this machine can compile and run."""
    folders = [tmp_path_factory.mktemp("kernels") for _ in BUILDS]
    builds = [(build, folder) for build, folder in zip(BUILDS, folders, strict=True) if can_run(build.flags)]
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda pair: compile_kernels(*pair), builds))
    loaded = [
        (f"{build.compiler} {build.flags} ET_FMA={build.fma}", ctypes.CDLL(str(path)))
        for (build, _), path in zip(builds, paths, strict=True)
        if path is not None
    ]
    assert loaded
    yield loaded


# --- calls ------------------------------------------------------------------------------------------------------------


def values(seed: int, count: int) -> Array:
    """Floats of several sizes, among them both zeros and subnormals."""
    random = np.random.default_rng([seed, count])
    x = random.standard_normal(count).astype(np.float32)
    x *= np.float32(2.0) ** random.integers(-4, 5, count).astype(np.float32)
    for value in (0.0, -0.0, 1e-40):
        x[random.random(count) < 0.02] = np.float32(value)
    return x


def call(function: Callable[..., int], shape: Any, *arguments: Array | int | None) -> int:
    """Calls a kernel: arrays by pointer, ints as int32."""
    converted: list[Any] = [ctypes.byref(shape)]
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            converted.append(argument.ctypes.data_as(ctypes.c_void_p))
        else:
            converted.append(None if argument is None else ctypes.c_int32(argument))
    return function(*converted)


def result(function: Callable[..., int], shape: Any, initial: Array, *arguments: Array | int | None) -> Array:
    """What a kernel leaves in its output, which starts as `initial`; checks that nothing after it is written.

    The output comes after all arrays, before ints.
    """
    guarded = np.concatenate([initial, np.full(32, 12345.0, np.float32)])
    arrays = [a for a in arguments if not isinstance(a, int)]
    numbers = [a for a in arguments if isinstance(a, int)]
    call(function, shape, *arrays, guarded, *numbers)
    assert (guarded[initial.size :] == 12345.0).all(), "wrote past the end"
    return guarded[: initial.size]


def check_updates(
    library: ctypes.CDLL, name: str, kernel: str, shape: Any, dw: Array, w: Array, *reads: Array, rate: float = 0.37
) -> None:
    """The fused update, with and without weight decay, against a step of SGD; NaN for NaN, and `w` where dw is not
    finite."""
    finite, rate = np.isfinite(dw), np.float32(rate)
    fma = name.endswith("ET_FMA=1")
    for decay in (np.float32(0), np.float32(0.01)):
        with np.errstate(all="ignore"):
            step = madd(decay, w, dw, fma) if decay else dw
            expected = np.where(finite, madd(-rate, step, w, fma), w)
        guarded = np.concatenate([w, np.full(32, 12345.0, np.float32)])
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (*reads, guarded)]
        status = library[kernel](ctypes.byref(shape), ctypes.c_float(rate), ctypes.c_float(decay), *pointers)
        assert (status == 0) == finite.all(), f"{name}: {kernel} gives status {status}"
        assert (guarded[w.size :] == 12345.0).all(), "wrote past the end"
        assert_same_bits(guarded[: w.size], expected, f"{name}: {kernel}, weight decay {decay}")


def with_infinities(seed: int, array: Array) -> Array:
    """The same with an element or two that overflow a product, or are not finite."""
    random = np.random.default_rng(seed)
    changed = array.copy()
    changed[random.integers(0, array.size, 2)] = random.choice([np.inf, -np.inf, np.nan, 3e38, -2e38], 2)
    return changed


def assert_same_bits(actual: Array, expected: Array, what: str) -> None:
    """Bits, not values: -0 is not 0."""
    wrong = np.flatnonzero(actual.view(np.uint32) != expected.view(np.uint32))
    assert wrong.size == 0, (
        f"{what}: {wrong.size} of {expected.size} differ; [{wrong[0]}] {actual[wrong[0]]!r} != {expected[wrong[0]]!r}"
    )


# --- shapes -----------------------------------------------------------------------------------------------------------


@st.composite
def conv_geometries(draw: st.DrawFn, depthwise: bool = False) -> ConvGeometry:
    """Small shapes with odd corners; kernels may be larger than the input where pads allow it."""
    flat = draw(st.booleans())  # 1-D
    groups = (
        draw(st.sampled_from([2, 3, 4, 5, 10, 17, 33, 70])) if depthwise else draw(st.sampled_from([1, 1, 1, 2, 3]))
    )
    usual = depthwise and draw(st.booleans())  # 3x3 with narrow pads has kernels of its own
    per_group = 1 if depthwise else draw(st.sampled_from([1, 2, 3, 4, 5, 6, 8, 10, 16, 17]))
    outputs = 1 if depthwise else draw(st.sampled_from([1, 2, 3, 4, 5, 6, 8, 10, 16, 17, 32, 35, 64]))

    def axis(flat: bool) -> tuple[int, int, int, int, int, int]:
        if flat:
            return 1, 1, 1, 1, 0, 0
        if usual:
            before, after = draw(st.integers(0, 1)), draw(st.integers(0, 1))
            return draw(st.integers(3 - before - after, 9)), 3, draw(st.integers(1, 2)), 1, before, after
        kernel, stride, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 2, 3]))
        before, after = draw(st.integers(0, 3)), draw(st.integers(0, 3))
        least = max(1, dilation * (kernel - 1) + 1 - before - after)
        return draw(st.integers(least, least + 8)), kernel, stride, dilation, before, after

    height, kernel_h, stride_h, dilation_h, top, bottom = axis(flat)
    width, kernel_w, stride_w, dilation_w, left, right = axis(False)
    return ConvGeometry(
        draw(st.integers(1, 3)),
        height,
        width,
        groups * per_group,
        groups * outputs,
        kernel_h,
        kernel_w,
        stride_h,
        stride_w,
        dilation_h,
        dilation_w,
        top,
        left,
        bottom,
        right,
        groups,
    )


SAME_3X3 = ConvGeometry(2, 8, 8, 16, 32, 3, 3, pad_top=1, pad_left=1, pad_bottom=1, pad_right=1)
STRIDED_1X1 = ConvGeometry(1, 8, 8, 16, 32, 1, 1, 2, 2)
MANY_OUTPUTS = replace(SAME_3X3, batch=1, height=3, width=3, channels=19, out_channels=130)  # past the turned weights
ONE_CHANNEL = replace(SAME_3X3, height=5, width=17, channels=1, out_channels=7)  # nine steps a result
EVEN_STEPS = replace(SAME_3X3, height=4, width=16, channels=6, out_channels=9)  # twelve pixels side by side
DEPTHWISE_3X3 = replace(SAME_3X3, height=7, width=5, channels=20, out_channels=20, groups=20)
DEPTHWISE_STRIDED = replace(DEPTHWISE_3X3, height=9, width=8, stride_h=2, stride_w=2, pad_top=0, pad_left=0)


def check_convolution(libraries: list[tuple[str, ctypes.CDLL]], geometry: ConvGeometry, seed: int) -> None:
    """Forward, both gradients, and the accumulating one, of all builds."""
    g = geometry
    per_group = g.channels // g.groups
    order = np.arange(g.kernel_h * g.kernel_w * per_group * g.out_channels)
    family = "depthwise" if g.depthwise else "conv"
    if not g.depthwise:
        order = pack_permutation(g.kernel_h, g.kernel_w, per_group, g.out_channels, g.groups)
    x = values(seed, g.batch * g.height * g.width * g.channels)
    dy = values(seed + 1, g.batch * g.out_height * g.out_width * g.out_channels)
    w, dw = values(seed + 2, order.size), values(seed + 3, order.size)
    biases = [None, values(seed + 4, g.out_channels)]
    shape = conv_shape(g)
    for name, library in libraries:
        for bias in biases:
            expected = result(library.naive_conv, shape, np.zeros_like(dy), x, w, bias)
            actual = result(library[f"et_{family}_f32"], shape, values(9, dy.size), x, w[order], bias)
            assert_same_bits(actual, expected, f"{name}: forward")
            infinite = with_infinities(seed, x)
            linear = result(library.naive_conv, shape, np.zeros_like(dy), infinite, w, bias)
            check_rectified(library, f"et_{family}_relu_f32", shape, linear, infinite, w[order], bias)
            if not g.depthwise:
                check_sums(library, "et_conv", shape, expected, dy, x, w[order], bias)
        expected = result(library.naive_conv_grad_input, shape, np.zeros_like(x), dy, w)
        actual = result(library[f"et_{family}_grad_input_f32"], shape, values(9, x.size), dy, w[order])
        assert_same_bits(actual, expected, f"{name}: gradient of the input")
        infinite = with_infinities(seed, dy)
        linear = result(library.naive_conv_grad_input, shape, np.zeros_like(x), infinite, w)
        check_gated(library, f"et_{family}_grad_input_gated_f32", shape, linear, seed, infinite, w[order])
        for accumulate in (0, 1):
            expected = result(library.naive_conv_grad_weight, shape, dw, x, dy, accumulate)
            actual = result(library[f"et_{family}_grad_weight_f32"], shape, dw[order], x, dy, accumulate)
            assert_same_bits(actual, expected[order], f"{name}: gradient of the weights, accumulate={accumulate}")
        for gradient in (dy, with_infinities(seed, dy)):
            expected = result(library.naive_conv_grad_weight, shape, dw, x, gradient, 0)[order]
            check_updates(library, name, f"et_{family}_update_f32", shape, expected, w[order], x, gradient)


@QUICK
@given(conv_geometries(), st.integers(0, 100))
@example(SAME_3X3, 1)
@example(STRIDED_1X1, 2)
@example(MANY_OUTPUTS, 3)
@example(ONE_CHANNEL, 4)
@example(EVEN_STEPS, 5)
def test_convolution_gives_the_bits_of_naive_loops(
    libraries: list[tuple[str, ctypes.CDLL]], geometry: ConvGeometry, seed: int
) -> None:
    check_convolution(libraries, geometry, seed)


@QUICK
@given(conv_geometries(depthwise=True), st.integers(0, 100))
@example(DEPTHWISE_3X3, 1)
@example(DEPTHWISE_STRIDED, 2)
def test_depthwise_gives_the_bits_of_naive_loops(
    libraries: list[tuple[str, ctypes.CDLL]], geometry: ConvGeometry, seed: int
) -> None:
    check_convolution(libraries, geometry, seed)


@QUICK
@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 70), st.integers(0, 100))
@example(1, 20, 64, 1)
@example(1, 9, 10, 2)
@example(2, 5, 1100, 3)
@example(1, 37, 1, 4)
@example(1, 16, 1, 5)
def test_dense_gives_the_bits_of_naive_loops(
    libraries: list[tuple[str, ctypes.CDLL]], batch: int, inputs: int, outputs: int, seed: int
) -> None:
    naive = conv_shape(ConvGeometry(batch, 1, 1, inputs, outputs, 1, 1))
    shape = int32_struct(dense_shape_fields(batch, inputs, outputs))
    order = pack_permutation(1, 1, inputs, outputs)
    x, dy = values(seed, batch * inputs), values(seed + 1, batch * outputs)
    w, dw, bias = values(seed + 2, order.size), values(seed + 3, order.size), values(seed + 4, outputs)
    for name, library in libraries:
        for maybe in (None, bias):
            expected = result(library.naive_conv, naive, np.zeros_like(dy), x, w, maybe)
            actual = result(library.et_dense_f32, shape, values(9, dy.size), x, w[order], maybe)
            assert_same_bits(actual, expected, f"{name}: forward")
            infinite = with_infinities(seed, x)
            linear = result(library.naive_conv, naive, np.zeros_like(dy), infinite, w, maybe)
            check_rectified(library, "et_dense_relu_f32", shape, linear, infinite, w[order], maybe)
        expected = result(library.naive_conv_grad_input, naive, np.zeros_like(x), dy, w)
        actual = result(library.et_dense_grad_input_f32, shape, values(9, x.size), dy, w[order])
        assert_same_bits(actual, expected, f"{name}: gradient of the input")
        for accumulate in (0, 1):
            expected = result(library.naive_conv_grad_weight, naive, dw, x, dy, accumulate)
            actual = result(library.et_dense_grad_weight_f32, shape, dw[order], x, dy, accumulate)
            assert_same_bits(actual, expected[order], f"{name}: gradient of the weights, accumulate={accumulate}")
        for source, gradient in ((x, dy), (x, with_infinities(seed, dy)), (with_infinities(seed, x), dy)):
            expected = result(library.naive_conv_grad_weight, naive, dw, source, gradient, 0)[order]
            check_updates(library, name, "et_dense_update_f32", shape, expected, w[order], source, gradient)


RATES = st.sampled_from([0.37, -0.37, 0.0, -0.0, 3e38, np.inf])


@QUICK
@given(st.integers(1, 60), st.integers(14, 40), RATES, st.integers(0, 100))
def test_updates_of_inputs_that_are_mostly_zeros(
    libraries: list[tuple[str, ctypes.CDLL]], inputs: int, outputs: int, rate: float, seed: int
) -> None:
    shape, rows = int32_struct(dense_shape_fields(1, inputs, outputs)), pack_permutation(1, 1, inputs, outputs)
    x, dy, w = values(seed, inputs), values(seed + 1, outputs), values(seed + 2, rows.size)
    random = np.random.default_rng(seed)
    x[random.random(inputs) < 0.7] = random.choice(np.array([0.0, -0.0], np.float32))
    w[random.random(w.size) < 0.2] = np.float32(-0.0)
    for name, library in libraries:
        dw = result(library.et_dense_grad_weight_f32, shape, np.zeros_like(w), x, dy, 0)
        check_updates(library, name, "et_dense_update_f32", shape, dw, w[rows], x, dy, rate=rate)


@QUICK
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 14), st.integers(1, 20), st.integers(1, 40)),
    st.tuples(*[st.booleans()] * 4),
    st.integers(0, 100),
)
@example((1, 7, 600, 20), (False, True, False, False), 1)
def test_matmul_gives_the_bits_of_naive_loops(
    libraries: list[tuple[str, ctypes.CDLL]],
    sizes: tuple[int, int, int, int],
    flags: tuple[bool, bool, bool, bool],
    seed: int,
) -> None:
    batch, rows, inner, columns = sizes
    shape = int32_struct(matmul_shape_fields(*sizes, *flags))
    a = values(seed, rows * inner * (1 if flags[2] else batch))
    b = values(seed + 1, inner * columns * (1 if flags[3] else batch))
    for name, library in libraries:
        expected = result(library.naive_matmul, shape, np.zeros(batch * rows * columns, np.float32), a, b)
        actual = result(library.et_matmul_f32, shape, values(9, expected.size), a, b)
        assert_same_bits(actual, expected, name)


# --- geometry ---------------------------------------------------------------------------------------------------------


@QUICK
@given(conv_geometries())
def test_segments_cover_every_result_once_with_its_taps(geometry: ConvGeometry) -> None:
    g = geometry
    axes = (
        (g.rows(), g.grad_rows(), g.height, g.out_height, g.kernel_h, g.stride_h, g.dilation_h, g.pad_top),
        (g.columns(), g.grad_columns(), g.width, g.out_width, g.kernel_w, g.stride_w, g.dilation_w, g.pad_left),
    )
    for forward, backward, size, out_size, kernel, stride, dilation, pad in axes:
        pairs = {(o, k): o * stride - pad + k * dilation for o in range(out_size) for k in range(kernel)}
        met = {(o, k, i) for (o, k), i in pairs.items() if 0 <= i < size}
        for segments, count, inverse in ((forward, out_size, False), (backward, size, True)):
            results, found = [], set()
            for first, step, length, tap, tap_step, taps, source, source_step, source_tap_step in segments:
                results += [first + r * step for r in range(length)]
                for r in range(length):
                    for t in range(taps):
                        one, other = first + r * step, source + r * source_step + t * source_tap_step
                        o, i = (other, one) if inverse else (one, other)
                        found.add((o, tap + t * tap_step, i))
            assert sorted(results) == list(range(count))
            assert found == met


def test_packing_is_panels_of_sixteen_and_a_narrow_rest() -> None:
    canonical = np.arange(2 * 3 * 20 * 2).reshape(1, 2, 3, 40)  # two groups of 20 outputs
    packed = canonical.reshape(-1)[pack_permutation(1, 2, 3, 40, groups=2)]
    assert packed[:16].tolist() == list(range(16))
    assert packed[16:32].tolist() == list(range(40, 56))
    assert packed[6 * 16 : 6 * 16 + 4].tolist() == [16, 17, 18, 19]
    assert packed[6 * 20] == 20
    assert sorted(packed.tolist()) == list(range(canonical.size))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": 3}, "groups"),
        ({"kernel_h": 20}, "output"),
        ({"pad_left": -1}, "pad_left"),
        ({"width": 40000}, "32767"),
    ],
)
def test_impossible_geometry_is_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SAME_3X3, **change)
