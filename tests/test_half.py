"""binary16 and bfloat16: rounding, multiply-adds, layers; the reference's bits in C."""

from __future__ import annotations

import shutil
from fractions import Fraction
from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.board import load_board
from codegen.compilers import find_riscv_compilers
from tests.support import assert_parity, floats, floats_with_special, shapes
from toolkit.errors import UserError
from toolkit.numerics import from_bits
from toolkit.numerics.half import FORMATS, from_half, half_products, to_half
from toolkit.numerics.random import random_u32
from toolkit.numerics.stored import StoredFormat
from toolkit.ops.base import Run
from toolkit.ops.conv import Conv
from toolkit.ops.dense import Dense
from toolkit.ops.half_codes import FromHalf, HalfReluGrad, ToHalf
from toolkit.ops.half_layer import HalfGradInput, HalfGradWeight, HalfLayer, HalfSgd, HalfStoredSgd
from toolkit.ops.loss_scale import LossScaleCheck, ScaledToHalf, SeenNonfinite, Unscale
from toolkit.ops.stored_sgd import StoredSgd
from toolkit.pipeline import Options, compile_model
from toolkit.quant import parse_plan
from toolkit.sim.backend import open_backend
from toolkit.sim.parity import random_samples, verify_bits
from toolkit.train.step import TrainingOptions

ALL = np.arange(65536, dtype=np.uint16)
TYPES = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}


def hard_values(format: str) -> np.ndarray:
    """Every finite number of a format, what lies half way to the next one, and the float32 on both sides of that."""
    values = from_half(ALL[np.isfinite(from_half(ALL, format))], format).astype(np.float64)
    positive = np.unique(np.abs(values))
    middles = ((positive[:-1] + positive[1:]) / 2).astype(np.float32)
    near = np.concatenate([middles, np.nextafter(middles, np.float32(0)), np.nextafter(middles, np.float32(np.inf))])
    edge = np.array([65519, 65520, 65535, 65536, 3.4e38, 2.0**-25, 2.0**-26, 1e-45, np.inf, np.nan], np.float32)
    every = np.concatenate([values.astype(np.float32), near, edge])
    return np.concatenate([every, -every])


@pytest.mark.parametrize("format", FORMATS)
def test_every_number_of_a_format(format: str) -> None:
    expected = ALL.view(TYPES[format]).astype(np.float32)
    found = from_half(ALL, format)
    assert np.array_equal(found, expected, equal_nan=True)
    number = ~np.isnan(expected)
    assert np.array_equal(to_half(found, format)[number], ALL[number])
    assert set(to_half(found, format)[~number].tolist()) == {0x7E00 if format == "fp16" else 0x7FC0}
    assert_parity(FromHalf(format), (ALL,))


@pytest.mark.parametrize("format", FORMATS)
def test_rounding_where_it_is_hard(format: str) -> None:
    x = hard_values(format)
    with np.errstate(all="ignore"):
        expected = x.astype(TYPES[format]).view(np.uint16)
    number = ~np.isnan(x)
    assert np.array_equal(to_half(x, format)[number], expected[number])
    assert_parity(ToHalf(format), (x,))
    patterns = np.random.default_rng(0).integers(0, 1 << 32, 100_000, dtype=np.uint32)
    assert_parity(ToHalf(format), (from_bits(patterns),))


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=10)
@given(shape=shapes(), seed=st.integers(0, 99), factor=st.sampled_from([1.0, 128.0, 2.0**-7]))
def test_codes_are_the_same_in_c(format: str, shape: tuple[int, ...], seed: int, factor: float) -> None:
    assert_parity(ToHalf(format, factor), (floats_with_special(seed, *shape),))
    assert_parity(FromHalf(format), (to_half(floats(seed, *shape), format),))


def naive_madd(a: np.ndarray, b: np.ndarray, s: np.ndarray) -> np.ndarray:
    """One multiply-add of binary16 by way of exact integers."""
    results = []
    for x, y, z in zip(a, b, s, strict=True):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        near = np.float16(float(exact))
        around = [near, np.nextafter(near, np.float16(np.inf)), np.nextafter(near, np.float16(-np.inf))]
        finite = [c for c in around if np.isfinite(c)]
        best = min(finite, key=lambda c: (abs(Fraction(float(c)) - exact), int(c.view(np.uint16)) & 1))
        results.append(near if abs(exact) >= 65520 else best)
    return np.array(results, np.float16)


def test_multiply_adds_of_binary16_round_once() -> None:
    random = np.random.default_rng(5)
    finite = ALL[np.isfinite(from_half(ALL, "fp16"))]
    a, b, s = (from_half(random.choice(finite, 6000), "fp16") for _ in range(3))
    s[:3000] = from_half(to_half(-(a * b)[:3000], "fp16"), "fp16")  # sums that cancel
    s[~np.isfinite(s)] = 1
    with np.errstate(all="ignore"):
        expected = naive_madd(a, b, s)
    found = half_products(s, a[None], b[None])
    assert np.array_equal(to_half(found, "fp16") & 0x7FFF, expected.view(np.uint16) & 0x7FFF)


