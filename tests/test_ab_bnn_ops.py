"""The ops that A&B BNN trains with: what they compute, their gradients against PyTorch, and that the C agrees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import (
    assert_parity,
    floats,
    floats_with_special,
    reference_gradients,
    run_in_c,
    shapes,
    torch,
    values,
)  # fmt: skip
from toolkit.ir import Array
from toolkit.ops.binarize_activations import BinarizeActivations, BinarizeActivationsGrad, UnpackSigns
from toolkit.ops.clip_by_unit import ClipByUnit
from toolkit.ops.nearest_power_of_two import NearestPowerOfTwo, NearestPowerOfTwoGrad
from toolkit.ops.power_prelu import PowerPRelu, PowerPReluGradExponent, PowerPReluGradInput
from toolkit.ops.signs import unpack_signs
from toolkit.ops.standardize_weights import BinarizeStandardized, StandardizeWeights, StandardizeWeightsGrad
from toolkit.ops.unpack_weight_signs import UnpackWeightSigns

MATRICES = shapes(max_rank=4, max_side=20, min_rank=2)
SMALL = settings(max_examples=15)


def close(found: Array | None, expected: Any) -> None:
    """Equal to a relative 1e-4 of the largest value."""
    wanted = expected.detach().numpy()
    assert found is not None and found.shape == wanted.shape
    assert np.max(np.abs(found - wanted), initial=0) <= 1e-4 * max(1.0, float(np.max(np.abs(wanted), initial=0)))


# ---- the same bits in C


@SMALL
@given(shape=MATRICES, beta=st.sampled_from([1.0, 0.9701425]), seed=st.integers(0, 9))
def test_signs_of_activations_are_the_same_in_c(shape: tuple[int, ...], beta: float, seed: int) -> None:
    x, dy, shift = floats_with_special(seed, *shape), floats(seed + 1, *shape), floats(seed + 2, shape[-1])
    assert_parity(BinarizeActivations(beta), [x, shift])
    assert_parity(BinarizeActivationsGrad(beta), [dy, x, shift])
    (bits,) = values(BinarizeActivations(beta), x, shift)
    assert_parity(UnpackSigns(shape[-1]), [bits])


@SMALL
@given(shape=MATRICES, seed=st.integers(0, 9))
def test_power_prelu_is_the_same_in_c(shape: tuple[int, ...], seed: int) -> None:
    x, dy = floats_with_special(seed, *shape), floats(seed + 1, *shape)
    exponent = np.where(floats(seed, shape[-1]) > 2, floats_with_special(seed, shape[-1]), floats(seed, shape[-1]) * 4)
    exponent = exponent.astype(np.float32)
    assert_parity(PowerPRelu(), [x, exponent])
    assert_parity(PowerPReluGradInput(), [dy, x, exponent])
    assert_parity(PowerPReluGradExponent(), [dy, x, exponent])


@SMALL
@given(shape=MATRICES, seed=st.integers(0, 9), constant=st.booleans())
def test_weights_are_standardized_the_same_in_c(shape: tuple[int, ...], seed: int, constant: bool) -> None:
    w, dy = floats(seed, *shape, scale=0.3), floats(seed + 1, *shape)
    if constant:
        w[..., 0] = w.flat[0]
    assert_parity(StandardizeWeights(), [w])
    assert_parity(BinarizeStandardized(), [w])
    assert_parity(UnpackWeightSigns(shape[:-2], shape[-2]), [values(BinarizeStandardized(), w)[0]])
    assert_parity(StandardizeWeightsGrad(False), [dy, w])
    assert_parity(StandardizeWeightsGrad(True), [dy, w])


@SMALL
@given(shape=MATRICES, seed=st.integers(0, 9), scale=st.sampled_from([0.0, 1e-5, 1.0, 100.0]))
def test_gradients_are_clipped_the_same_in_c(shape: tuple[int, ...], seed: int, scale: float) -> None:
    w, g = floats(seed, *shape), floats(seed + 1, *shape, scale=scale)
    assert_parity(ClipByUnit(0.02), [w, g])
    assert_parity(ClipByUnit(0.02), [w * np.float32(scale), floats_with_special(seed, *shape)])


@SMALL
@given(count=st.integers(1, 40), seed=st.integers(0, 9))
def test_powers_of_two_are_the_same_in_c(count: int, seed: int) -> None:
    x = np.exp2(floats(seed, count, scale=12)).astype(np.float32)
    x = np.where(floats(seed + 1, count) > 2.5, floats_with_special(seed, count), x)
    assert_parity(NearestPowerOfTwo(), [x])
    assert_parity(NearestPowerOfTwoGrad(), [floats(seed, count), x])


# ---- what they compute


def test_a_sign_of_zero_is_plus_and_of_nan_minus() -> None:
    x = np.array([[0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-45, 2, 3]], np.float32)
    (bits,) = values(BinarizeActivations(), x, np.zeros(9, np.float32))
    assert bits.tolist() == [[0b10101011, 1]]
    assert values(UnpackSigns(9), bits)[0].tolist() == [[1, 1, -1, 1, -1, 1, -1, 1, 1]]


@given(shape=MATRICES, seed=st.integers(0, 99))
def test_the_mask_layer_can_be_removed(shape: tuple[int, ...], seed: int) -> None:
    """sign(beta (x + c0 / beta)) = sign(x + c0 / beta) for beta > 0: the scale in front of a sign needs no product."""
    beta = 1 / np.sqrt(1.0625)
    x, shift = floats(seed, *shape).astype(np.float64), floats(seed + 1, shape[-1]).astype(np.float64)
    masked = beta * (x + shift / beta)
    with_scale = values(BinarizeActivations(float(beta)), x.astype(np.float32), shift.astype(np.float32))[0]
    without = values(BinarizeActivations(), x.astype(np.float32), (shift / beta).astype(np.float32))[0]
    far = np.abs(masked) > 1e-5  # nearer to the threshold, the rounding of shift / beta decides
    differ = values(UnpackSigns(shape[-1]), with_scale)[0] != values(UnpackSigns(shape[-1]), without)[0]
    assert not np.any(differ & far)


def test_binary_weights_are_the_signs_of_standardized_ones() -> None:
    w = floats(3, 3, 3, 11, 5)
    (ws,) = values(StandardizeWeights(), w)
    bits, magnitude = values(BinarizeStandardized(), w)
    assert np.array_equal(values(UnpackWeightSigns((3, 3), 11), bits)[0], np.where(ws >= 0, 1, -1))
    assert np.array_equal(unpack_signs(bits, (3, 3), 11), np.where(ws >= 0, 1, -1))
    assert np.allclose(magnitude, np.abs(ws).mean(axis=(0, 1, 2)), rtol=1e-5)
    assert np.allclose(ws.mean(axis=(0, 1, 2)), 0, atol=1e-6) and np.allclose(ws.std(axis=(0, 1, 2)), 1, rtol=1e-4)


def test_a_power_of_two_is_the_nearest_in_the_logarithm() -> None:
    x = np.geomspace(1e-7, 1e7, 4001).astype(np.float32)
    edges = np.array([0x3FB504F3, 0x3FB504F4], np.uint32).view(np.float32)  # the neighbours of sqrt(2)
    assert np.array_equal(values(NearestPowerOfTwo(), x)[0], np.exp2(np.rint(np.log2(x.astype(np.float64)))))
    assert values(NearestPowerOfTwo(), edges)[0].tolist() == [1, 2]
    odd = np.array([0, -1, np.nan, 1e-30, np.inf, 3e38], np.float32)
    assert values(NearestPowerOfTwo(), odd)[0].tolist() == [2.0**-27] * 4 + [2.0**127] * 2


def test_a_clipped_gradient_has_the_norm_that_is_allowed() -> None:
    w, g = floats(1, 3, 3, 4, 6), floats(2, 3, 3, 4, 6)
    g[..., 0] *= np.float32(1e-4)  # small enough to be left alone
    (clipped,) = values(ClipByUnit(0.02), w, g)
    norm = np.sqrt((clipped.astype(np.float64) ** 2).sum(axis=(0, 1, 2)))
    limit = 0.02 * np.sqrt((w.astype(np.float64) ** 2).sum(axis=(0, 1, 2)))
    assert np.array_equal(clipped[..., 0], g[..., 0]) and np.all(norm[1:] <= limit[1:] * 1.0001)
    assert np.allclose(norm[1:], limit[1:], rtol=1e-4)


# ---- gradients


@pytest.mark.oracle
def test_gradient_of_the_activation_signs() -> None:
    library = torch()
    x, shift, dy, beta = floats(1, 2, 5, 9), floats(2, 9), floats(3, 2, 5, 9), 0.9701425
    found = reference_gradients(BinarizeActivations(beta), [x, shift], [dy])
    a, b = (library.tensor(v, requires_grad=True) for v in (x, shift))
    s = library.sigmoid(3 * (beta * a + b))
    (2 * s * library.tensor(dy)).sum().backward()  # 2 sigmoid(3 z) has the slope 6 s (1 - s)
    close(found[0], a.grad)
    close(found[1], b.grad)


@pytest.mark.oracle
def test_gradient_of_power_prelu() -> None:
    library = torch()
    x, exponent, dy = floats(1, 4, 5, 7), floats(2, 7), floats(3, 4, 5, 7)
    found = reference_gradients(PowerPRelu(), [x, exponent], [dy])
    a, b = (library.tensor(v, requires_grad=True) for v in (x, exponent))
    rounded = b + (library.round(b) - b).detach()
    (library.where(a >= 0, a, a * 2.0**rounded) * library.tensor(dy)).sum().backward()
    close(found[0], a.grad)
    close(found[1], b.grad)


@pytest.mark.oracle
@pytest.mark.parametrize("binary", [False, True])
def test_gradient_of_standardized_weights(binary: bool) -> None:
    library = torch()
    w, dy = floats(1, 3, 3, 4, 5, scale=0.3), floats(2, 3, 3, 4, 5)
    a = library.tensor(w, requires_grad=True)
    axes = (0, 1, 2)
    ws = (a - a.mean(axes, keepdim=True)) / (a.std(axes, keepdim=True, unbiased=False) + 1e-5)
    passed = library.tensor(dy) * (ws.detach().abs() <= 1) if binary else library.tensor(dy)
    (ws * passed).sum().backward()
    if binary:
        assert run_in_c(BinarizeStandardized(), [w], True)[0] == "ET_OK"
        (found,) = values(StandardizeWeightsGrad(True), dy, w)
    else:
        (found,) = reference_gradients(StandardizeWeights(), [w], [dy])  # type: ignore[assignment]
    close(found, a.grad)


@pytest.mark.oracle
def test_gradient_of_powers_of_two() -> None:
    library = torch()
    x, dy = np.exp(floats(1, 50)), floats(2, 50)
    (found,) = reference_gradients(NearestPowerOfTwo(), [x], [dy])
    a = library.tensor(x, requires_grad=True)
    logarithm = library.log2(a)
    rounded = logarithm + (library.round(logarithm) - logarithm).detach()
    (2.0**rounded * library.tensor(dy)).sum().backward()
    close(found, a.grad)
