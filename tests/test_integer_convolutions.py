"""Convolutions of integer codes: the reference's bits in C, and that their gradients are those of the values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import StepRunner, assert_same_bits, run_nodes
from toolkit.ir import Array, Graph, TensorType
from toolkit.lower import Memory, lower_function
from toolkit.ops.affine_codes import AffineQuantize
from toolkit.ops.base import Op
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.quantized_conv import QuantizedConv, QuantizedConvGradInput, QuantizedConvGradWeight
from toolkit.ops.quantized_conv_codes import QuantizedConvCodes, QuantizedConvRequantized
from toolkit.ops.signs import pack_signs


def one_node(op: Op, inputs: Sequence[Array | None]) -> tuple[Graph, dict[str, Array]]:
    """A graph of one node, scalars in memory, and its inputs by name."""
    builder = GraphBuilder("one")
    given = {f"in{i}": x for i, x in enumerate(inputs) if x is not None}
    for name, value in given.items():
        builder.input(name, TensorType(value.shape, str(value.dtype)))
    names = [f"in{i}" if x is not None else None for i, x in enumerate(inputs)]
    builder.outputs = list(builder.apply(op, *names, name="node"))
    return builder.finish(), given


def assert_parity(op: Op, inputs: Sequence[Array | None]) -> None:
    """Reference and C give the same bits, with the kernels of a PC and with those of a small core, fused and not."""
    graph, values = one_node(op, inputs)
    for fma in (True, False):
        expected = run_nodes(graph, dict(values), fma)
        for small_core in (None, 0):
            function = lower_function("infer", graph, Memory(frozenset(), frozenset()), with_outputs=False)
            runner = StepRunner(function, values, fma, small_core)
            assert runner.run() == "ET_OK"
            for name in graph.outputs:
                assert_same_bits(runner.result(name), expected[name], f"{op} fma={fma} small core={small_core}")


class Layer:
    """A random convolution: its attributes, and codes of everything around it."""

    def __init__(self, draw: st.DrawFn, dtype: str) -> None:
        self.random = np.random.default_rng(draw(st.integers(0, 10**6)))
        self.dtype = dtype
        axes = draw(st.integers(1, 2))
        self.groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
        self.inside = draw(st.sampled_from([1, 2, 3, 4, 5, 8, 17])) if self.groups == 1 else draw(st.integers(1, 4))
        self.outside = draw(st.integers(1, 20)) if self.groups == 1 else draw(st.integers(1, 5))
        self.batch = draw(st.integers(1, 3))
        self.kernel = tuple(draw(st.integers(1, 3)) for _ in range(axes))
        self.strides = tuple(draw(st.integers(1, 3)) for _ in range(axes))
        self.dilations = tuple(draw(st.integers(1, 2)) for _ in range(axes))
        self.before = tuple(draw(st.integers(0, 2)) for _ in range(axes))
        self.after = tuple(draw(st.integers(0, 2)) for _ in range(axes))
        spans = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        self.sizes = tuple(draw(st.integers(max(1, span - b - a), 8))
                           for span, b, a in zip(spans, self.before, self.after, strict=True))  # fmt: skip
        self.largest = draw(st.sampled_from([1, 3, 127] if dtype == "int8" else [255, 3000, 32767]))

    @property
    def attributes(self) -> tuple[Any, ...]:
        return self.strides, self.dilations, self.before, self.after, self.groups

    def limits(self) -> dict[str, int]:
        return {"largest_x": self.largest, "largest_w": self.largest, "largest_g": self.largest}

    def codes(self, *shape: int) -> Array:
        return self.random.integers(-self.largest, self.largest + 1, shape).astype(self.dtype)

    def reals(self, *shape: int) -> Array:
        return np.asarray(self.random.standard_normal(shape), np.float32)

    def x(self) -> Array:
        return self.codes(self.batch, *self.sizes, self.inside * self.groups)

    def w(self) -> Array:
        return self.codes(*self.kernel, self.inside, self.outside * self.groups)

    def g(self) -> Array:
        outputs = QuantizedConv(*self.attributes).output_sizes(self.sizes, self.kernel)
        return self.codes(self.batch, *outputs, self.outside * self.groups)


@st.composite
def layers(draw: st.DrawFn, dtypes: Sequence[str] = ("int8", "int16")) -> Layer:
    return Layer(draw, draw(st.sampled_from(dtypes)))


@settings(max_examples=40)
@given(layer=layers(), per_channel=st.booleans(), bias=st.booleans(), start=st.booleans())
def test_sums_and_scales_are_the_same_to_the_bit(layer: Layer, per_channel: bool, bias: bool, start: bool) -> None:
    outputs = layer.outside * layer.groups
    zero = int(layer.random.integers(-layer.largest, layer.largest + 1))
    w_scale = layer.reals(outputs) if per_channel else layer.reals()
    more = layer.random.integers(-1000, 1000, outputs).astype(np.int32) if start else None
    op = QuantizedConv(*layer.attributes, **layer.limits(), x_zero=zero)
    values = [layer.x(), layer.w(), layer.reals(), w_scale, layer.reals(outputs) if bias else None, more]
    assert_parity(op, values if start else values[: 5 if bias else 4])


@settings(max_examples=15)
@given(layer=layers(["int8", "int16"]))
def test_packed_signs_are_weights_like_others(layer: Layer) -> None:
    signs = layer.w() >= 0
    packed = QuantizedConv(*layer.attributes, layer.kernel, layer.inside, **layer.limits())
    plain = QuantizedConv(*layer.attributes, **layer.limits())
    x, scales = layer.x(), [layer.reals(), layer.reals()]
    bits = pack_signs(signs)
    assert_parity(packed, [x, bits, *scales])
    graph, values = one_node(packed, [x, bits, *scales])
    other, same = one_node(plain, [x, (2 * signs - 1).astype(layer.dtype), *scales])
    found, expected = run_nodes(graph, values)[graph.outputs[0]], run_nodes(other, same)[other.outputs[0]]
    assert_same_bits(found, expected)


@settings(max_examples=40)
@given(layer=layers(), per_sample=st.booleans())
def test_data_gradient_is_the_same_to_the_bit(layer: Layer, per_sample: bool) -> None:
    op = QuantizedConvGradInput(*layer.attributes, **layer.limits(), sizes=layer.sizes)
    scale = layer.reals(layer.batch) if per_sample else layer.reals()
    assert_parity(op, [layer.g(), layer.w(), scale, layer.reals()])


@settings(max_examples=20)
@given(layer=layers(), inside=st.integers(1, 70))
def test_data_gradient_through_packed_signs_is_the_same_to_the_bit(layer: Layer, inside: int) -> None:
    layer.inside = inside
    packed = QuantizedConvGradInput(
        *layer.attributes, layer.kernel, layer.inside, **layer.limits(), sizes=layer.sizes
    )
    plain = QuantizedConvGradInput(*layer.attributes, **layer.limits(), sizes=layer.sizes)
    signs, g, scales = layer.w() >= 0, layer.g(), [layer.reals(layer.batch), layer.reals()]
    assert_parity(packed, [g, pack_signs(signs), *scales])
    graph, values = one_node(packed, [g, pack_signs(signs), *scales])
    other, same = one_node(plain, [g, (2 * signs - 1).astype(layer.dtype), *scales])
    assert_same_bits(run_nodes(graph, values)[graph.outputs[0]], run_nodes(other, same)[other.outputs[0]])


@settings(max_examples=40)
@given(layer=layers(), per_sample=st.booleans())
def test_weight_gradient_is_the_same_to_the_bit(layer: Layer, per_sample: bool) -> None:
    op = QuantizedConvGradWeight(*layer.attributes, kernel=layer.kernel, **layer.limits())
    scale = layer.reals(layer.batch) if per_sample else layer.reals()
    assert_parity(op, [layer.x(), layer.g(), layer.reals(), scale])


@settings(max_examples=25)
@given(layer=layers(["int8"]), levels=st.integers(1, 15), zero=st.integers(-5, 5))
def test_codes_by_thresholds_are_the_same(layer: Layer, levels: int, zero: int) -> None:
    outputs = layer.outside * layer.groups
    spread = layer.largest**2 * 9 * layer.inside
    thresholds = np.sort(layer.random.integers(-spread, spread + 1, (outputs, levels)), axis=1).astype(np.int32)
    direction = layer.random.choice(np.array([-1, 1], np.int8), outputs)
    op = QuantizedConvCodes(*layer.attributes, **layer.limits(), x_zero=zero)
    assert_parity(op, [layer.x(), layer.w(), thresholds, direction])


@settings(max_examples=25)
@given(layer=layers(["int8"]), low=st.integers(-128, 0), high=st.integers(0, 127), zero=st.integers(-128, 127))
def test_requantized_codes_are_the_same(layer: Layer, low: int, high: int, zero: int) -> None:
    outputs = layer.outside * layer.groups
    start = layer.random.integers(-(2**20), 2**20, outputs).astype(np.int32)
    multiplier = layer.random.integers(-(2**31), 2**31, outputs).astype(np.int32)
    shift = layer.random.integers(1, 63, outputs).astype(np.int8)
    op = QuantizedConvRequantized(*layer.attributes, **layer.limits(), x_zero=3, zero=zero, low=low, high=high)
    assert_parity(op, [layer.x(), layer.w(), start, multiplier, shift])


@settings(max_examples=15)
@given(layer=layers(["int8"]), lowest=st.integers(31, 53), trailing=st.integers(0, 24), zero=st.integers(-128, 127))
def test_requantized_codes_are_the_same_by_high_halves(layer: Layer, lowest: int, trailing: int, zero: int) -> None:
    """Shifts as trained layers have them, where a small core needs half of each product, unless ties are possible."""
    outputs = layer.outside * layer.groups
    start = layer.random.integers(-(2**20), 2**20, outputs).astype(np.int32)
    multiplier = (layer.random.integers(-(2**31), 2**31, outputs) >> trailing << trailing).astype(np.int32)
    shift = (lowest + layer.random.integers(0, 2, outputs)).astype(np.int8)
    op = QuantizedConvRequantized(*layer.attributes, **layer.limits(), x_zero=-9, zero=zero, low=-100, high=127)
    assert_parity(op, [layer.x(), layer.w(), start, multiplier, shift])


@pytest.mark.parametrize(
    ("sizes", "stride", "before", "after"),
    [
        ((130, 3), 1, (1, 1), (1, 1)), ((3, 7), 2, (2, 3), (0, 2)),
        ((1, 9), 3, (1, 0), (2, 1)),
        ((63, 4), 1, (0, 5), (1, 5)),
    ],
)
def test_depthwise_columns_are_the_same(
    sizes: tuple[int, int], stride: int, before: tuple[int, int], after: tuple[int, int]
) -> None:
    """Taller than what is summed at once, and with windows that lie on padding in part or as a whole."""
    random = np.random.default_rng(0)
    x = random.integers(-128, 128, (2, *sizes, 5)).astype(np.int8)
    w = random.integers(-127, 128, (3, 3, 1, 5)).astype(np.int8)
    op = QuantizedConvRequantized((1, stride), (1, 1), before, after, 5, x_zero=-7, zero=3)
    multiplier = random.integers(2**30, 2**31, 5).astype(np.int32)
    assert_parity(op, [x, w, random.integers(-99, 99, 5).astype(np.int32), multiplier, np.full(5, 39, np.int8)])


@settings(max_examples=25)
@given(
    groups=st.integers(1, 9), channels=st.sampled_from([1, 1, 1, 2, 3]), outputs=st.sampled_from([1, 1, 2, 3, 7]),
    kernel=st.tuples(*[st.integers(1, 11)] * 2), strides=st.tuples(*[st.integers(1, 3)] * 2),
    dilations=st.tuples(*[st.integers(1, 3)] * 2), pads=st.tuples(*[st.integers(0, 5)] * 4),
    more=st.tuples(*[st.sampled_from([0, 1, 2, 5, 9, 80])] * 2), seed=st.integers(0, 99),
)  # fmt: skip
def test_groups_of_few_channels_are_the_same(
    groups: int, channels: int, outputs: int, kernel: tuple[int, int], strides: tuple[int, int],
    dilations: tuple[int, int], pads: tuple[int, int, int, int], more: tuple[int, int], seed: int,
) -> None:  # fmt: skip
    """Where four outputs of a line are summed at a time: any kernel and padding, in one block of lines or several."""
    random = np.random.default_rng(seed)
    before, after = pads[:2], pads[2:]
    sizes = [max(d * (k - 1) + 1 - b - a, 1) + m
             for k, d, b, a, m in zip(kernel, dilations, before, after, more, strict=True)]  # fmt: skip
    x = random.integers(-128, 128, (2, *sizes, groups * channels)).astype(np.int8)
    w = random.integers(-127, 128, (*kernel, channels, groups * outputs)).astype(np.int8)
    op = QuantizedConvRequantized(strides, dilations, before, after, groups, x_zero=-7, zero=3)
    multiplier = random.integers(2**30, 2**31, w.shape[-1]).astype(np.int32)
    start = random.integers(-99, 99, w.shape[-1]).astype(np.int32)
    assert_parity(op, [x, w, start, multiplier, np.full(w.shape[-1], 43, np.int8)])


@settings(max_examples=15)
@given(
    groups=st.integers(1, 3), channels=st.integers(1, 9), outputs=st.integers(1, 11), seed=st.integers(0, 99),
    sizes=st.tuples(*[st.integers(1, 5)] * 2),
)  # fmt: skip
def test_pointwise_layers_are_the_same(
    groups: int, channels: int, outputs: int, seed: int, sizes: tuple[int, int]
) -> None:
    random = np.random.default_rng(seed)
    x = random.integers(-128, 128, (2, *sizes, groups * channels)).astype(np.int8)
    w = random.integers(-127, 128, (1, 1, channels, groups * outputs)).astype(np.int8)
    op = QuantizedConvRequantized((1, 1), (1, 1), (0, 0), (0, 0), groups, x_zero=-7, zero=3)
    multiplier = random.integers(2**30, 2**31, w.shape[-1]).astype(np.int32)
    start = random.integers(-99, 99, w.shape[-1]).astype(np.int32)
    assert_parity(op, [x, w, start, multiplier, np.full(w.shape[-1], 39, np.int8)])


PAIRS = st.tuples(*[st.integers(1, 3)] * 2)
PADS = st.tuples(*[st.integers(0, 5)] * 2)


@settings(max_examples=30)
@given(
    groups=st.sampled_from([1, 1, 2, 3]), outputs=st.integers(1, 3), strides=PAIRS, dilations=PAIRS, before=PADS,
    after=PADS, more=st.tuples(*[st.integers(0, 9)] * 2), seed=st.integers(0, 99),
)  # fmt: skip
def test_filters_of_three_slide(
    groups: int, outputs: int, strides: tuple[int, int], dilations: tuple[int, int], before: tuple[int, int],
    after: tuple[int, int], more: tuple[int, int], seed: int,
) -> None:  # fmt: skip
    """3x3 with one channel a group, down columns or along rows, with padding before, behind and around all windows."""
    random = np.random.default_rng(seed)
    sizes = [max(2 * d + 1 - b - a, 1) + m for d, b, a, m in zip(dilations, before, after, more, strict=True)]
    x = random.integers(-128, 128, (2, *sizes, groups)).astype(np.int8)
    w = random.integers(-127, 128, (3, 3, 1, groups * outputs)).astype(np.int8)
    op = QuantizedConvRequantized(strides, dilations, before, after, groups, x_zero=-7, zero=3, low=-90)
    multiplier = random.integers(2**30, 2**31, w.shape[-1]).astype(np.int32)
    start = random.integers(-99, 99, w.shape[-1]).astype(np.int32)
    assert_parity(op, [x, w, start, multiplier, np.full(w.shape[-1], 41, np.int8)])


def test_requantizing_rounds_ties_to_even() -> None:
    x = np.array([[[[n]] for n in (-7, -6, -5, -3, -2, -1, 1, 2, 3, 5, 6, 7)]], np.int8)
    op = QuantizedConvRequantized((1, 1), (1, 1), (0, 0), (0, 0))
    arguments = [np.ones((1, 1, 1, 1), np.int8), np.zeros(1, np.int32), np.ones(1, np.int32), np.full(1, 2, np.int8)]
    graph, values = one_node(op, [x, *arguments])
    y = run_nodes(graph, values)[graph.outputs[0]]
    assert y.reshape(-1).tolist() == np.rint(x.reshape(-1) / 4).tolist()
    assert_parity(op, [x, *arguments])


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), zero=st.integers(-128, 127), scale=st.floats(0.01, 3))
def test_affine_codes_are_the_same(seed: int, zero: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    x = np.concatenate([random.standard_normal(50) * 100, [0, -0.0, np.inf, -np.inf, np.nan, 0.5, 1.5, 3e38]])
    single = float(np.float32(1 / np.float32(scale)))
    assert_parity(AffineQuantize(single, zero), [x.astype(np.float32)])


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_are_those_of_the_values(stride: int) -> None:
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(stride)
    x, w, g = (random.integers(-9, 10, s).astype(np.int8) for s in ((2, 7, 6, 4), (3, 3, 4, 5), (2, 7, 6, 5)))
    g = g[:, ::stride, ::stride]
    attributes = ((stride,) * 2, (1, 1), (1, 1), (1, 1))
    x_scale, w_scale, g_scale = (np.float32(s) for s in (0.5, 0.25, 0.125))
    values = torch.from_numpy((x * x_scale).transpose(0, 3, 1, 2).astype(np.float64)).requires_grad_()
    weights = torch.from_numpy((w * w_scale).transpose(3, 2, 0, 1).astype(np.float64)).requires_grad_()
    y = torch.nn.functional.conv2d(values, weights, stride=stride, padding=1)
    y.backward(torch.from_numpy((g * g_scale).transpose(0, 3, 1, 2).astype(np.float64)))
    sx, sw, sg = (np.asarray(s) for s in (x_scale, w_scale, g_scale))
    into = QuantizedConvGradInput(*attributes, sizes=(7, 6))
    of_weights = QuantizedConvGradWeight(*attributes, kernel=(3, 3))
    for op, inputs, expected in (
        (QuantizedConv(*attributes), [x, w, sx, sw], y.detach().permute(0, 2, 3, 1)),
        (into, [g, w, sg, sw], values.grad.permute(0, 2, 3, 1)),
        (of_weights, [x, g, sx, sg], weights.grad.permute(2, 3, 1, 0)),
    ):
        graph, given_values = one_node(op, inputs)
        np.testing.assert_array_equal(run_nodes(graph, given_values)[graph.outputs[0]], expected.numpy())


def test_a_sum_that_needs_more_than_32_bits_has_them() -> None:
    x = np.full((1, 1, 1, 40), 32767, np.int16)
    op = QuantizedConv((1, 1), (1, 1), (0, 0), (0, 0), largest_x=32767, largest_w=32767)
    assert_parity(op, [x, x.reshape(1, 1, 40, 1), np.float32(1).reshape(()), np.float32(1).reshape(())])


def test_multiply_accumulates_are_counted() -> None:
    x, w = TensorType((2, 14, 14, 16), "int8"), TensorType((3, 3, 16, 32), "int8")
    assert QuantizedConv((1, 1), (1, 1), (1, 1), (1, 1)).macs(x, w) == 2 * 14 * 14 * 9 * 16 * 32


@pytest.mark.parametrize(("of_x", "of_g"), [(3, 63), (1, 1), (3, 127), (0, 5)])
def test_weight_gradients_of_few_bits_are_the_same(of_x: int, of_g: int) -> None:
    # Large enough for two codes in a word, and for sums that are split before they leave 16 bits.
    random = np.random.default_rng(of_g)
    x = random.choice(np.array([of_x, of_x, -of_x, 0], np.int8), (2, 14, 14, 5))
    g = random.choice(np.array([of_g, -of_g, of_g, of_g], np.int8), (2, 14, 14, 11))
    for scale in (np.ones((), np.float32), np.array([0.5, 3], np.float32)):
        op = QuantizedConvGradWeight((1, 1), (1, 1), (1, 1), (1, 1), kernel=(3, 3))
        assert_parity(op, [x, g, np.ones((), np.float32), scale])