@st.composite
def layers(draw: st.DrawFn) -> tuple[Conv | Dense, tuple[int, ...], tuple[int, ...]]:
    """A layer, and the shapes of its input and weights."""
    batch = draw(st.integers(1, 3))
    if draw(st.booleans()):
        inputs, outputs = draw(st.integers(1, 40)), draw(st.integers(1, 40))
        return Dense(), (batch, inputs), (inputs, outputs)
    axes = draw(st.sampled_from([1, 2, 2]))
    pick = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(axes))  # noqa: E731
    groups, kernel, strides, dilations = draw(st.integers(1, 3)), pick(1, 3), pick(1, 2), pick(1, 2)
    before, after = pick(0, 2), pick(0, 1)
    room = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    sizes = tuple(r + draw(st.integers(0, 4)) for r in room)
    if draw(st.booleans()):  # depthwise
        groups = draw(st.sampled_from([2, 5, 8, 19]))
        return Conv(strides, dilations, before, after, groups), (batch, *sizes, groups), (*kernel, 1, groups)
    channels, outputs = draw(st.integers(1, 5)), draw(st.sampled_from([1, 3, 8, 17]))
    conv = Conv(strides, dilations, before, after, groups)
    return conv, (batch, *sizes, channels * groups), (*kernel, channels, outputs * groups)


@pytest.mark.parametrize(("format", "native"), [("fp16", False), ("bf16", False), ("fp16", True)])
@settings(max_examples=16)
@given(case=layers(), seed=st.integers(0, 99), special=st.booleans(), stored=st.booleans(), biased=st.booleans(),
       lines=st.booleans())
def test_layers_are_the_same_in_c(
    format: str, native: bool, case: tuple[Conv | Dense, tuple[int, ...], tuple[int, ...]], seed: int, special: bool,
    stored: bool, biased: bool, lines: bool,
) -> None:  # fmt: skip
    layer, shape, weights = case
    values = floats_with_special if special else floats
    x, w = to_half(values(seed, *shape), format), values(seed + 1, *weights)
    w = to_half(w, format) if stored else w
    bias = values(seed + 2, weights[-1]) if biased else None
    op = HalfLayer(layer, format, native, 128.0)
    (y,) = op.run(Run(), x, w, bias)
    assert_parity(op, (x, w, bias))
    dy = to_half(values(seed + 3, *y.shape), format)
    assert_parity(HalfGradInput(layer, format, native, 128.0, shape), (dy, w))
    gradient = HalfGradWeight(layer, format, native, 128.0, weights)
    assert_parity(gradient, (x, dy))
    if not special:
        for decay in (0.0, 1e-3):
            rate, draw = np.array(0.1, np.float32), (np.array(3, np.uint32), np.array(seed, np.uint32))
            assert_parity(HalfSgd(gradient, decay), (x, dy, values(seed, *weights), rate), {2: 0})
            codes = to_half(values(seed, *weights), format)
            update = StoredSgd(StoredFormat(format), decay, stream=7, lines=lines)
            assert_parity(HalfStoredSgd(gradient, update), (x, dy, codes, rate, *draw), {2: 0})


def test_nearest_rounding_loses_small_steps_and_stochastic_rounding_does_not() -> None:
    """Weights near 0.1, gradients near 1e-3, learning rate 1e-3: why halves need a float32 master or random numbers."""
    random = np.random.default_rng(2)
    w = from_half(to_half((random.standard_normal(20_000) * 0.1).astype(np.float32), "fp16"), "fp16")
    stepped = (w - np.float32(1e-3) * (random.standard_normal(w.size) * 1e-3).astype(np.float32)).astype(np.float32)
    assert np.mean(to_half(stepped, "fp16") == to_half(w, "fp16")) > 0.97
    format = StoredFormat("fp16")
    drawn = [format.decode(format.encode(stepped, random_u32(1, i, 3, np.arange(w.size)))) for i in range(50)]
    error, spread = np.mean(drawn, axis=0) - stepped, np.std(drawn, axis=0).mean()
    assert abs(error.mean()) < 5 * spread / np.sqrt(50 * w.size)


def test_what_is_kept_for_the_backward_pass_has_16_bits() -> None:
    options = Options("all", quant=parse_plan("fp16"))
    step = compile_model("digits-cnn", options).graphs["train_step"]
    loss = next(i for i, node in enumerate(step.nodes) if step.loss in node.outputs)
    before = {name for node in step.nodes[:loss] for name in node.outputs}
    kept = {name for node in step.nodes[loss + 1 :] for name in node.inputs if name in before}
    wide = [name for name in kept if step.type(name).dtype == "float32" and step.type(name).size > 64]
    assert not wide


@pytest.mark.parametrize("text", ["bf16:accumulate=native", "fp16:loss_scale=3", "fp16:master=int8", "fp16:half",
                                  "fp16:start=4", "bf16:loss_scale=dynamic", "fp16:loss_scale=fast"])
def test_options_that_make_no_sense(text: str) -> None:
    with pytest.raises(UserError):
        parse_plan(text)


