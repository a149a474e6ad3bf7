"""BinaryConnect: the binarization's statistics, its gradients and updates, and the same bits everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import (
    assert_parity,
    assert_same_bits,
    floats,
    floats_with_special,
    reference_gradients,
    run_in_c,
    shapes,
)  # fmt: skip
from toolkit.ir import Array
from toolkit.numerics.stored import StoredFormat
from toolkit.ops.base import Run, StepAborted
from toolkit.ops.binarize_weights import BinarizeWeights, SampleSigns, StochasticBinarizeWeights
from toolkit.ops.clip_scaled_step import ClippedSgd, ClipScaledStep
from toolkit.ops.signs import unpack_signs

STORED = (StoredFormat("fixed", -14), StoredFormat("fp16"))


def scalars(seed: int = 3, step: int = 9) -> tuple[Array, Array]:
    """Seed and step."""
    return np.array(seed, np.uint32), np.array(step, np.uint32)


def weight_shapes() -> st.SearchStrategy[tuple[int, ...]]:
    """[taps..., IC, OC], with more input channels than a byte holds now and then."""
    taps = shapes(max_rank=2, max_side=3, min_rank=0)
    return st.builds(lambda t, i, o: (*t, i, o), taps, st.integers(1, 19), st.sampled_from([1, 2, 8, 18, 36]))


# ---- ops


@settings(max_examples=25)
@given(shape=weight_shapes(), seed=st.integers(0, 99), limit=st.sampled_from([1.0, 0.07]), special=st.booleans())
def test_binarization_is_the_same_in_c(shape: tuple[int, ...], seed: int, limit: float, special: bool) -> None:
    w = floats_with_special(seed, *shape) if special else floats(seed, *shape, scale=limit)
    assert_parity(BinarizeWeights(limit), (w,))
    assert_parity(StochasticBinarizeWeights(limit, stream=seed * 977), (w, *scalars(seed)))
    if shape[-1] % 2 == 0:
        assert_parity(BinarizeWeights(limit, groups=2), (w,))
        assert_parity(StochasticBinarizeWeights(limit, groups=2, stream=seed), (w, *scalars(seed)))
    assert_parity(SampleSigns(limit, member=seed, stream=5), (w,))
    for format in STORED:
        stored = format.nearest(np.clip(w, -2, 2))
        assert_parity(BinarizeWeights(limit, format), (stored,))
        assert_parity(StochasticBinarizeWeights(limit, format, stream=seed), (stored, *scalars(seed)))
        assert_parity(SampleSigns(limit, format, member=seed), (stored,))


def test_signs_of_zero_and_of_what_is_no_number() -> None:
    w = np.array([[0.0], [-0.0], [1e-45], [-1e-45], [np.nan], [np.inf], [-np.inf]], np.float32)
    (bits,) = BinarizeWeights().run(Run(), w)
    assert unpack_signs(bits, (), 7).ravel().tolist() == [1, 1, 1, -1, -1, 1, -1]
    (drawn,) = StochasticBinarizeWeights().run(Run(), w, *scalars())
    assert unpack_signs(drawn, (), 7).ravel()[4:].tolist() == [-1, 1, -1]


@pytest.mark.parametrize("limit", [1.0, 0.05])
def test_stochastic_signs_have_the_mean_and_variance_of_the_paper(limit: float) -> None:
    """P(+1) is the hard sigmoid of w / limit: the mean is w / limit, the variance 1 - mean^2; draws are independent."""
    count = 40_000
    for share in (-1.5, -1.0, -0.7, 0.0, 0.01, 0.5, 1.0, 3.0):
        w = np.full((1, count), share * limit, np.float32)
        (bits,) = StochasticBinarizeWeights(limit, stream=7).run(Run(), w, *scalars())
        signs = unpack_signs(bits, (), 1).ravel().astype(np.float64)
        mean = float(np.clip(share, -1, 1))
        deviation = np.sqrt(1 - mean**2)
        assert abs(signs.mean() - mean) <= 5 * deviation / np.sqrt(count)
        assert abs(signs.var() - deviation**2) <= 0.03
        neighbours = np.mean((signs[1:] - mean) * (signs[:-1] - mean))
        assert abs(neighbours) <= 5 * deviation**2 / np.sqrt(count)


def test_every_step_draws_anew() -> None:
    w = floats(1, 3, 3, 16, 8, scale=0.3)
    op = StochasticBinarizeWeights(stream=1)
    first, again, later = (op.run(Run(), w, *scalars(2, step))[0] for step in (4, 4, 5))
    (other,) = StochasticBinarizeWeights(stream=2).run(Run(), w, *scalars(2, 4))
    assert np.array_equal(first, again)
    for different in (later, other):
        assert 0.2 < np.mean(np.unpackbits(first) != np.unpackbits(different)) < 0.5


@pytest.mark.parametrize("limit", [1.0, 0.25])
def test_the_gradient_passes_unchanged(limit: float) -> None:
    """Also where a weight is beyond its limit: nothing is masked. dy is that of -1 and +1, dw that of the weights."""
    w, dy = floats(1, 3, 3, 5, 4), floats(2, 3, 3, 5, 4)
    for op, inputs in ((BinarizeWeights(limit), (w,)), (StochasticBinarizeWeights(limit), (w, *scalars()))):
        dw = reference_gradients(op, inputs, [dy], wanted=[True, False, False][: len(inputs)])[0]
        assert dw is not None and np.array_equal(dw, dy / np.float32(limit))


@settings(max_examples=15)
@given(shape=shapes(), seed=st.integers(0, 99), scale=st.sampled_from([1.0, 17.0]), decay=st.sampled_from([0.0, 1e-3]))
def test_clipped_steps_are_the_same_in_c(shape: tuple[int, ...], seed: int, scale: float, decay: float) -> None:
    w, gradient = floats(seed, *shape, scale=0.6), floats(seed + 1, *shape)
    proposed = w + np.float32(0.02) * floats_with_special(seed + 2, *shape)
    assert_parity(ClipScaledStep(scale, 1.0), (w, proposed), states={0: 0})
    rate = np.array(0.03, np.float32)
    assert_parity(ClippedSgd(decay, scale, 0.8), (w, gradient, rate), states={0: 0})


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    w, gradient, rate = floats(1, 60, scale=0.4), floats_with_special(2, 60), np.array(0.1, np.float32)
    with pytest.raises(StepAborted):
        ClippedSgd().run(Run(), w, gradient, rate)
    status, outputs = run_in_c(ClippedSgd(), (w, gradient, rate), True, states={0: 0})
    assert status == "ET_NONFINITE_GRADIENT"
    assert_same_bits(outputs[0], w)
