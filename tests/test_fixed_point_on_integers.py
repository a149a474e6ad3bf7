"""fixed8 from layer to layer on integers: each op in C, whole nets everywhere, and what they approximate."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.board import load_board
from codegen.compilers import find_riscv_compilers
from tests.fixed import DRAW, NAN, check, mantissas, scale
from tests.support import floats
from toolkit.frontend.load import load_model
from toolkit.ops.base import Run, StepAborted
from toolkit.ops.batch_norm_affine import BatchNormAffine, BatchNormAffineGrad
from toolkit.ops.batch_normalization import BatchNormBatchGrad, BatchNormParameterGrad, BatchNormTraining
from toolkit.ops.fixed_batch_norm import FixedBatchAffine, FixedBatchUnit, FixedBatchUnitGrad
from toolkit.ops.fixed_conv import FixedConv, FixedConvGradInput, FixedConvGradWeight
from toolkit.ops.fixed_real import FixedReal
from toolkit.ops.fixed_sgd import FixedOuterSgd, FixedSgd
from toolkit.ops.fixed_unit import FixedUnit, FixedUnitGrad
from toolkit.ops.fuse_bias import fuse_bias
from toolkit.ops.pooling import Window
from toolkit.pipeline import Compiled, Options, compile_graph
from toolkit.quant import parse_plan
from toolkit.sim.parity import verify_bits
from toolkit.train.step import TrainingOptions
from toolkit.zoo.layers import Layers


@settings(max_examples=40)
@given(
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)), kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 2)), before=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    after=st.tuples(st.integers(0, 2), st.integers(0, 2)), batch=st.integers(1, 3), channels=st.integers(1, 9),
    outputs=st.integers(1, 18), zeros=st.sampled_from([0.0, 0.6, 0.9]), largest=st.sampled_from([0, 9, 60, 127]),
    one_axis=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_convolutions_are_the_same_in_c(
    sizes: Any, kernel: Any, strides: Any, before: Any, after: Any, batch: int, channels: int, outputs: int,
    zeros: float, largest: int, one_axis: bool, seed: int,
) -> None:  # fmt: skip
    axes = slice(1, 2) if one_axis else slice(0, 2)
    sizes = tuple(max(n, k) for n, k in zip(sizes, kernel, strict=True))[axes]
    kernel, strides, before, after = kernel[axes], strides[axes], before[axes], after[axes]
    ones = (1,) * len(sizes)
    x, w = mantissas(seed, batch, *sizes, channels), mantissas(seed + 1, *kernel, channels, outputs, largest=largest)
    sums = next(iter(check(FixedConv(strides, ones, before, after), (x, w, scale(-5), scale(-9))).values()))
    g = mantissas(seed + 2, *sums.shape, zeros=zeros)
    check(FixedConvGradInput(strides, ones, before, after, sizes=sizes), (g, w, scale(-20), scale(-9)))
    check(FixedConvGradWeight(strides, ones, before, after, kernel=kernel), (x, g, scale(-100), scale(-90)))


@pytest.mark.parametrize(("channels", "largest"), [(2, 3), (6, 3), (1, 127), (17, 127)])
def test_gradients_of_many_pixels_of_which_few_count_are_the_same_in_c(channels: int, largest: int) -> None:
    """More than a list of what is not 0 holds, and the pairs of channels of few bits."""
    x, g = mantissas(1, 2, 21, 14, channels, largest=largest), mantissas(2, 2, 21, 14, 8, largest=63, zeros=0.8)
    same = ((1, 1), (1, 1), (1, 1), (1, 1))
    few = FixedConvGradWeight(*same, kernel=(3, 3), largest_x=largest, largest_g=63)
    check(few, (x, g, scale(-7), scale(-9)))


@settings(max_examples=10)
@given(rows=st.integers(1, 6), inputs=st.integers(1, 40), outputs=st.integers(1, 40), seed=st.integers(0, 99))
def test_dense_layers_are_the_same_in_c(rows: int, inputs: int, outputs: int, seed: int) -> None:
    op = ((1, 1), (1, 1), (0, 0), (0, 0))
    x, w = mantissas(seed, rows, 1, 1, inputs), mantissas(seed + 1, 1, 1, inputs, outputs)
    g = mantissas(seed + 2, rows, 1, 1, outputs)
    check(FixedConv(*op), (x, w, scale(-5), scale(-9)))
    check(FixedConvGradInput(*op, sizes=(1, 1)), (g, w, scale(-20), NAN))
    check(FixedConvGradWeight(*op, kernel=(1, 1)), (x, g, scale(-7), scale(-90)))


WINDOWS = (None, Window((2, 2), (2, 2), (1, 1), (0, 0), (0, 0)), Window((2, 3), (3, 3), (1, 1), (0, 0), (0, 0)))


@st.composite
def unit_cases(draw: st.DrawFn) -> dict[str, Any]:
    """Sums of any size, factors of both signs, offsets far above and below the sums, scalars that are not finite."""
    seed, channels = draw(st.integers(0, 999)), draw(st.integers(1, 7))
    window = draw(st.sampled_from(WINDOWS))
    shape = (draw(st.integers(1, 2)), draw(st.integers(3, 7)), draw(st.integers(3, 7)), channels)
    random = np.random.default_rng(seed)
    largest = 2 ** draw(st.integers(0, 25))
    sums = random.integers(-largest, largest + 1, shape).astype(np.int32)
    a = floats(seed, channels) if draw(st.booleans()) else None
    if a is not None and draw(st.booleans()):
        a = np.abs(a)
    b = floats(seed + 1, channels) * np.float32(10.0) ** draw(st.integers(-9, 9)) if draw(st.booleans()) else None
    unit = draw(st.sampled_from([scale(-14), scale(-30), scale(-126), scale(3), scale(120), NAN]))
    unit = np.array(unit * np.float32(draw(st.sampled_from([1.0, 1.37, 1.99999]))))
    levels = (draw(st.sampled_from([0, 1, 3, 127])), draw(st.sampled_from([0, 1, 63, 127])))
    attributes = (draw(st.booleans()), window, seed, *levels)
    factor = np.float32(draw(st.sampled_from([1.0, 1.6])))
    return {"factor": factor, "attributes": attributes, "sums": sums, "a": a, "b": b, "scale": unit, "seed": seed}


@settings(max_examples=60)
@given(case=unit_cases())
def test_units_are_the_same_in_c(case: dict[str, Any]) -> None:
    attributes = case["attributes"]
    inputs = (case["sums"], case["scale"], case["a"], case["b"])
    check(FixedUnit(*attributes), inputs)
    made = list(check(FixedUnit(*attributes, training=True), (*inputs, *DRAW)).values())
    place = made[2]
    kept = made[3:5] if case["a"] is not None else (None, None)
    largest = int(np.abs(case["sums"]).max())
    d = np.random.default_rng(case["seed"] + 1).integers(-largest, largest + 1, place.shape).astype(np.int32)
    grad = FixedUnitGrad(*attributes, shape=case["sums"].shape)
    check(grad, (d, np.array(scale(-40) * case["factor"]), place, case["a"], *kept, *DRAW))


@settings(max_examples=40)
@given(case=unit_cases(), spread=st.integers(-12, 4))
def test_units_with_batch_statistics_are_the_same_in_c(case: dict[str, Any], spread: int) -> None:
    sums, seed, channels = case["sums"], case["seed"], case["sums"].shape[-1]
    gamma, beta = floats(seed, channels), floats(seed + 1, channels)
    a, b, mean, inverse, _, z_scale = check(FixedBatchAffine(), (sums, case["scale"], gamma, beta)).values()
    attributes = case["attributes"]
    values = (sums, case["scale"], a, b, *DRAW, gamma, beta, mean, inverse, z_scale)
    _, _, place, kept, kept_scale = check(FixedBatchUnit(*attributes, training=True), values).values()
    d = np.random.default_rng(seed).integers(-(2**20), 2**20, place.shape).astype(np.int32)
    statistics = (sums, case["scale"], z_scale, mean, inverse)
    inputs = (d, np.array(scale(spread - 30) * case["factor"]), place, a, kept, kept_scale, *DRAW, *statistics)
    check(FixedBatchUnitGrad(*attributes, shape=sums.shape), inputs)


def test_the_gradient_of_batch_statistics_is_that_of_batch_normalization() -> None:
    """Against the float32 ops, to the resolution of the mantissas."""
    random = np.random.default_rng(1)
    sums = random.integers(-9000, 20000, (4, 6, 6, 5)).astype(np.int32)
    gamma, beta, unit = floats(1, 5), floats(2, 5), scale(-12)
    x = sums.astype(np.float32) * unit
    y, real_mean, real_inverse, real_var = BatchNormTraining(1e-5).run(Run(), x, gamma, beta)
    a, b, mean, inverse, var, z_scale = FixedBatchAffine(1e-5).run(Run(), sums, unit, gamma, beta)
    assert np.allclose(mean, real_mean, rtol=1e-3) and np.allclose(var, real_var, rtol=1e-3)
    assert np.allclose(a * x + b, y, atol=1e-2)
    op = FixedBatchUnit(False, None, 0, training=True)
    _, _, place, kept, kept_scale = op.run(Run(), sums, unit, a, b, *DRAW, gamma, beta, mean, inverse, z_scale)
    d = random.integers(-5000, 5000, sums.shape).astype(np.int32)
    grad = FixedBatchUnitGrad(False, None, 0, shape=sums.shape)
    inputs = (d, scale(-20), place, a, kept, kept_scale, *DRAW, sums, unit, z_scale, mean, inverse)
    g, g_scale, dbeta, dgamma = grad.run(Run(), *inputs)
    dy = d.astype(np.float32) * scale(-20)
    wanted_dgamma, wanted_dbeta = BatchNormParameterGrad().run(Run(), dy, x, real_mean, real_inverse)
    inputs = (dy, x, gamma, real_mean, real_inverse, wanted_dgamma, wanted_dbeta)
    (wanted,) = BatchNormBatchGrad().run(Run(), *inputs)
    assert np.allclose(dgamma, wanted_dgamma, atol=1e-4) and np.allclose(dbeta, wanted_dbeta, atol=1e-5)
    assert np.abs(g * float(g_scale) - wanted).max() < 1.05 * float(g_scale)


def test_a_unit_is_what_it_stands_for() -> None:
    """Pooling, factor and offset, ReLU in float64, to half a unit of the mantissa and what z and m lose."""
    random = np.random.default_rng(3)
    sums = random.integers(-90000, 90000, (2, 6, 6, 5)).astype(np.int32)
    a, b = floats(1, 5), floats(2, 5)
    window = WINDOWS[1]
    codes, unit = FixedUnit(True, window).run(Run(), sums, scale(-15), a, b)
    y = sums * 2.0**-15 * a.astype(np.float64) + b
    pooled = y.reshape(2, 3, 2, 3, 2, 5).max(axis=(2, 4))
    wanted = np.maximum(pooled, 0)
    assert np.abs(codes * float(unit) - wanted).max() <= 0.5 * float(unit) * 1.01
    drawn = [
        FixedUnit(True, window, training=True).run(Run(), sums, scale(-15), a, b, DRAW[0], np.array(n, np.uint32))[0]
        for n in range(400)
    ]
    error = np.mean(drawn, axis=0) * float(unit) - wanted
    assert np.abs(error[codes < 127]).max() < 0.15 * float(unit)  # six standard errors of a mean of 400


@settings(max_examples=40)
@given(
    inputs=st.integers(1, 9), outputs=st.integers(1, 9), seed=st.integers(0, 99), unit=st.integers(-60, 0),
    rate=st.sampled_from([0.0, 1e-6, 0.01, 0.2, 3.0]), stream=st.integers(0, 2**32 - 1), few=st.booleans(),
    fours=st.booleans(),
)  # fmt: skip
def test_updates_are_the_same_in_c_fused_or_not(
    inputs: int, outputs: int, seed: int, unit: int, rate: float, stream: int, few: bool, fours: bool
) -> None:
    outputs *= 4 if fours else 1
    stored = np.random.default_rng(seed).integers(-32767, 32768, (inputs, outputs)).astype(np.int16)
    x, g = mantissas(seed, inputs), mantissas(seed + 1, outputs)
    x = np.abs(x % 4).astype(np.int8) if few else x
    tail = (np.array(rate, np.float32), *DRAW)
    outer = check(FixedOuterSgd(-14, stream), (stored, x, g, scale(unit), scale(-8), *tail), states={0: 0})
    sums = np.outer(x.astype(np.int32), g)
    plain = check(FixedSgd(-14, stream), (stored, sums, scale(unit - 8), *tail), states={0: 0})
    assert np.array_equal(*outer.values(), *plain.values())


def test_updates_are_unbiased_and_exact_in_the_mean() -> None:
    count = 100_000
    stored = np.zeros(count, np.int16)
    for sums, unit in ((3, -14), (-50, -20), (1000, -26)):
        gradient = np.full(count, sums, np.int32)
        moved = FixedSgd(-14, 9).run(Run(), stored, gradient, scale(unit), np.array(0.3, np.float32), *DRAW)[0]
        exact = -np.float64(np.float32(0.3)) * sums * 2.0**unit * 2.0**14
        assert abs(moved.mean() - exact) < 1e-4 * abs(exact) + 5 * 0.5 / np.sqrt(count)


def test_an_update_by_what_is_not_finite_changes_nothing() -> None:
    stored, sums = np.ones(4, np.int16), np.ones(4, np.int32)
    with pytest.raises(StepAborted):
        FixedSgd().run(Run(), stored, sums, NAN, np.array(0.1, np.float32), *DRAW)


@settings(max_examples=10)
@given(channels=st.integers(1, 9), seed=st.integers(0, 99))
def test_normalization_and_float_results_are_the_same_in_c(channels: int, seed: int) -> None:
    vectors = [floats(seed + i, channels) for i in range(3)]
    var = np.abs(floats(seed, channels)) + np.float32(0.01)
    check(BatchNormAffine(), (*vectors, var))
    check(BatchNormAffineGrad(), (*vectors, var))
    sums = np.random.default_rng(seed).integers(-(2**31), 2**31, (3, channels)).astype(np.int32)
    check(FixedReal(), (sums, scale(-20), vectors[0]))
    check(FixedReal(), (sums, scale(-20)))


# ---- whole nets

METHODS = ["fixed8", "fixed8", "fixed8:master=float32", "fixed16", "fixed16:master=int16"]


@st.composite
def nets(draw: st.DrawFn) -> Any:
    """Convolutions with and without normalization, ReLU, pooling; a fork; dense layers."""
    layers = Layers("net", (draw(st.integers(1, 3)), 8, 8), draw(st.integers(0, 9)))
    for _ in range(draw(st.integers(1, 3))):
        norm = draw(st.booleans())
        stride, groups = draw(st.sampled_from([1, 1, 2])), layers.shape[0] if draw(st.integers(0, 4)) == 0 else 1
        channels = draw(st.integers(1, 9)) if groups == 1 else groups
        layers.conv(channels, draw(st.sampled_from([1, 3])), stride, groups=groups, bias=not norm)
        if norm:
            layers.batch_norm()
        entry, shape = layers.value, layers.shape
        if draw(st.booleans()):
            layers.relu()
        if draw(st.integers(0, 3)) == 0 and layers.shape == shape:
            layers.add(entry)
        if draw(st.booleans()) and min(layers.shape[1:]) > 1:
            layers.max_pool()
    layers.flatten()
    if draw(st.booleans()):
        layers.dense(draw(st.integers(1, 9)))
        layers.relu()
    layers.dense(4)
    return layers.finish()


def compiled_net(model: Any, method: str, training: TrainingOptions, batch: int, fma: bool = True) -> Compiled:
    graph = fuse_bias(load_model(model, batch=batch, shapes={}))
    return compile_graph(graph, Options("all", training, fma, quant=parse_plan(method)), "case")


@settings(max_examples=12)
@given(
    model=nets(), batch=st.integers(1, 3), method=st.sampled_from(METHODS),
    way=st.sampled_from([{}, {"accumulate": 2}, {"atomic": True}, {"optimizer": "sgd:weight_decay=1e-3"}]),
    norm=st.sampled_from(["batch", "running"]),
)  # fmt: skip
def test_training_is_the_same_to_the_bit_on_host(model: Any, batch: int, method: str, way: Any, norm: str) -> None:
    compiled = compiled_net(model, method, TrainingOptions(batch_norm=norm, **way), batch)
    report = verify_bits(compiled, ["reference", "host"], steps=4, learning_rate=0.05)
    assert report.differing_bits == 0, report.first_difference
    assert report.compared_bits > 0


@pytest.mark.emulator
@pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed")
@pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed")
@pytest.mark.parametrize("profile", ["rv32imac", "rv32imafc"])
@pytest.mark.parametrize("method", ["fixed8", "fixed16"])
def test_training_is_the_same_to_the_bit_on_rv32(method: str, profile: str) -> None:
    @settings(max_examples=1)
    @given(model=nets(), norm=st.sampled_from(["batch", "running"]))
    def check_net(model: Any, norm: str) -> None:
        fma = load_board("qemu-rv32").with_profile(profile).fma
        compiled = compiled_net(model, method, TrainingOptions(batch_norm=norm), 1, fma)
        report = verify_bits(compiled, ["reference", "qemu-rv32"], steps=2, profile=profile)
        assert report.differing_bits == 0, report.first_difference

    check_net()
