"""Dense layers over a batch, their weights output by output: bits of naive loops, and in models of the reference."""

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
from codegen.kernels import runtime_for
from tests.test_conv_grad_sparse import HERE, PLANTS, assert_same, sparse_values
from tests.test_kernels_conv import (
    RUNTIME,
    Build,
    can_run,
    check_rectified,
    check_updates,
    conv_shape,
    int32_struct,
    result,
)
from tests.test_threads import _same
from toolkit.numerics import madd
from toolkit.ops.geometry import ConvGeometry, dense_shape_fields
from toolkit.pipeline import Compiled, Options, compile_model
from toolkit.sim.parity import verify_bits
from toolkit.train.step import TrainingOptions

QUICK = settings(derandomize=True, deadline=None, max_examples=12, suppress_health_check=list(HealthCheck))
BUILDS = (
    Build("gcc", "-O2 -march=native", 1),
    Build("gcc", "-O1 -march=native -fsanitize=undefined -fno-sanitize-recover=all", 0),
    Build("clang-19", "-O1 -mavx2 -mfma", 1),
    Build("gcc", "-O1 -DET_FORCE_SCALAR", 0),
)
CACHE = 1 << 30  # bytes, so many that nothing walks
Libraries = list[tuple[str, ctypes.CDLL]]


def compile_build(build: Build, folder: Path) -> ctypes.CDLL:
    (folder / "et_config.h").write_text(
        f"#define ET_FMA {build.fma}\n#define ET_WALK 1\n#define ET_FORM_RECTIFY 1\n#define ET_FORM_CEILING 1\n"
    )
    sources = [str(RUNTIME / name) for name in runtime_for(["et_dense_batch_f32"]).sources]
    command = [build.compiler, *NUMERICS, *WARNINGS, *build.flags.split(), f"-I{folder}", f"-I{RUNTIME}"]
    library = folder / "kernels.so"
    command += ["-fPIC", "-shared", *sources, str(HERE / "naive_conv.c"), "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Libraries]:
    builds = [build for build in BUILDS if shutil.which(build.compiler) and can_run(build.flags)]
    folders = [tmp_path_factory.mktemp("batch") for _ in builds]
    with ThreadPoolExecutor(2) as pool:
        loaded = list(pool.map(compile_build, builds, folders))
    yield [(f"{b.compiler} {b.flags} ET_FMA={b.fma}", library) for b, library in zip(builds, loaded, strict=True)]


@QUICK
@given(
    st.integers(1, 70),
    st.integers(1, 300),
    st.integers(1, 60),
    st.integers(0, 100),
    st.sampled_from([0.0, 0.5, 1.0]),
    PLANTS,
)
@example(32, 112, 48, 1, 0.5, [])
@example(16, 130, 140, 2, 0.5, [("x", 3e38)])
@example(33, 900, 9, 3, 0.5, [])
@example(24, 64, 16, 4, 0.5, [("dy", np.inf)])
@example(32, 64, 16, 5, 0.5, [("x", 1e-30), ("dy", 1e-30)])
def test_kernels_give_the_bits_of_naive_loops(
    libraries: Libraries,
    batch: int,
    inputs: int,
    outputs: int,
    seed: int,
    zeros: float,
    plants: list[tuple[str, float]],
) -> None:
    order = np.arange(inputs * outputs).reshape(inputs, outputs).T.reshape(-1)
    arrays = {
        "x": sparse_values(seed, batch * inputs, 0.2),
        "dy": sparse_values(seed + 1, batch * outputs, zeros),
        "w": sparse_values(seed + 2, order.size, 0.1),
    }
    random = np.random.default_rng(seed)
    for name, value in plants:
        arrays[name][random.integers(0, arrays[name].size, random.integers(1, 4))] = value
    x, dy, w = arrays.values()
    old, bias = sparse_values(seed + 3, order.size, 0.3), sparse_values(seed + 4, outputs, 0.1)
    naive = conv_shape(ConvGeometry(batch, 1, 1, inputs, outputs, 1, 1))
    shape = int32_struct(dense_shape_fields(batch, inputs, outputs))
    for name, library in libraries:
        for maybe in (None, bias):
            expected = result(library.naive_conv, naive, np.zeros_like(dy), x, w, maybe)
            actual = result(library.et_dense_batch_f32, shape, sparse_values(9, dy.size, 0), x, w[order], maybe)
            assert_same(actual, expected, f"{name}: forward")
            check_rectified(library, "et_dense_batch_relu_f32", shape, expected, x, w[order], maybe)
        expected = result(library.naive_conv_grad_input, naive, np.zeros_like(x), dy, w)
        actual = result(library.et_dense_batch_grad_input_f32, shape, sparse_values(9, x.size, 0), dy, w[order])
        assert_same(actual, expected, f"{name}: gradient of the input")
        for accumulate in (0, 1):
            expected = result(library.naive_conv_grad_weight, naive, old, x, dy, accumulate)[order]
            actual = result(library.et_dense_batch_grad_weight_f32, shape, old[order], x, dy, accumulate)
            assert_same(actual, expected, f"{name}: accumulate={accumulate}")
        sums = result(library.naive_conv_grad_weight, naive, old, x, dy, 0)[order]
        if not np.isnan(sums).any():  # what is kept of a NaN is checked where the sinks are
            check_updates(library, name, "et_dense_batch_update_f32", shape, sums, w[order], x, dy)
        half = batch // 2  # a walk in two parts
        if half:
            first, rest = (int32_struct(dense_shape_fields(n, inputs, outputs)) for n in (half, batch - half))
            actual = result(library.et_dense_batch_grad_weight_f32, first, old[order], x, dy, 0)
            others = (x[half * inputs :], dy[half * outputs :])
            actual = result(library.et_dense_batch_grad_weight_f32, rest, actual, *others, 2)
            assert_same(actual, sums, f"{name}: in two parts")


@pytest.mark.parametrize("zeros", [0.0, 0.5])
def test_a_state_is_updated_from_the_same_sums(libraries: Libraries, zeros: float) -> None:
    batch, inputs, outputs, rate = 16, 50, 20, np.float32(0.1)
    order = np.arange(inputs * outputs).reshape(inputs, outputs).T.reshape(-1)
    x, dy = sparse_values(1, batch * inputs, 0.2), sparse_values(2, batch * outputs, zeros)
    naive = conv_shape(ConvGeometry(batch, 1, 1, inputs, outputs, 1, 1))
    shape = int32_struct(dense_shape_fields(batch, inputs, outputs))
    for name, library in libraries:
        fma = name.endswith("ET_FMA=1")
        w, velocity = sparse_values(3, order.size, 0.1), sparse_values(4, order.size, 0.1)
        sums = result(library.naive_conv_grad_weight, naive, w, x, dy, 0)[order]
        wanted_velocity = madd(0.5, velocity, sums, fma)
        wanted = madd(-rate, wanted_velocity, w, fma)
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (x, dy, w, velocity)]
        rates = [ctypes.c_float(value) for value in (rate, 0.0, 0.5)]
        assert library.et_dense_batch_momentum_f32(ctypes.byref(shape), *rates, ctypes.c_bool(False), *pointers) == 0
        assert_same(velocity, wanted_velocity, name)
        assert_same(w, wanted, name)


