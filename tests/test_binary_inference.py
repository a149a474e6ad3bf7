"""Binary networks in inference, on integers from end to end: the same bits in C, and close to the float network."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import assert_parity, floats, floats_with_special, run_nodes, shapes
from toolkit.ir import Array, Graph, Interface, TensorType
from toolkit.ops.add import Add
from toolkit.ops.base import Op
from toolkit.ops.binarize_activations import BinarizeActivations
from toolkit.ops.binary_conv import BinaryConv, PackedBinaryConv
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.mul import Mul
from toolkit.ops.power_prelu import PowerPRelu
from toolkit.ops.signs import pack_signs
from toolkit.ops.stream import RealFromStream, StreamAveragePool, StreamFromReal, StreamSigns
from toolkit.ops.stream_block import StreamBlock, StreamProjection
from toolkit.ops.to_real import ToReal
from toolkit.pipeline import Options, compile_model
from toolkit.quant import parse_plan
from toolkit.quant.ab_inference import integer_inference, scaling, thresholds
from toolkit.sim.backend import open_backend
from toolkit.sim.parity import verify_bits


def codes(seed: int, *shape: int, largest: int = 8000) -> Array:
    """Codes of a stream."""
    return np.random.default_rng(seed).integers(-largest, largest + 1, shape).astype(np.int16)


@given(shapes(), st.integers(0, 12), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_ends_of_a_stream_are_the_same_to_the_bit(shape: tuple[int, ...], fraction: int, seed: int) -> None:
    x = floats_with_special(seed, *shape)
    assert_parity(StreamFromReal(fraction), [x])
    assert_parity(StreamFromReal(fraction, 100), [x])
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
        StreamProjection(strict, right, 1 + seed * 300), [codes(seed, rows, channels), signs, factors.astype(np.int16)]
    )


# ---- a network


SHAPE, PRODUCTS = (1, 5, 6, 16), 9 * 16


def block(seed: int, strict: bool, shortcut: bool, bent: bool, spread: float = 0.02) -> Graph:
    """One block of A&B BNN as the method leaves it; its output is the graph's."""
    random, builder = np.random.default_rng(seed), GraphBuilder("block")
    x = builder.input("x", TensorType(SHAPE))

    def then(op: Op, *vectors: Array | str) -> str:
        number = len(builder.nodes)
        names = [v if isinstance(v, str) else builder.constant(f"c{number}.{i}", v) for i, v in enumerate(vectors)]
        return builder.apply(op, *names)[0]

    def vector(scale: float) -> Array:
        return (random.standard_normal(16) * scale).astype(np.float32)

    scale = np.exp2(random.integers(-6, -3, 16)).astype(np.float32) if strict else np.abs(vector(spread)) + spread
    value = then(BinarizeActivations(0.97), x, vector(0.5))
    window = ((1, 1), (1, 1), (1, 1), (1, 1))
    signs = np.packbits(random.random((16, 9, 16)) < 0.5, axis=-1, bitorder="little")
    value = then(ToReal(), then(BinaryConv(*window, kernel=(3, 3), channels=16), value, signs))
    value = then(Mul(), value, scale)
    value = then(Add(), value, x) if shortcut else value
    value = then(Add(), value, vector(1.0))
    if bent:
        value = then(Add(), then(PowerPRelu(), value, vector(1.0) - np.float32(2)), vector(1.0))
    builder.outputs = [value]
    for name in (x, value):
        builder.interface[name] = Interface(name, builder.type(name).shape, (0, 1, 2, 3))
    return builder.finish()


def output(graph: Graph, x: Array) -> Array:
    """What the reference gives."""
    return run_nodes(graph, {"x": x})[graph.outputs[0]]


@given(st.booleans(), st.booleans(), st.booleans(), st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_a_block_on_integers_is_within_a_few_codes_of_floats(
    strict: bool, shortcut: bool, bent: bool, seed: int
) -> None:
    """Each rounding is off by one code at most: scale, b1, slope, b2; factors of 15 bits add another."""
    graph = block(seed, strict, shortcut, bent)
    integers = integer_inference(graph)
    fraction = next(node.op.fraction for node in integers.nodes if isinstance(node.op, RealFromStream))
    x = codes(seed, *SHAPE, largest=4 << fraction).astype(np.float32) * np.float32(2.0**-fraction)
    found = [type(node.op) for node in integers.nodes]
    assert StreamBlock in found and (StreamSigns if shortcut else BinarizeActivations) in found
    assert {node.op.strict for node in integers.nodes if isinstance(node.op, StreamBlock)} == {strict}
    difference = np.abs(output(graph, x).astype(np.float64) - output(integers, x)).max()
    assert difference <= 4 * 2.0**-fraction


@given(st.floats(0.1, 4), st.integers(4, 12), st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_signs_need_no_scale(beta: float, fraction: int, seed: int) -> None:
    """Mask layer removal: beta * x + b0 >= 0 where x >= -b0 / beta."""
    shift = floats(seed, 7)
    x = codes(seed + 1, 50, 7, largest=2 << fraction)
    real = x.astype(np.float64) * 2.0**-fraction
    assert np.array_equal(x >= thresholds(shift, beta, fraction), real * beta + shift >= 0)


@pytest.mark.parametrize("strict", [False, True])
def test_a_block_that_fits_no_integers_stays_real(strict: bool) -> None:
    graph = block(1, False, True, True, spread=1e4)
    kept = [type(node.op) for node in integer_inference(graph).nodes]
    assert StreamBlock not in kept and PackedBinaryConv in kept and Mul in kept
    x = floats(3, *SHAPE)
    assert np.array_equal(output(integer_inference(graph), x), output(graph, x))
    huge = np.full(4, 2.0**40, np.float32)
    assert scaling(huge if strict else huge * np.float32(1.5), 8, PRODUCTS) is None
    assert scaling(np.full(4, np.nan, np.float32), 8, PRODUCTS) is None


def test_a_graph_without_binary_layers_is_left_alone() -> None:
    graph = compile_model("digits-cnn", Options()).model
    assert integer_inference(graph) is graph


@pytest.mark.parametrize("method", ["ab-bnn", "ab-bnn:strict"])
@pytest.mark.parametrize("model", ["ab-net", "lenet", "small-resnet"])
def test_networks_on_integers_are_the_same_to_the_bit_on_host(model: str, method: str) -> None:
    report = verify_bits(compile_model(model, Options(quant=parse_plan(method))), ["reference", "host"], steps=2)
    assert report.compared_bits > 0 and report.differing_bits == 0, report.first_difference


@pytest.mark.parametrize("method", ["ab-bnn", "ab-bnn:strict"])
def test_a_network_on_integers_is_close_to_the_same_network_in_floats(method: str) -> None:
    """Outputs differ by a tenth of their spread on average: a value near a threshold may turn a sign."""
    x = floats(5, 16, 28, 28, 1, scale=1.0)
    results = []
    for scheme in ("none", "all"):  # what trains stays real
        with open_backend(compile_model("ab-net", Options(scheme, batch=16, quant=parse_plan(method))), "host") as host:
            results.append(host.infer([x])[0])
    integers, real = results
    assert np.mean(np.abs(integers - real)) <= 0.1 * np.std(real)
    assert not np.array_equal(integers, real)
