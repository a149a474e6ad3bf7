"""Chains from sums to codes as integer thresholds: the codes are those of the chain, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import floats, run_nodes
from toolkit.ir import Graph, TensorType
from toolkit.ops.batch_normalization import BatchNormalization
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.dorefa_activations import DorefaActivations, levels
from toolkit.ops.quantized_conv import QuantizedConv
from toolkit.ops.quantized_conv_codes import QuantizedConvCodes
from toolkit.ops.reshape import Reshape
from toolkit.pipeline import Options, compile_model, load
from toolkit.quant import Context, parse_plan, quantize
from toolkit.quant.constants import fold_constants
from toolkit.quant.thresholds import collapse_to_thresholds
from toolkit.sim.parity import verify_bits


def codes_of(graph: Graph) -> list[str]:
    """The names of the layers that give codes."""
    return [node.name for node in graph.nodes if isinstance(node.op, QuantizedConvCodes)]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999), bits=st.integers(1, 5), w_largest=st.sampled_from([1, 3, 127]), norm=st.booleans(),
    bias=st.booleans(), dense=st.booleans(), spread=st.sampled_from([0.0, 0.01, 1.0, 100.0]), fma=st.booleans(),
)  # fmt: skip
def test_thresholds_give_the_codes_of_the_chain(
    seed: int, bits: int, w_largest: int, norm: bool, bias: bool, dense: bool, spread: float, fma: bool
) -> None:
    random, channels = np.random.default_rng(seed), 5
    builder = GraphBuilder("chain")
    size, kernel = ((1, 1), (1, 1)) if dense else ((6, 7), (3, 3))
    x = builder.input("x", TensorType((2, *size, 9)))
    codes = builder.apply(DorefaActivations(bits), x)[0]
    w = builder.constant("w", random.integers(-w_largest, w_largest + 1, (*kernel, 9, channels)).astype(np.int8))
    scales = [builder.constant("x_scale", np.float32(1 / levels(bits)) * np.ones(()).astype(np.float32))]
    w_scale = floats(seed, channels, scale=0.3) if seed % 2 else np.array(-0.02, np.float32)
    scales.append(builder.constant("w_scale", w_scale))
    more = [builder.constant("bias", floats(seed + 1, channels))] if bias else []
    pad = (0, 0) if dense else (1, 1)
    op = QuantizedConv((1, 1), (1, 1), pad, pad, largest_x=levels(bits), largest_w=w_largest)
    y = builder.apply(op, codes, w, *scales, *more, name="layer")[0]
    if dense:
        y = builder.apply(Reshape((2, channels)), y)[0]
    if norm:
        vectors = [floats(seed + 2 + i, channels, scale=spread) for i in range(3)] + [random.random(channels)]
        vectors[0][0] = 0  # one channel is the same everywhere
        names = [builder.constant(f"v{i}", v.astype(np.float32)) for i, v in enumerate(vectors)]
        y = builder.apply(BatchNormalization(), y, *names)[0]
    builder.outputs = [builder.apply(DorefaActivations(bits), y, outputs=("y",))[0]]
    graph = builder.finish()
    collapsed = collapse_to_thresholds(graph, frozenset(), fma)
    assert codes_of(collapsed) == ["layer"] and len(collapsed.nodes) == 2 + dense
    values = {"x": random.random((2, *size, 9)).astype(np.float32)}
    assert np.array_equal(run_nodes(graph, values, fma)["y"], run_nodes(collapsed, values, fma)["y"])


@pytest.mark.parametrize("method", ["w1a2g6", "w2a4g8", "w7a5g1", "w1a1g6,all"])
def test_networks_give_the_same_with_thresholds(method: str) -> None:
    for model, layers in (("mnist-cnn", ["/conv2"]), ("lenet", ["/conv2", "/fc1"]), ("small-resnet", ["/conv2"])):
        graph = load(model, Options())
        for name, value in graph.data.items():
            if name.startswith("bn"):
                graph.data[name] = np.abs(floats(1, *value.shape)) if "var" in name else floats(2, *value.shape)
        graph = fold_constants(quantize(graph, parse_plan(f"dorefa:{method}"), Context()), frozenset(), True)
        collapsed = collapse_to_thresholds(graph, frozenset(), True)
        assert set(layers) <= set(codes_of(collapsed))
        x = {graph.inputs[0]: floats(3, *graph.type(graph.inputs[0]).shape)}
        whole, short = run_nodes(graph, x), run_nodes(collapsed, x)
        assert np.array_equal(whole[graph.outputs[0]], short[graph.outputs[0]])


def test_what_is_trained_keeps_its_values() -> None:
    graph = quantize(load("lenet", Options()), parse_plan("dorefa:w1a2g6"), Context())
    graph = fold_constants(graph, frozenset({"fc1.weight"}), True)
    assert codes_of(collapse_to_thresholds(graph, frozenset({"fc1.weight"}), True)) == ["/conv2"]
    assert codes_of(collapse_to_thresholds(graph, frozenset({"conv1.bias"}), True)) == []


@pytest.mark.parametrize("method", ["w1a2g6", "w2a4g8"])
def test_inference_with_thresholds_is_the_same_to_the_bit_on_host(method: str) -> None:
    compiled = compile_model("mnist-cnn", Options(quant=parse_plan(f"dorefa:{method}")))
    assert codes_of(compiled.model) == ["/conv2"]
    report = verify_bits(compiled, ["reference", "host"], steps=2)
    assert report.differing_bits == 0, report.first_difference
