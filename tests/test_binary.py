"""Convolutions of signs with signs: identities, the same bits in C, no multiplication, and what they cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import (
    assert_parity,
    assert_same_bits,
    floats,
    one_node,
    reference_gradients,
    run_in_c,
    run_nodes,
)
from toolkit.ir import Array, TensorType
from toolkit.ops.base import Run, ShapeError
from toolkit.ops.binary_conv import BinaryConv, PackedBinaryConv, pack_filters
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.contexts import Backward
from toolkit.ops.conv import Conv
from toolkit.ops.signs import pack_signs, unpack_signs
from toolkit.ops.to_real import ToReal


def signs(seed: int, *shape: int) -> Array:
    """+1 and -1."""
    return np.where(np.random.default_rng(seed).random(shape) < 0.5, np.float32(-1), np.float32(1))


def bits_of(values: Array) -> Array:
    """The bits of activations."""
    return np.packbits(values >= 0, axis=-1, bitorder="little")


@st.composite
def layers(draw: st.DrawFn) -> tuple[BinaryConv, Array, Array]:
    """(op, x of +1 and -1, w of +1 and -1 [taps..., C, OC])."""
    axes = draw(st.integers(1, 2))
    axis = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 2), st.integers(0, 3), st.integers(0, 2))
    drawn = [draw(axis) for _ in range(axes)]
    kernel, strides, dilations, before, after = (tuple(each[i] for each in drawn) for i in range(5))
    needed = [max(1, (k - 1) * d + 1 - b - a) for k, _, d, b, a in drawn]
    sizes = [low + draw(st.integers(0, 6)) for low in needed]
    channels = draw(st.sampled_from([1, 3, 8, 9, 16, 21, 32, 40, 64]))
    outputs, batch, seed = draw(st.integers(1, 5)), draw(st.integers(1, 2)), draw(st.integers(0, 99))
    op = BinaryConv(strides, dilations, before, after, kernel=kernel, channels=channels)
    return op, signs(seed, batch, *sizes, channels), signs(seed + 1, *kernel, channels, outputs)


def as_float(op: BinaryConv) -> Conv:
    """The convolution of the values."""
    return Conv(op.strides, op.dilations, op.before, op.after)


@given(layers())
@settings(max_examples=60, deadline=None)
def test_binary_convolution_is_the_same_to_the_bit_on_host(case: tuple[BinaryConv, Array, Array]) -> None:
    op, x, w = case
    assert_parity(op, [bits_of(x), pack_signs(w > 0)])


@given(layers())
@settings(max_examples=60, deadline=None)
def test_packed_filters_give_the_same_sums(case: tuple[BinaryConv, Array, Array]) -> None:
    op, x, w = case
    bits, packed = bits_of(x), pack_signs(w > 0)
    form = PackedBinaryConv(op.strides, op.dilations, op.before, op.after, kernel=op.kernel, channels=op.channels)
    inputs = [bits, *pack_filters(op, bits.shape, packed)]
    assert_parity(form, inputs)
    assert_same_bits(run_in_c(form, inputs, True)[1][0], op.run(Run(), bits, packed)[0])


@given(layers())
@settings(max_examples=40, deadline=None)
def test_sums_are_those_of_the_values(case: tuple[BinaryConv, Array, Array]) -> None:
    op, x, w = case
    expected = as_float(op).run(Run(), x, w)[0]
    assert np.array_equal(op.run(Run(), bits_of(x), pack_signs(w > 0))[0], expected)


@given(st.integers(1, 200), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_sum_of_products_of_signs_is_the_count_less_twice_the_unequal_bits(count: int, seed: int) -> None:
    a, b = signs(seed, 1, 1, 1, count), signs(seed + 1, 1, 1, count, 1)
    unequal = int(np.bitwise_count(np.bitwise_xor(bits_of(a)[0, 0, 0], pack_signs(b > 0)[0, 0])).sum())
    assert np.sum(a.reshape(-1) * b.reshape(-1)) == count - 2 * unequal
    op = BinaryConv((1, 1), (1, 1), (0, 0), (0, 0), kernel=(1, 1), channels=count)
    assert op.run(Run(), bits_of(a), pack_signs(b > 0))[0].item() == count - 2 * unequal


@given(layers())
@settings(max_examples=20, deadline=None)
def test_gradients_are_those_of_the_values(case: tuple[BinaryConv, Array, Array]) -> None:
    op, x, w = case
    bits, packed = bits_of(x), pack_signs(w > 0)
    dy = floats(7, *op.run(Run(), bits, packed)[0].shape)
    builder = GraphBuilder.resume(one_node(op, [bits, packed]))
    flowing = builder.input("dy", TensorType(dy.shape))
    names = op.gradient(Backward(builder, builder.nodes[0], (True, True)), flowing)
    values = run_nodes(builder.finish(), {"in0": bits, "in1": packed, "dy": dy})
    dx, dw = reference_gradients(as_float(op), [x, w], [dy])
    assert names[0] is not None and names[1] is not None and dx is not None and dw is not None
    assert_same_bits(values[names[1]], dw)
    np.testing.assert_allclose(values[names[0]], dx, rtol=1e-4, atol=1e-4)  # signed sums have an order of their own


def test_a_long_dense_layer() -> None:
    for channels in (1568, 32767):
        x, w = signs(1, 2, 1, 1, channels), signs(2, 1, 1, channels, 3)
        op = BinaryConv((1, 1), (1, 1), (0, 0), (0, 0), kernel=(1, 1), channels=channels)
        assert_parity(op, [bits_of(x), pack_signs(w > 0)])
    assert np.array_equal(unpack_signs(pack_signs(w > 0), (1, 1), channels), w)


@pytest.mark.parametrize("dtype", ["int16", "int32"])
def test_integers_become_real(dtype: str) -> None:
    info = np.iinfo(dtype)
    values = np.random.default_rng(1).integers(info.min, info.max, (3, 7), dtype)
    assert_parity(ToReal(), [np.concatenate([values, np.array([[info.min, info.max, 0, 1, -1, 7, 9]], dtype)])])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": 2}, "no groups"),
        ({"channels": 0}, "kernel and channels"),
        ({"channels": 40000}, "does not fit 16 bits"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        BinaryConv((1, 1), (1, 1), (0, 0), (0, 0), **{"kernel": (1, 1), "channels": 8, **change})
