"""What lies between layers of binary16: each op against C, and whole training steps that stay in 16 bits."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.board import load_board
from codegen.compilers import find_riscv_compilers
from tests.support import assert_parity, floats, floats_with_special
from toolkit.bench.rv32 import measure
from toolkit.bench.shapes import NONE
from toolkit.numerics.half import to_half
from toolkit.ops.base import Op, Run
from toolkit.ops.conv import Conv
from toolkit.ops.half_codes import ToHalf
from toolkit.ops.half_layer import HalfGradInput, HalfLayer
from toolkit.ops.native_maps import NativeAdd, NativeMean, NativeMeanGrad, NativeRelu, NativeReluGrad, NativeSumRows
from toolkit.ops.native_norm import (
    NativeBatchNorm,
    NativeBatchNormBatchGrad,
    NativeBatchNormParameterGrad,
    NativeBatchNormRunningGrad,
    NativeBatchNormTraining,
)
from toolkit.ops.native_pool import NativeMaxPool, NativeMaxPoolGrad, NativeMaxPoolTraining
from toolkit.ops.pooling import Window
from toolkit.ops.rectified_layer import RectifiedLayer
from toolkit.pipeline import Options, compile_model
from toolkit.quant import parse_plan
from toolkit.sim.parity import verify_bits
from toolkit.train.step import TrainingOptions
from toolkit.zoo.single import LayerShape, single_layer

METHOD = "fp16:accumulate=native,master=stored"


def halves(seed: int, *shape: int, special: bool = False) -> np.ndarray:
    return to_half((floats_with_special if special else floats)(seed, *shape), "fp16")


@settings(max_examples=4)
@given(
    batch=st.integers(1, 2), size=st.integers(1, 5), channels=st.sampled_from([1, 3, 4, 8, 17, 24]),
    seed=st.integers(0, 99), special=st.booleans(), keepdims=st.booleans(),
)  # fmt: skip
def test_maps_are_the_same_in_c(
    batch: int, size: int, channels: int, seed: int, special: bool, keepdims: bool
) -> None:
    shape = (batch, size, 3, channels)
    x, other = halves(seed, *shape, special=special), halves(seed + 1, *shape, special=special)
    assert_parity(NativeRelu(), (x,))
    (y,) = NativeRelu().run(Run(), x)
    assert_parity(NativeReluGrad(), (other, y))
    assert_parity(NativeAdd(), (x, other))
    assert_parity(RectifiedLayer(NativeAdd()), (x, other))
    assert_parity(NativeSumRows(1 / 128), (x,))
    assert_parity(NativeMean(keepdims), (x,))
    (mean,) = NativeMean(keepdims).run(Run(), x)
    assert_parity(NativeMeanGrad(shape), (mean,))


@settings(max_examples=4)
@given(
    rows=st.integers(1, 9), channels=st.sampled_from([1, 5, 8, 19]), seed=st.integers(0, 99), special=st.booleans(),
)  # fmt: skip
def test_batch_norms_are_the_same_in_c(rows: int, channels: int, seed: int, special: bool) -> None:
    x, dy = halves(seed, 2, rows, channels, special=special), halves(seed + 1, 2, rows, channels, special=special)
    gamma, beta, mean, dgamma, dbeta = (floats(seed + i, channels) for i in range(2, 7))
    var = np.abs(floats(seed + 7, channels))
    inverse = np.float32(1) / (var + np.float32(0.1))
    cases: list[tuple[Op, tuple[np.ndarray, ...]]] = [
        (NativeBatchNorm(1e-5, 0.9, 128.0), (x, gamma, beta, mean, var)),
        (NativeBatchNormTraining(1e-5, 128.0), (x, gamma, beta)),
        (NativeBatchNormParameterGrad(128.0), (dy, x, mean, inverse)),
        (NativeBatchNormRunningGrad(), (dy, gamma, inverse)),
        (NativeBatchNormBatchGrad(128.0), (dy, x, gamma, mean, inverse, dgamma, dbeta)),
    ]
    for op, inputs in cases:
        assert_parity(op, inputs)


@settings(max_examples=6)
@given(
    kernel=st.sampled_from([(2, 2), (2, 2), (3, 2), (4,), (1, 1)]), windows=st.integers(1, 3), rest=st.integers(0, 1),
    channels=st.sampled_from([1, 3, 4, 8]), seed=st.integers(0, 99), special=st.booleans(),
)  # fmt: skip
def test_pools_are_the_same_in_c(
    kernel: tuple[int, ...], windows: int, rest: int, channels: int, seed: int, special: bool
) -> None:
    axes = len(kernel)
    window = Window(kernel, kernel, (1,) * axes, (0,) * axes, (0,) * axes)
    shape = (2, *(windows * size + min(rest, size - 1) for size in kernel), channels)
    x = halves(seed, *shape, special=special)
    x = np.where(x % 5 == 0, x[:1], x)  # ties
    assert_parity(NativeMaxPool(window), (x,))
    assert_parity(NativeMaxPoolTraining(window), (x,))
    assert_parity(RectifiedLayer(NativeMaxPool(window)), (x,))
    assert_parity(RectifiedLayer(NativeMaxPoolTraining(window)), (x,))
    y, position = NativeMaxPoolTraining(window).run(Run(), x)
    assert_parity(NativeMaxPoolGrad(window, shape), (halves(seed, *y.shape), position))


@settings(max_examples=2)
@given(
    size=st.integers(1, 5), channels=st.sampled_from([1, 4, 7]), outputs=st.sampled_from([1, 5, 16]),
    stored=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_gradients_of_inputs_stay_in_binary16(
    size: int, channels: int, outputs: int, stored: bool, seed: int
) -> None:
    conv = Conv((1, 1), (1, 1), (1, 1), (1, 1))
    w = floats(seed, 3, 3, channels, outputs)
    op = HalfGradInput(conv, "fp16", True, 128.0, (1, size, size, channels), True)
    assert_parity(op, (halves(seed + 1, 1, size, size, outputs), to_half(w, "fp16") if stored else w))


@settings(max_examples=3)
@given(
    size=st.integers(1, 5), channels=st.sampled_from([1, 4, 7]), outputs=st.sampled_from([1, 4, 17]),
    depthwise=st.booleans(), stored=st.booleans(), seed=st.integers(0, 99), special=st.booleans(),
)  # fmt: skip
def test_a_layer_ends_with_a_relu(
    size: int, channels: int, outputs: int, depthwise: bool, stored: bool, seed: int, special: bool
) -> None:
    groups = channels if depthwise else 1
    conv = Conv((1, 1), (1, 1), (2, 1), (1, 2), groups)  # padding that some results see nothing but
    w = floats(seed, 2, 3, channels // groups, channels if depthwise else outputs)
    layer = RectifiedLayer(HalfLayer(conv, "fp16", native=True))
    x = halves(seed + 1, 1, size, size, channels, special=special)
    bias = floats(seed + 2, w.shape[-1])
    weights = to_half(w, "fp16") if stored else w
    assert_parity(layer, (x, weights, bias))
    (y,), (linear,) = layer.run(Run(), x, weights, bias), layer.layer.run(Run(), x, weights, bias)
    assert np.array_equal(y, NativeRelu().run(Run(), linear)[0])


def test_statistics_of_halves_are_those_of_a_normal_distribution() -> None:
    x = to_half(np.random.default_rng(3).normal(5.0, 0.5, (4000, 6)).astype(np.float32), "fp16")
    gamma, beta = np.ones(6, np.float32), np.zeros(6, np.float32)
    y, mean, _, variance = NativeBatchNormTraining(1e-5, 128.0).run(Run(), x, gamma, beta)
    exact = x.view(np.float16).astype(np.float64)
    assert np.allclose(mean, exact.mean(axis=0), rtol=1e-5)
    assert np.allclose(variance, exact.var(axis=0, ddof=1), rtol=1e-3)
    normalized = (exact - exact.mean(axis=0)) / exact.std(axis=0)
    assert np.abs(y.view(np.float16) - normalized).max() < 2e-2


@pytest.mark.parametrize("model", ["mnist-cnn", "lenet"])
def test_a_step_in_halves_takes_half_of_the_memory(model: str) -> None:
    half, real = (compile_model(model, Options("all", quant=parse_plan(text))) for text in (METHOD, "none"))
    assert half.program.params_bytes < 0.51 * real.program.params_bytes
    assert half.program.arena_bytes < 0.57 * real.program.arena_bytes
    step = half.graphs["train_step"]
    wide = [name for node in step.nodes for name in node.outputs
            if step.type(name).dtype == "float32" and step.type(name).size > 256]  # fmt: skip
    assert not wide


def test_an_input_is_rounded_again_where_that_saves_a_tenth_of_the_arena() -> None:
    for model, again in (("lenet", 2), ("cnn", 1)):
        step = compile_model(model, Options("all", quant=parse_plan(METHOD))).graphs["train_step"]
        assert sum(isinstance(node.op, ToHalf) and node.inputs == ("input",) for node in step.nodes) == again


@pytest.mark.parametrize(
    ("model", "training"),
    [
        ("digits-cnn", TrainingOptions()),
        ("digits-cnn", TrainingOptions(batch_norm="running", accumulate=2)),
        pytest.param("mnist-cnn", TrainingOptions(), marks=pytest.mark.slow),
        pytest.param("ds-cnn", TrainingOptions(), marks=pytest.mark.slow),
        pytest.param("resnet8-bn", TrainingOptions(), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_whole_steps_are_the_same_on_host(model: str, training: TrainingOptions) -> None:
    compiled = compile_model(model, Options("all", training, quant=parse_plan(METHOD)))
    report = verify_bits(compiled, ["reference", "host"], steps=2)
    assert report.differing_bits == 0, report.first_difference


def test_relu_ends_layers_and_sums() -> None:
    program = compile_model("resnet8", Options("all", quant=parse_plan(METHOD))).program
    for name in ("infer", "train_step"):
        kernels = {step.kernel for step in program.functions[name].steps}
        assert {"et_half_native_relu", "et_add_relu_fp16"} <= kernels and "et_relu_fp16" not in kernels


# Channels and outputs beside and between the sizes of tiles; depthwise layers that slide down columns, and that do not.
SHAPES = {
    "1 to 6": LayerShape(1, (9, 8), 6, (5, 5), pads=(2, 2, 2, 2)),
    "1 to 20, stride 2": LayerShape(1, (9, 7), 20, (4, 3), (2, 2)),
    "2 to 3": LayerShape(2, (6, 7), 3, (3, 5), pads=(1, 2, 1, 2)),
    "3 to 24": LayerShape(3, (5, 6), 24),
    "16 to 16": LayerShape(16, (7, 7), 16),
    "19 to 16": LayerShape(19, (4, 4), 16, (3, 2), (2, 1), pads=(1, 0, 1, 1)),
    "20 to 33": LayerShape(20, (5, 5), 33),
    "70 to 68, 1x1": LayerShape(70, (3, 3), 68, (1, 1), pads=NONE),
    "groups": LayerShape(12, (5, 6), 18, groups=6),
    "depthwise": LayerShape(11, (7, 9), 11, groups=11),
    "depthwise, narrow": LayerShape(8, (1, 2), 8, groups=8),
    "depthwise, 72": LayerShape(72, (5, 6), 72, groups=72),
    "depthwise, kernel 5x3": LayerShape(8, (7, 6), 8, (5, 3), pads=(2, 1, 2, 1), groups=8),
    "depthwise, no padding": LayerShape(8, (6, 7), 8, groups=8, pads=NONE),
    "depthwise, padded below": LayerShape(10, (9, 3), 10, groups=10, pads=(0, 1, 1, 1)),
    "depthwise, padded twice": LayerShape(8, (5, 4), 8, groups=8, pads=(2, 2, 2, 2)),
    "depthwise, stride 2": LayerShape(16, (7, 8), 16, stride=(2, 2), groups=16),
}


@pytest.mark.emulator
@pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed")
@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("opt", ["speed", "size"])
def test_tiles_are_the_same_with_zfh(name: str, opt: Literal["speed", "size"], tmp_path: Path) -> None:
    if "zig" not in [compiler.name for compiler in find_riscv_compilers()]:
        pytest.skip("no compiler that knows Zfh")
    path = tmp_path / "single.onnx"
    path.write_bytes(single_layer(SHAPES[name]).SerializeToString())
    training = TrainingOptions("mse")
    compiled = compile_model(str(path), Options("all", training, fma=True, quant=parse_plan(METHOD), opt=opt))
    report = verify_bits(compiled, ["reference", "qemu-rv32"], steps=2, profile="rv32imafc_zfh", compiler="zig")
    assert report.differing_bits == 0 < report.compared_bits, report.first_difference


@pytest.mark.emulator
@pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed")
@pytest.mark.parametrize("profile", ["rv32imac", "rv32imafc_zfh"])
def test_whole_steps_are_the_same_on_rv32(profile: str) -> None:
    board = load_board("qemu-rv32").with_profile(profile)
    if "zig" not in [compiler.name for compiler in find_riscv_compilers()]:
        pytest.skip("no compiler that knows Zfh")
    compiled = compile_model("digits-cnn", Options("all", fma=board.fma, quant=parse_plan(METHOD)))
    report = verify_bits(compiled, ["reference", "qemu-rv32"], steps=2, profile=profile, compiler="zig")
    assert report.differing_bits == 0, report.first_difference


@pytest.mark.emulator
@pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed")
@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp", "cnn", "lenet", "mnist-cnn", "ds-cnn", "resnet8"])
def test_steps_take_no_more_instructions_than_those_of_float32(model: str) -> None:
    if "zig" not in [compiler.name for compiler in find_riscv_compilers()]:
        pytest.skip("no compiler that knows Zfh")
    half, whole = (
        {row.phase: row for row in measure(model, quant, profile=profile, compiler="zig")}
        for quant, profile in ((METHOD, "rv32imafc_zfh"), ("none", "rv32imafc"))
    )
    assert half["train"].instructions <= whole["train"].instructions
