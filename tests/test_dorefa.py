"""DoReFa-Net: the published identities, unbiased gradients, straight-through estimators; the reference's bits in C."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import assert_parity, floats, floats_with_special, reference_gradients, shapes, torch
from toolkit.ir import Array
from toolkit.ops.activation_mask import PASS_MASKED, pack_codes
from toolkit.ops.base import Run
from toolkit.ops.decode_codes import DecodeCodes
from toolkit.ops.dorefa_activations import DorefaActivations, DorefaActivationsTraining
from toolkit.ops.dorefa_gradient import DorefaGradient
from toolkit.ops.dorefa_weights import DorefaSigns, DorefaWeights, DorefaWeightsGrad
from toolkit.ops.max_pool import MaxPool, MaxPoolTraining
from toolkit.ops.pooling import Window
from toolkit.ops.signs import pack_signs, unpack_signs

BITS = tuple(range(1, 9))
MATRICES = shapes(max_rank=4, max_side=20, min_rank=2)
SMALL = settings(max_examples=20)


def scaled(x: Array, scale: float) -> Array:
    """The product in float32, beyond its range too."""
    with np.errstate(all="ignore"):
        return np.asarray(x * np.float32(scale), np.float32)


def dtype_of(bits: int, wide: bool = False) -> str:
    """The type of codes of a width, or the wider one."""
    return "int16" if wide or bits == 8 else "int8"


def scalars(seed: int = 3, step: int = 9) -> tuple[Array, Array]:
    """Seed and step."""
    return np.array(seed, np.uint32), np.array(step, np.uint32)


# ---- the same bits in C


@SMALL
@given(shape=shapes(max_side=9), seed=st.integers(0, 99), bits=st.sampled_from(BITS), wide=st.booleans())
def test_codes_of_activations_are_the_same_in_c(shape: tuple[int, ...], seed: int, bits: int, wide: bool) -> None:
    x = floats_with_special(seed, *shape)
    ties = np.random.default_rng(seed).integers(-2, 300, shape) / np.float32(256)
    dtype = dtype_of(bits, wide)
    for values in (x, x * np.float32(0.3), ties.astype(np.float32), x * np.float32(2.0**-9)):
        assert_parity(DorefaActivations(bits, dtype), [values])
        assert_parity(DorefaActivationsTraining(bits, dtype), [values])
    assert_parity(PASS_MASKED, [floats(seed, *shape), pack_codes(x > 0, 1)])


@SMALL
@given(shape=MATRICES, seed=st.integers(0, 99), scale=st.sampled_from([0.0, 1e-40, 1e-37, 0.1, 3.0]), odd=st.booleans())
def test_signs_of_weights_are_the_same_in_c(shape: tuple[int, ...], seed: int, scale: float, odd: bool) -> None:
    w = floats_with_special(seed, *shape) if odd else floats(seed, *shape)
    assert_parity(DorefaSigns(), [scaled(w, scale)])


@SMALL
@given(
    shape=MATRICES, seed=st.integers(0, 99), bits=st.integers(2, 8), wide=st.booleans(),
    scale=st.sampled_from([0.0, 1e-40, 0.1, 3.0]), odd=st.booleans(),
)  # fmt: skip
def test_codes_of_weights_are_the_same_in_c(
    shape: tuple[int, ...], seed: int, bits: int, wide: bool, scale: float, odd: bool
) -> None:
    w = scaled((floats_with_special if odd else floats)(seed, *shape), scale)
    assert_parity(DorefaWeights(bits, dtype_of(bits, wide)), [w])
    assert_parity(DorefaWeightsGrad(), [floats(seed + 1, *shape), w])


@pytest.mark.parametrize("bits", range(2, 7))
@pytest.mark.parametrize("scale", [0.0, 1e-35, 0.1, 1.0, 30.0])
def test_codes_of_many_weights_are_the_same_in_c(bits: int, scale: float) -> None:
    """Enough of them for thresholds instead of tanh; floats next to each threshold too."""
    w = floats(bits, 2500, scale=scale)
    ordered = np.sort(w)
    (codes,) = DorefaWeights(bits).run(Run(), ordered)
    for first in np.nonzero(np.diff(codes))[0]:
        low, high = ordered[first], ordered[first + 1]
        while np.nextafter(low, high) < high:  # the floats between which the code changes
            middle = np.float32(low + (high - low) / 2)
            between = np.concatenate([w, [middle]]).astype(np.float32)
            below = DorefaWeights(bits).run(Run(), between)[0][-1] == codes[first]
            low, high = (middle, high) if below else (low, middle)
        w = np.concatenate([w, [low, high]]).astype(np.float32)
    assert_parity(DorefaWeights(bits), [w])


@settings(max_examples=40)
@given(
    shape=shapes(max_side=9), seed=st.integers(0, 99), bits=st.sampled_from(BITS), wide=st.booleans(),
    scale=st.sampled_from([0.0, 1e-40, 1e-30, 1e-6, 1.0, 1e38]), odd=st.booleans(), spread=st.booleans(),
)  # fmt: skip
def test_codes_of_gradients_are_the_same_in_c(
    shape: tuple[int, ...], seed: int, bits: int, wide: bool, scale: float, odd: bool, spread: bool
) -> None:
    g = (floats_with_special if odd else floats)(seed, *shape)
    if spread:  # magnitudes all over the range
        g = g * np.float32(2) ** np.random.default_rng(seed).integers(-40, 0, shape).astype(np.float32)
    g = scaled(g, scale)
    assert_parity(DorefaGradient(bits, dtype_of(bits, wide), seed * 77), [g, *scalars(seed)])


@SMALL
@given(shape=shapes(max_side=9), seed=st.integers(0, 99), dtype=st.sampled_from(["int8", "int16"]))
def test_codes_are_decoded_the_same_in_c(shape: tuple[int, ...], seed: int, dtype: str) -> None:
    codes = np.random.default_rng(seed).integers(-127, 128, shape).astype(dtype)
    assert_parity(DecodeCodes(), [codes, floats(seed, shape[0])])


@SMALL
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)), strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.integers(1, 2), pad=st.integers(0, 1), channels=st.integers(1, 9), seed=st.integers(0, 99),
    dtype=st.sampled_from(["int8", "int16"]),
)  # fmt: skip
def test_codes_are_pooled_the_same_in_c(
    kernel: tuple[int, int], strides: tuple[int, int], dilation: int, pad: int, channels: int, seed: int, dtype: str
) -> None:
    before = tuple(min(pad, (k - 1) * dilation) for k in kernel)
    window = Window(kernel, strides, (dilation, dilation), before, before, False)
    x = np.random.default_rng(seed).integers(-4, 5, (2, 7, 8, channels)).astype(dtype)
    assert_parity(MaxPool(window), [x])
    assert_parity(MaxPoolTraining(window), [x])
    as_floats = MaxPoolTraining(window).run(Run(), x.astype(np.float32))
    codes = MaxPoolTraining(window).run(Run(), x)
    assert np.array_equal(codes[0], as_floats[0]) and np.array_equal(codes[1], as_floats[1])


# ---- what the codes are


@pytest.mark.parametrize("bits", BITS)
def test_activations_are_clipped_and_rounded(bits: int) -> None:
    n, dtype = 2**bits - 1, dtype_of(bits)
    x = np.array([-1, -0.0, 0, 1e-45, 0.25, 0.5, 0.75, 1, 7, np.inf, -np.inf, np.nan], np.float32)
    (codes,) = DorefaActivations(bits, dtype).run(Run(), x)
    middle = [round(n * v) for v in (0.25, 0.5, 0.75)]  # Python rounds ties to even
    assert codes.tolist() == [0, 0, 0, 0, *middle, n, n, n, 0, 0]


@pytest.mark.parametrize("bits", range(2, 9))
def test_weights_are_the_papers(bits: int) -> None:
    n, w = 2**bits - 1, floats(1, 3, 3, 8, 16, scale=0.3)
    t = np.tanh(w.astype(np.float64))
    place = n * (t / (2 * np.abs(t).max()) + 0.5)
    clear = np.abs(place - np.floor(place) - 0.5) > 1e-4
    (codes,) = DorefaWeights(bits, dtype_of(bits)).run(Run(), w)
    assert np.array_equal(codes[clear], (2 * np.rint(place) - n)[clear])
    assert abs(codes).max() == n and np.all(codes % 2 == 1)


def test_one_bit_weights_are_signs_times_the_mean_magnitude() -> None:
    w = floats(1, 3, 3, 11, 5, scale=0.1)
    w[0, 0, 0, :2] = [0.0, -0.0]
    bits, scale = DorefaSigns().run(Run(), w)
    assert np.array_equal(unpack_signs(bits, (3, 3), 11), np.where(w >= 0, 1, -1))
    assert abs(float(scale) / np.abs(w.astype(np.float64)).mean() - 1) < 2e-7


def test_weights_of_zero_and_weights_that_are_not_finite() -> None:
    zeros, broken = np.zeros((2, 3), np.float32), np.array([[1, np.nan]], np.float32)
    assert DorefaSigns().run(Run(), zeros)[1] == 0 and np.isnan(DorefaSigns().run(Run(), broken)[1])
    for bits in range(2, 9):
        op = DorefaWeights(bits, "int16")
        assert np.all(op.run(Run(), zeros)[0] == 1) and np.all(op.run(Run(), broken)[0] == 1 - 2**bits)
    assert not np.any(DorefaWeightsGrad().run(Run(), np.ones((2, 3), np.float32), zeros)[0])


def test_gradients_without_a_scale() -> None:
    g = np.array([[0, 0], [1e-31, 0], [np.inf, 1], [1, np.nan], [2, -2]], np.float32)
    codes, scale = DorefaGradient(4).run(Run(), g, *scalars())
    assert np.array_equal(scale, np.float32([0, 0, np.nan, np.nan, 2 / 15]), equal_nan=True)
    assert np.all(np.abs(codes[:4]) == 1) and codes[4].tolist() == [15, -15]


@pytest.mark.parametrize("bits", BITS)
def test_gradients_are_unbiased(bits: int) -> None:
    """Mean and variance over many draws, at the ends too, where noise must not lead out of range."""
    count, n = 100_000, 2**bits - 1
    for value in (1.0, -1.0, 0.0, 0.3, -0.77, 1e-3):
        g = np.full((1, count), value, np.float32)
        g[0, 0] = 1
        codes, scale = DorefaGradient(bits, "int16", 5).run(Run(), g, *scalars())
        drawn = codes[0, 1:].astype(np.float64) * float(scale[0])
        step, place = 2 / n, n * (value / 2 + 0.5)
        fraction = place - np.floor(place)
        variance = step**2 * fraction * (1 - fraction)
        assert abs(drawn.mean() - value) < 5 * np.sqrt(variance / count) + step / 2**15
        assert abs(drawn.var() - variance) < step**2 * 0.01
        assert np.abs(codes).max() <= n


# ---- the identities of the paper


@given(first=st.integers(1, 8), second=st.integers(1, 8), count=st.integers(1, 70), seed=st.integers(0, 99))
def test_a_dot_product_is_a_sum_over_bit_planes(first: int, second: int, count: int, seed: int) -> None:
    """x . y = sum of 2^(m + k) popcount(c_m(x) & c_k(y))."""
    random = np.random.default_rng(seed)
    x, y = random.integers(0, 2**first, count), random.integers(0, 2**second, count)
    pairs = product(range(first), range(second))
    assert int(x @ y) == sum(2 ** (m + k) * int(((x >> m & 1) & (y >> k & 1)).sum()) for m, k in pairs)


@given(channels=st.integers(1, 70), seed=st.integers(0, 99))
def test_a_dot_product_of_signs_is_a_popcount(channels: int, seed: int) -> None:
    """N - 2 popcount(xor), on the packed bits."""
    x, y = np.random.default_rng(seed).integers(0, 2, (2, channels)).astype(bool)
    first, second = (pack_signs(bits.reshape(1, channels, 1)) for bits in (x, y))
    differ = int(np.unpackbits(first ^ second).sum())
    assert channels - 2 * differ == int((2 * x.astype(int) - 1) @ (2 * y.astype(int) - 1))


@given(a_bits=st.integers(1, 8), w_bits=st.integers(1, 8), count=st.integers(1, 40), seed=st.integers(0, 99))
def test_affine_codes_and_odd_codes_give_the_same_sum(a_bits: int, w_bits: int, count: int, seed: int) -> None:
    """2 sum(p q) - n_w sum(p) for weights 2 q / n_w - 1 is the sum of p times the odd codes 2 q - n_w."""
    random, n_w = np.random.default_rng(seed), 2**w_bits - 1
    p, q = random.integers(0, 2**a_bits, count), random.integers(0, 2**w_bits, count)
    assert 2 * int(p @ q) - n_w * int(p.sum()) == int(p @ (2 * q - n_w))


# ---- gradients


@pytest.mark.oracle
@pytest.mark.parametrize("bits", BITS)
def test_straight_through_gradients_are_those_of_pytorch(bits: int) -> None:
    t, n = torch(), 2**bits - 1

    class Round(t.autograd.Function):  # type: ignore[name-defined,misc]
        @staticmethod
        def forward(context: Any, x: Any) -> Any:
            return t.round(x)

        @staticmethod
        def backward(context: Any, dy: Any) -> Any:
            return dy

    x, dy = floats(bits, 5, 7, scale=0.8), floats(bits + 9, 5, 7)
    given_x = t.tensor(x, requires_grad=True)
    (Round.apply(given_x.clamp(0, 1) * n) / n).backward(t.tensor(dy))
    found = reference_gradients(DorefaActivations(bits, "int16"), [x], [dy])[0]
    assert found is not None and np.allclose(found, given_x.grad.numpy(), rtol=1e-6)
    found = reference_gradients(DorefaActivationsTraining(bits, "int16"), [x], [dy, None])[0]
    assert found is not None and np.allclose(found, given_x.grad.numpy(), rtol=1e-6)

    w = floats(bits, 5, 7, scale=0.5)
    given_w = t.tensor(w, requires_grad=True)
    if bits == 1:
        assert reference_gradients(DorefaSigns(), [w], [dy, None])[0] is not None
        return
    tanh = t.tanh(given_w)
    place = tanh / (2 * tanh.abs().max().detach()) + 0.5
    (2 * Round.apply(place * n) / n - 1).backward(t.tensor(dy))
    found = reference_gradients(DorefaWeights(bits, "int16"), [w], [dy])[0]
    assert found is not None and np.allclose(found, given_w.grad.numpy(), rtol=1e-5, atol=1e-6)
