"""Fixed point: stochastic rounding, shared exponents, training on integers; the reference's bits in C."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import assert_parity, floats, floats_with_special, run_in_c, shapes
from toolkit.errors import UserError
from toolkit.ir import Array
from toolkit.numerics.fixed import fixed_nearest, fixed_random, shared_exponent
from toolkit.numerics.random import random_u32
from toolkit.numerics.stored import StoredFormat, fixed_format_for
from toolkit.ops.base import Run, StepAborted
from toolkit.ops.fixed_quantize import FixedQuantize, FixedUpper
from toolkit.ops.stored_sgd import StoredSgd, StoredValue
from toolkit.pipeline import Options, compile_model
from toolkit.quant import parse_plan
from toolkit.train.step import TrainingOptions

FORMATS = [StoredFormat("fixed", exponent) for exponent in (-14, -20, 0)]
HALVES = [StoredFormat("fp16"), StoredFormat("bf16")]


def scalars(rate: float = 0.05, seed: int = 3, step: int = 9) -> tuple[Array, Array, Array]:
    """Learning rate, seed and step."""
    return np.array(rate, np.float32), np.array(seed, np.uint32), np.array(step, np.uint32)


def stored_weights(format: StoredFormat, seed: int, *shape: int) -> Array:
    """Weights of a format, spread over most of its range."""
    return format.nearest((floats(seed, *shape) * np.float32(format.step * 4000)).astype(np.float32))


@pytest.mark.parametrize("format", FORMATS + HALVES, ids=str)
@settings(max_examples=8)
@given(shape=shapes(), seed=st.integers(0, 99), decay=st.sampled_from([0.0, 1e-3]), bounded=st.booleans(),
       lines=st.booleans())  # fmt: skip
def test_stored_sgd_is_the_same_in_c(
    format: StoredFormat, shape: tuple[int, ...], seed: int, decay: float, bounded: bool, lines: bool
) -> None:
    largest = format.step * 5000
    bounds = {"low": -largest, "high": largest} if bounded else {}
    op = StoredSgd(format, decay, 0.5, stream=seed * 977, lines=lines, **bounds)
    gradient = floats(seed, *shape) * np.float32(format.step * 300)
    assert_parity(op, (stored_weights(format, seed + 1, *shape), gradient, *scalars()), states={0: 0})
    assert_parity(StoredValue(format), (stored_weights(format, seed, *shape),))


@pytest.mark.parametrize("format", FORMATS + HALVES, ids=str)
def test_stored_sgd_rejects_a_gradient_that_is_not_finite(format: StoredFormat) -> None:
    stored, gradient = stored_weights(format, 1, 60), floats_with_special(2, 60)
    assert not np.isfinite(gradient).all()
    with pytest.raises(StepAborted):
        StoredSgd(format).run(Run(), stored, gradient, *scalars())
    status, outputs = run_in_c(StoredSgd(format), (stored, gradient, *scalars()), True, states={0: 0})
    assert status == "ET_NONFINITE_GRADIENT"
    assert np.array_equal(outputs[0], stored)


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_storing_is_unbiased(format: StoredFormat) -> None:
    """The mean error over many draws is a tenth of a percent of the resolution; the variance is f (1 - f)."""
    count = 200_000
    random = random_u32(1, 2, 3, np.arange(count))
    for fraction in (0.003, 0.25, 0.5, 0.9):
        for whole in (-5000.0, -1.0, 0.0, 12345.0):
            value = np.float32((whole + fraction) * format.step)
            exact = float(value) / format.step
            drawn = format.decode(format.encode(np.full(count, value), random)).astype(np.float64) / format.step
            assert abs(drawn.mean() - exact) < 5 * 0.5 / np.sqrt(count)
            assert abs(drawn.var() - (exact - np.floor(exact)) * (1 - exact + np.floor(exact))) < 0.005


@pytest.mark.parametrize("format", HALVES, ids=str)
def test_storing_halves_is_unbiased_and_keeps_what_is_exact(format: StoredFormat) -> None:
    """From subnormals of binary16 to large values; a neighbour each, with the probability of its nearness."""
    count = 100_000
    random = random_u32(1, 2, 3, np.arange(count))
    every = np.arange(1 << 16, dtype=np.uint16)
    finite = every[np.isfinite(format.decode(every))]
    assert np.array_equal(format.encode(format.decode(finite), random[: finite.size]), finite)
    assert np.array_equal(format.nearest(format.decode(finite)), finite)
    for value in (1.2345, -0.0123, 3e-6, -2.1e-7, 1e-9, 1000.7):
        single = np.float32(value)
        drawn = format.decode(format.encode(np.full(count, single), random)).astype(np.float64)
        assert len(np.unique(drawn)) <= 2
        resolution = max(np.ptp(drawn), 2.0**-24 if format.name == "fp16" else 0.0)
        assert abs(drawn.mean() - np.float64(single)) < 5 * 0.5 * resolution / np.sqrt(count)


@pytest.mark.parametrize("format", HALVES, ids=str)
@settings(max_examples=20)
@given(seed=st.integers(0, 999), scale=st.sampled_from([1.0, 1e-5, 1e-7, 1e-9, 6e4, 1e38]))
def test_storing_halves_is_the_same_in_c(format: StoredFormat, seed: int, scale: float) -> None:
    with np.errstate(over="ignore"):
        w = format.nearest(floats(seed, 50) * np.float32(scale))
        gradient = (floats(seed + 1, 50) * np.float32(scale * 3)).astype(np.float32)
    gradient = np.where(np.isfinite(gradient), gradient, np.float32(0))
    assert_parity(StoredSgd(format, stream=seed), (w, gradient, *scalars()), states={0: 0})


def test_storing_saturates_and_exact_values_stay() -> None:
    format = StoredFormat("fixed", -14)
    random = random_u32(0, 0, 0, np.arange(6))
    values = np.array([5, -5, np.inf, np.nan, 1.25, -0.5], np.float32)
    assert format.encode(values, random).tolist() == [32767, -32767, 32767, 32767, 1.25 * 2**14, -(2**13)]


def test_fixed_format_leaves_headroom() -> None:
    format = fixed_format_for(np.array([0.1, -0.3], np.float32))
    assert format.exponent == -1 + 2 - 15  # 0.3 needs 2^-1; two bits above it
    assert fixed_format_for(np.zeros(3, np.float32)).exponent == 2 - 15


# ---- mantissas


@settings(max_examples=60)
@given(
    shape=shapes(), seed=st.integers(0, 999), bits=st.sampled_from([8, 16]), stochastic=st.booleans(),
    scale=st.sampled_from([1.0, 1e-30, 1e-37, 1e-39, 3e37, 0.0]), spread=st.booleans(), special=st.booleans(),
)  # fmt: skip
def test_mantissas_are_the_same_in_c(
    shape: tuple[int, ...], seed: int, bits: int, stochastic: bool, scale: float, spread: bool, special: bool
) -> None:
    x = floats_with_special(seed, *shape) if special else floats(seed, *shape)
    if spread:  # exponents all over the range
        x = x * np.float32(2) ** np.random.default_rng(seed).integers(-40, 3, shape).astype(np.float32)
    with np.errstate(all="ignore"):
        x = (x * np.float32(scale)).astype(np.float32)
    draws = scalars()[1:] if stochastic else ()
    assert_parity(FixedQuantize(bits, stochastic=stochastic, stream=seed * 31), (x, *draws))


@settings(max_examples=10)
@given(shape=shapes(), seed=st.integers(0, 99))
def test_upper_halves_are_the_same_in_c(shape: tuple[int, ...], seed: int) -> None:
    master = np.random.default_rng(seed).integers(-32767, 32768, shape).astype(np.int16)
    assert_parity(FixedUpper(), (master,))
    upper = FixedUpper().run(Run(), master)[0].astype(np.int32)
    assert np.abs(master - 256 * upper).max() <= (128 if master.max() < 32640 else 255)


@pytest.mark.parametrize("bits", [8, 16])
def test_the_exponent_is_that_of_the_largest_magnitude(bits: int) -> None:
    for largest, exponent in ((1.0, 0), (1.99, 0), (2.0, 1), (0.5, -1), (-3.9, 1)):
        top, scale = shared_exponent(np.array([0.1 * largest, largest], np.float32), bits)
        assert top == 127 + exponent and scale == 2.0 ** (exponent + 1 - (bits - 1))
    assert fixed_nearest(np.zeros(3, np.float32), bits)[1] == np.float32(2.0**-126)
    mantissas, scale = fixed_nearest(np.array([1, np.inf], np.float32), bits)
    assert np.isnan(scale) and not mantissas.any()


@pytest.mark.parametrize("bits", [8, 16])
def test_mantissas_are_unbiased(bits: int) -> None:
    """Mean and variance of stochastic rounding over many draws; 8 bits draw from 256 thresholds."""
    count = 200_000
    for value in (0.3, -0.123, 0.9, 0.011):
        x = np.full(count, value, np.float32)
        x[0] = 1.0  # sets the exponent
        mantissas, scale = fixed_random(x, bits, 1, 2, 3)
        exact = value / float(scale)
        drawn = mantissas[1:].astype(np.float64)
        assert abs(drawn.mean() - exact) < 1 / 512 * (bits == 8) + 5 * 0.5 / np.sqrt(count)
        fraction = exact - np.floor(exact)
        assert abs(drawn.var() - fraction * (1 - fraction)) < 0.01


# ---- what a user may get wrong


@pytest.mark.parametrize(
    ("method", "part"),
    [("fixed8:master=int8", "no master 'int8'"), ("fixed8:bits=4", "in the name"), ("fixed16:mastr=int16", "mastr")],
)
def test_wrong_options_are_explained(method: str, part: str) -> None:
    with pytest.raises(UserError, match=part):
        parse_plan(method)


@pytest.mark.parametrize("optimizer", ["adam", "sgd:momentum=0.9"])
def test_an_int16_master_goes_with_plain_sgd_only(optimizer: str) -> None:
    options = Options("all", TrainingOptions(optimizer=optimizer), quant=parse_plan("fixed8"))
    with pytest.raises(UserError, match="plain SGD") as caught:
        compile_model("digits-cnn", options)
    assert "master=float32" in str(caught.value.hint)
