"""The method dorefa: where quantizers stand, what trains, what is wrong on the command line."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.errors import UserError
from toolkit.ir import Graph
from toolkit.ops.decode_codes import DecodeCodes, DecodeSigns, QuantizeGradient
from toolkit.ops.dorefa_activations import DorefaActivations
from toolkit.ops.max_pool import MaxPool
from toolkit.ops.quantized_conv import QuantizedConv
from toolkit.ops.relu import Relu
from toolkit.pipeline import Options, compile_model, load
from toolkit.quant import Context, parse_plan, quantize
from toolkit.sim.parity import verify_bits
from toolkit.train.schemes import select


def quantized(model: str, method: str, train: str = "all") -> Graph:
    """A zoo model with a method applied."""
    graph = load(model, Options())
    return quantize(graph, parse_plan(method), Context(set(select(graph, train))))


def ops(graph: Graph, kind: type) -> list[str]:
    """The names of the nodes of a kind."""
    return [node.name for node in graph.nodes if isinstance(node.op, kind)]


def test_codes_are_pooled_between_quantized_layers() -> None:
    graph = quantized("lenet", "dorefa:w1a2g6")
    assert ops(graph, DorefaActivations) == ["/relu1", "/relu2", "/relu3"] and ops(graph, Relu) == ["/relu4"]
    assert ops(graph, QuantizedConv) == ["/conv2", "/fc1", "/fc2"]
    pooled = [graph.type(node.outputs[0]).dtype for node in graph.nodes if isinstance(node.op, MaxPool)]
    assert pooled == ["int8", "int8"]


@pytest.mark.parametrize(
    ("method", "train", "dtype"),
    [("w2a4g8", "all", "int16"), ("w2a4g8", "none", "int8"), ("w1a8g6", "none", "int16"), ("w7a7g7", "all", "int8")],
)
def test_codes_are_as_narrow_as_the_widest_operand_allows(method: str, train: str, dtype: str) -> None:
    graph = quantized("lenet", f"dorefa:{method}", train)
    assert graph.type("relu1.out").dtype == dtype


def test_all_quantizes_the_ends() -> None:
    graph = quantized("lenet", "dorefa:w1a2g6,all")
    assert len(ops(graph, QuantizedConv)) == 5 and not ops(graph, Relu)


def test_a_tensor_that_others_read_stays_float() -> None:
    """Shortcuts of residual blocks add real values: quantizers stand in front of the layers."""
    graph = quantized("small-resnet", "dorefa:w1a2g6")
    for node in graph.nodes:
        if isinstance(node.op, QuantizedConv):
            assert graph.type(node.inputs[0] or "").dtype == "int8"
    assert ops(graph, Relu)
    assert graph.type(graph.outputs[0]).dtype == "float32"


@pytest.mark.parametrize(
    ("method", "signs", "codes", "gradients"),
    [("w1a32g32", 3, 0, 0), ("w32a2g6", 0, 3, 3), ("w4a4g32", 0, 6, 0), ("w1a32g6", 3, 0, 3)],
)
def test_a_layer_with_a_real_operand_computes_in_float(method: str, signs: int, codes: int, gradients: int) -> None:
    graph = quantized("lenet", f"dorefa:{method}")
    assert not ops(graph, QuantizedConv)
    assert len(ops(graph, DecodeSigns)) == signs
    assert len(ops(graph, DecodeCodes)) == codes
    assert len(ops(graph, QuantizeGradient)) == gradients


def test_without_training_the_gradients_do_not_matter() -> None:
    assert len(ops(quantized("lenet", "dorefa:w1a2g32", "none"), QuantizedConv)) == 3


def test_both_forms_of_a_layer_give_the_same_values() -> None:
    """Sums of codes, scaled, against float32 sums of the values that the codes stand for."""
    from tests.support import run_nodes

    x = np.random.default_rng(1).standard_normal((1, 28, 28, 1), np.float32)
    outputs = []
    for method in ("dorefa:w2a4g6", "dorefa:w2a4g32"):
        graph = quantized("lenet", method)
        outputs.append(run_nodes(graph, {graph.inputs[0]: x})[graph.outputs[0]])
    assert np.allclose(outputs[0], outputs[1], atol=1e-4)


@pytest.mark.parametrize("text", [
    "w1a2", "w0a2g6", "w9a2g6", "w1a16g6", "w1a2g64", "a2", "w1a2g6,w1a2g6", "w1a2g6,x",
    "w2a2g6,master=int16", "w1a8g6,master=int16", "w1a2g32,master=int16", "w1a2g6,master=int8", "w1a2g6,mister=int16",
])  # fmt: skip
def test_bits_that_make_no_sense_are_an_error(text: str) -> None:
    with pytest.raises(UserError):
        parse_plan(f"dorefa:{text}")


@pytest.mark.parametrize("method", ["w1a32g32", "w4a4g32", "w32a2g8", "w8a32g1"])
def test_layers_with_a_real_operand_train_the_same_to_the_bit(method: str) -> None:
    options = Options("all", quant=parse_plan(f"dorefa:{method},all"), batch=2)
    report = verify_bits(compile_model("digits-cnn", options), ["reference", "host"], steps=2)
    assert report.differing_bits == 0, report.first_difference