def kernels(compiled: Compiled) -> set[str]:
    return {step.kernel for function in compiled.program.functions.values() for step in function.steps}


def test_which_layers_have_their_weights_so() -> None:
    assert "et_dense_batch_relu_f32" in kernels(compile_model("mlp", Options("all", batch=16, cache=CACHE)))
    for options in (
        Options("all", batch=16),  # not for a PC
        Options("all", batch=8, cache=CACHE),  # lanes would be empty
        Options("all", batch=17, cache=CACHE),
        Options("none", batch=16, cache=CACHE),
        Options("all", batch=16, cache=CACHE, opt="size"),
        Options("all", batch=16, cache=CACHE, walk=4),
    ):
        assert not any("_batch_" in kernel for kernel in kernels(compile_model("mlp", options))), options
    head = kernels(compile_model("mlp", Options("head", batch=32, cache=CACHE)))
    assert {"et_dense_relu_f32", "et_dense_batch_f32"} <= head


TRAININGS = [
    ("sgd", TrainingOptions()),
    ("momentum", TrainingOptions(optimizer="sgd:momentum=0.9,weight_decay=0.01")),
    ("adam", TrainingOptions(optimizer="adam")),
    ("accumulated", TrainingOptions(accumulate=2)),
    ("atomic", TrainingOptions(atomic=True)),
]


@pytest.mark.parametrize(
    "training",
    [pytest.param(each, id=name, marks=[] if name == "sgd" else pytest.mark.slow) for name, each in TRAININGS],
)
def test_models_give_the_bits_of_the_reference(training: TrainingOptions) -> None:
    model = compile_model("mlp", Options("all", training, batch=16, cache=CACHE))
    report = verify_bits(model, ["reference", "host"], steps=2)
    assert report.differing_bits == 0, report.first_difference
    assert report.compared_bits > 0 and "et_dense_batch_grad_input_f32" in kernels(model)


@pytest.mark.emulator
def test_rv32_gives_the_bits_of_the_reference() -> None:
    """Not that a board would be given this layout: the kernels are plain C."""
    model = compile_model("mlp", Options("all", batch=16, cache=CACHE))
    report = verify_bits(model, ["reference", "qemu-rv32"], steps=1)
    assert report.differing_bits == 0, report.first_difference
    assert report.compared_bits > 0


@pytest.mark.slow
def test_threads_change_no_bit() -> None:
    _same(compile_model("mlp", Options("all", batch=40, cache=CACHE)))
    _same(compile_model("mlp", Options("all", batch=16, cache=CACHE)))
