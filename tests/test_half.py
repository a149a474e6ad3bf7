"""binary16 and bfloat16: rounding, multiply-adds, layers; the reference's bits in C."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import assert_parity, floats, floats_with_special, shapes
from toolkit.numerics import from_bits
from toolkit.numerics.half import FORMATS, from_half, half_products, to_half
from toolkit.ops.half_codes import FromHalf, ToHalf

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
