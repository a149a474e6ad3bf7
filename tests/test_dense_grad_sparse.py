"""Weight gradients of dense layers leave out products with zeros of dy only where this changes no bit: any values."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from codegen.compilers import NUMERICS, WARNINGS
from tests.dense_gradients import DenseCase, check_momentum, check_weight_gradients
from tests.test_conv_grad_sparse import HERE, PLANTS, sparse_values
from tests.test_kernels_conv import (
    RUNTIME,
    Array,
    Build,
    can_run,
    int32_struct,
)
from toolkit.numerics import madd
from toolkit.ops.geometry import dense_shape_fields, pack_permutation

QUICK = settings(derandomize=True, deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
BUILDS = (
    Build("gcc", "-O2 -march=native", 1),
    Build("gcc", "-O1 -march=native -fsanitize=undefined -fno-sanitize-recover=all", 0),
)
WIDE = "-mavx512f -mavx512bw -mavx512vl -mfma"
pytestmark = pytest.mark.skipif(not can_run(WIDE), reason="the kernel is for PCs with AVX-512")


def compile_build(build: Build, folder: Path) -> ctypes.CDLL:
    """What these tests are not about is built without optimization: that takes a quarter of the time."""
    (folder / "et_config.h").write_text(f"#define ET_FMA {build.fma}\n#define ET_WALK 1\n")
    names = ("tile", "reach", "sink", "math", "conv_grad_input", "conv_grad_weight")
    others = [RUNTIME / f"et_{name}.c" for name in names] + [HERE / "naive_conv.c"]
    library, compiled = folder / "kernels.so", folder / "sparse_dense.o"
    command = [build.compiler, *NUMERICS, *WARNINGS, *build.flags.split(), f"-I{folder}", f"-I{RUNTIME}", "-fPIC"]
    sources = [*map(str, others), str(compiled)]
    for step in (
        ["-c", str(HERE / "sparse_dense.c"), "-o", str(compiled)],
        ["-O0", "-shared", *sources, "-o", str(library)],
    ):
        done = subprocess.run([*command, *step], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[str, ctypes.CDLL]]]:
    builds = [build for build in BUILDS if shutil.which(build.compiler)]
    folders = [tmp_path_factory.mktemp("dense") for _ in builds]
    with ThreadPoolExecutor(2) as pool:
        loaded = list(pool.map(compile_build, builds, folders))
    yield [(f"{b.compiler} {b.flags} ET_FMA={b.fma}", library) for b, library in zip(builds, loaded, strict=True)]


@QUICK
@given(
    st.integers(2, 70),
    st.integers(20, 150),
    st.integers(10, 50),
    st.integers(0, 100),
    st.sampled_from([0.3, 0.5, 0.9, 1.0]),
    PLANTS,
)
@example(32, 784, 128, 1, 0.5, [])
@example(32, 112, 16, 2, 0.5, [("x", 1e-30), ("dy", 1e-30)])
@example(64, 130, 30, 3, 0.5, [("x", 3e38)])
@example(17, 40, 530, 4, 0.5, [])
@example(8, 32, 16, 5, 0.5, [("dy", np.inf)])
def test_gradients_with_zeros_have_the_bits_of_naive_loops(
    libraries: list[tuple[str, ctypes.CDLL]],
    batch: int,
    inputs: int,
    outputs: int,
    seed: int,
    zeros: float,
    plants: list[tuple[str, float]],
) -> None:
    case = DenseCase(batch, inputs, outputs, pack_permutation(1, 1, inputs, outputs), seed, zeros, plants)
    for name, library in libraries:
        check_weight_gradients(library, name, "et_dense", case)


def test_a_state_is_updated_from_the_same_sums(libraries: list[tuple[str, ctypes.CDLL]]) -> None:
    for name, library in libraries:
        check_momentum(library, name, "et_dense", DenseCase(16, 50, 20, pack_permutation(1, 1, 50, 20), 1, 0.5))


def test_what_leaves_zeros_out(libraries: list[tuple[str, ctypes.CDLL]]) -> None:
    """Shapes and gradients that take the form at all."""
    cases = (
        (32, 784, 128, 0.5, True),
        (32, 784, 128, 0.2, False),
        (8, 32, 16, 1.0, True),
        (64, 100, 17, 0.5, True),
        (65, 100, 17, 0.5, False),
        (7, 100, 17, 0.5, False),
        (32, 100, 10, 0.5, False),
    )
    for _, library in libraries:
        for batch, inputs, outputs, zeros, expected in cases:
            dy = sparse_values(1, batch * outputs, zeros)
            shape = int32_struct(dense_shape_fields(batch, inputs, outputs))
            found = library.dense_is_sparse(ctypes.byref(shape), dy.ctypes.data_as(ctypes.c_void_p))
            assert bool(found) == expected, (batch, inputs, outputs, zeros)


def _asks(library: ctypes.CDLL, name: str, a: Array, b: Array) -> bool:
    a, b = a.astype(np.float32), b.astype(np.float32)
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (a, b)]
    return bool(library[name](a.size, pointers[0], b.size, pointers[1]))


exponents = st.integers(-80, 60)
mantissas = st.sampled_from([0.0, -0.0, 0.5, -0.5, 0.99]) | st.floats(-1, 1, width=32)
TERMS = st.lists(st.tuples(mantissas, mantissas, exponents, exponents), min_size=1, max_size=12)


@given(TERMS, st.integers(-80, -20))
def test_what_may_be_left_out_changes_no_bit(
    libraries: list[tuple[str, ctypes.CDLL]], terms: list[tuple[float, float, int, int]], low: int
) -> None:
    """One sum in the reference, with and without products that are 0."""
    x = np.float32([np.ldexp(np.float32(a), max(e, low)) for a, _, e, _ in terms])
    y = np.float32([np.ldexp(np.float32(b), max(f, low)) for _, b, _, f in terms])
    library = libraries[0][1]
    for fma in (True, False):
        whole, part = np.float32(0), np.float32(0)
        for a, b in zip(x, y, strict=True):
            whole = np.float32(madd(a, b, whole, fma))
            part = np.float32(madd(a, b, part, fma)) if b != 0 else part
        assert not _asks(library, "zeros_add_nothing", x, y) or whole.tobytes() == part.tobytes()
        assert not _asks(library, "sums_stay_finite", x, y) or np.isfinite(whole)


def test_a_product_that_underflows_leaves_minus_zero(libraries: list[tuple[str, ctypes.CDLL]]) -> None:
    """Why the least numbers matter: the next zero would turn it into +0."""
    x, y = np.float32([-1e-30, 1.0]), np.float32([1e-30, 0.0])
    minus = madd(x[0], y[0], np.float32(0), True)
    assert np.signbit(minus) and not np.signbit(madd(x[1], y[1], minus, True))
    assert not _asks(libraries[0][1], "zeros_add_nothing", x, y)


def test_sums_that_may_overflow_are_known(libraries: list[tuple[str, ctypes.CDLL]]) -> None:
    one, library = np.float32([1.5]), libraries[0][1]
    assert _asks(library, "sums_stay_finite", one * 2.0**50, one * 2.0**55)
    assert not _asks(library, "sums_stay_finite", one * 2.0**50, one * 2.0**56)
    for value in (np.inf, np.nan):
        assert not _asks(library, "sums_stay_finite", np.float32([value]), np.float32([1e-30]))
        assert not _asks(library, "sums_stay_finite", np.float32([1e-30]), np.float32([value]))
