"""Binary networks in inference, on integers from end to end: the same bits in C, and close to the float network."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import assert_parity, floats_with_special, shapes
from toolkit.ir import Array
from toolkit.ops.signs import pack_signs
from toolkit.ops.stream import RealFromStream, StreamAveragePool, StreamFromReal, StreamSigns
from toolkit.ops.stream_block import StreamBlock, StreamProjection


def codes(seed: int, *shape: int, largest: int = 8000) -> Array:
    """Codes of a stream."""
    return np.random.default_rng(seed).integers(-largest, largest + 1, shape).astype(np.int16)


@given(shapes(), st.integers(0, 12), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_ends_of_a_stream_are_the_same_to_the_bit(shape: tuple[int, ...], fraction: int, seed: int) -> None:
    x = floats_with_special(seed, *shape)
    assert_parity(StreamFromReal(fraction), [x])
    assert_parity(RealFromStream(fraction), [codes(seed, *shape, largest=32767)])


@given(st.integers(1, 5), st.integers(1, 35), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_signs_of_codes_are_the_same_to_the_bit(rows: int, channels: int, seed: int) -> None:
    assert_parity(StreamSigns(), [codes(seed, rows, channels, largest=3), codes(seed + 1, channels, largest=3)])


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.sampled_from([(1, 1), (2, 2), (1, 4), (4, 2)]),
       st.integers(0, 99))  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_means_of_codes_are_the_same_to_the_bit(
    rows: int, columns: int, channels: int, window: tuple[int, int], seed: int
) -> None:
    shape = (2, rows * window[0], columns * window[1], channels)
    assert_parity(StreamAveragePool(*window), [codes(seed, *shape, largest=32767)])


@given(st.integers(1, 5), st.integers(1, 20), st.booleans(), st.booleans(), st.integers(0, 9), st.integers(0, 3),
       st.integers(0, 99))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_blocks_are_the_same_to_the_bit(
    rows: int, channels: int, strict: bool, shortcut: bool, right: int, up: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    factors = random.integers(0, 8, channels) if strict else random.integers(-32767, 32768, channels)
    slopes = random.integers(0, 32, channels)
    shifts = codes(seed + 1, 2, channels)
    parameters = np.stack([factors, shifts[0], slopes, shifts[1]], axis=-1).astype(np.int16)
    inputs = [codes(seed + 2, rows, channels, largest=400), parameters]
    inputs += [codes(seed + 3, rows, channels)] if shortcut else []
    assert_parity(StreamBlock(strict, right, up), inputs)


@given(st.integers(1, 5), st.integers(1, 20), st.integers(1, 9), st.booleans(), st.integers(0, 9), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_projections_are_the_same_to_the_bit(
    rows: int, channels: int, outputs: int, strict: bool, right: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    factors = random.integers(0, 8, outputs) if strict else random.integers(0, 4000, outputs)
    signs = pack_signs(random.random((1, channels, outputs)) < 0.5)
    assert_parity(
        StreamProjection(strict, right), [codes(seed, rows, channels), signs, factors.astype(np.int16)]
    )
