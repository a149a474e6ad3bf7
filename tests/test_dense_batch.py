"""Dense layers over a batch, their weights output by output: bits of naive loops, and in models of the reference."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from codegen.kernels import runtime_for
from tests.dense_gradients import DenseCase, check_momentum, check_weight_gradients
from tests.support import build_kernels
from tests.test_conv_grad_sparse import HERE, PLANTS, assert_same, sparse_values
from tests.test_kernels_conv import RUNTIME, Array, Build, can_run, check_rectified, result
from tests.test_threads import _same
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
    sources = [RUNTIME / name for name in runtime_for(["et_dense_batch_f32"]).sources] + [HERE / "naive_conv.c"]
    config = {"ET_FMA": build.fma, "ET_WALK": 1, "ET_FORM_RECTIFY": 1, "ET_FORM_CEILING": 1}
    return ctypes.CDLL(str(build_kernels(folder, sources, config, build.flags, build.compiler)))


def by_output(inputs: int, outputs: int) -> Array:
    return np.arange(inputs * outputs).reshape(inputs, outputs).T.reshape(-1)


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
    case = DenseCase(batch, inputs, outputs, by_output(inputs, outputs), seed, zeros, plants)
    (x, dy, w), bias = case.values(), sparse_values(seed + 4, outputs, 0.1)
    naive, shape, packed = case.naive(), case.shape(), w[case.order]
    for name, library in libraries:
        for maybe in (None, bias):
            expected = result(library.naive_conv, naive, np.zeros_like(dy), x, w, maybe)
            actual = result(library.et_dense_batch_f32, shape, sparse_values(9, dy.size, 0), x, packed, maybe)
            assert_same(actual, expected, f"{name}: forward")
            check_rectified(library, "et_dense_batch_relu_f32", shape, expected, x, packed, maybe)
        expected = result(library.naive_conv_grad_input, naive, np.zeros_like(x), dy, w)
        actual = result(library.et_dense_batch_grad_input_f32, shape, sparse_values(9, x.size, 0), dy, packed)
        assert_same(actual, expected, f"{name}: gradient of the input")
        check_weight_gradients(library, name, "et_dense_batch", case)


@pytest.mark.parametrize("zeros", [0.0, 0.5])
def test_a_state_is_updated_from_the_same_sums(libraries: Libraries, zeros: float) -> None:
    for name, library in libraries:
        check_momentum(library, name, "et_dense_batch", DenseCase(16, 50, 20, by_output(50, 20), 1, zeros))


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