@pytest.mark.parametrize("method", ["fp16", "bf16", "fp16:accumulate=native"])
def test_weights_in_the_format_need_no_memory_for_their_gradient(method: str) -> None:
    options = [Options("all", quant=parse_plan(f"{method}{':' if ':' not in method else ','}master={m}"))
               for m in ("float32", "stored")]
    real, stored = (compile_model("mlp", option).program for option in options)
    assert stored.params_bytes < 0.51 * real.params_bytes
    assert stored.arena_bytes == real.arena_bytes
    kernels = {step.kernel for step in stored.functions["train_step"].steps}
    assert not any(kernel.endswith("_grad_weight") for kernel in kernels)


@pytest.mark.parametrize("optimizer", ["sgd", "sgd:momentum=0.9", "adam"])
def test_a_loss_scale_that_is_too_large_falls_until_it_fits_and_rises_again(optimizer: str) -> None:
    options = Options(
        "all", TrainingOptions(optimizer=optimizer), quant=parse_plan("fp16:loss_scale=dynamic,start=65536,grow=2")
    )
    compiled = compile_model("digits-cnn", options)
    inputs, label = next(random_samples(compiled, 0))
    assert label is not None
    with open_backend(compiled, "reference") as reference, open_backend(compiled, "host") as host:
        reference.learning_rate = host.learning_rate = 1e-4
        scales = [65536.0]
        dropped = 0
        inputs = [40 * inputs[0]]  # gradients of weights are that much larger
        for _ in range(16):
            before = reference.state()
            status = reference.train_step(inputs, label)[0]
            assert host.train_step(inputs, label)[0] == status
            after, there = reference.state(), host.state()
            assert all(np.array_equal(after[name], there[name]) for name in after)
            scale = float(after["loss_scale"][0])
            kept = [name for name in after if name != "loss_scale" and "running" not in name]
            changed = any(not np.array_equal(before[name], after[name]) for name in kept)
            assert changed == (status == "ET_OK")
            assert status in ("ET_OK", "ET_NONFINITE_GRADIENT") and np.log2(scale) % 1 == 0
            assert scale < scales[-1] if status != "ET_OK" else scale in (scales[-1], 2 * scales[-1])
            scales.append(scale)
            dropped += status != "ET_OK"
    assert 1 <= dropped <= 12
    assert any(late > early for early, late in pairwise(scales))


@settings(max_examples=6)
@given(seed=st.integers(0, 99), special=st.booleans(), exponent=st.integers(0, 24), steps=st.integers(0, 4))
def test_scaling_is_the_same_in_c(seed: int, special: bool, exponent: int, steps: int) -> None:
    state = np.array([2.0**exponent, steps], np.float32)
    x = (floats_with_special if special else floats)(seed, 3, 7)
    assert_parity(ScaledToHalf(), (x, state))
    assert_parity(Unscale(), (x, state))
    for seen in (None, np.zeros(1, np.float32), np.ones(1, np.float32)):
        assert_parity(SeenNonfinite(), (x, seen))
    assert_parity(LossScaleCheck(3), (state, np.zeros(1, np.float32)), {0: 0})


def test_a_dynamic_loss_scale_does_not_go_with_accumulation() -> None:
    options = Options("all", TrainingOptions(accumulate=2), quant=parse_plan("fp16:loss_scale=dynamic"))
    with pytest.raises(UserError, match="accumulation"):
        compile_model("digits-cnn", options)


@settings(max_examples=6)
@given(seed=st.integers(0, 99), special=st.booleans())
@pytest.mark.parametrize("format", FORMATS)
def test_gradients_of_relu_by_halves_are_the_same_in_c(format: str, seed: int, special: bool) -> None:
    values = floats_with_special if special else floats
    assert_parity(HalfReluGrad(format), (values(seed, 4, 9), to_half(values(seed + 1, 4, 9), format)))


@pytest.mark.emulator
@pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed")
@pytest.mark.parametrize("profile", ["rv32imac", "rv32imafc", "rv32imafc_zfh"])
@pytest.mark.parametrize(
    "method",
    [
        "fp16:accumulate=native",
        pytest.param("fp16", marks=pytest.mark.slow),
        pytest.param("fp16:accumulate=native,master=stored", marks=pytest.mark.slow),
        pytest.param("fp16:loss_scale=dynamic,start=65536,grow=2", marks=pytest.mark.slow),
    ],
)
def test_halves_are_the_same_on_rv32(method: str, profile: str) -> None:
    board = load_board("qemu-rv32").with_profile(profile)
    compiled = compile_model("digits-cnn", Options("all", fma=board.fma, quant=parse_plan(method)))
    compilers = [compiler.name for compiler in find_riscv_compilers()]
    if profile == "rv32imafc_zfh" and "zig" not in compilers:
        pytest.skip("no compiler that knows Zfh")
    report = verify_bits(compiled, ["reference", "qemu-rv32"], steps=2, profile=profile, compiler="zig")
    assert report.differing_bits == 0, report.first_difference
