"""Conv, Gemm and MatMul nodes as ONNX writes them: what they become, and that they compute what ONNX says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import UserError
from toolkit.frontend.load import load_model
from toolkit.ir import Array, Graph, Kind, verify
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.dense import Dense
from toolkit.ops.fuse_bias import fuse_bias
from toolkit.sim.reference import run_graph


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def model_of(nodes: list[Any], inputs: dict[str, tuple[int, ...]], weights: dict[str, Array], output: str = "y") -> Any:
    """An ONNX model; nodes are (op, inputs, output, attributes)."""
    from onnx import TensorProto, helper, numpy_helper, shape_inference

    graph = helper.make_graph(
        [helper.make_node(op, ins, [out], name=f"/{out}", **attributes) for op, ins, out, attributes in nodes],
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return shape_inference.infer_shapes(model)


def agrees(model: Any, graph: Graph, inputs: dict[str, Array]) -> bool:
    """Whether a graph gives what the reference evaluator of ONNX gives, to float32 accuracy."""
    from onnx.reference import ReferenceEvaluator

    (expected,) = ReferenceEvaluator(model).run(None, inputs)
    interface = graph.interface
    values = {name: interface[name].inward(inputs[name]) for name in graph.inputs}
    (output,) = graph.outputs
    found = interface[output].outward(run_graph(graph, values)[output])
    assert found.shape == expected.shape
    return bool(np.abs(found - expected).max() <= 1e-4 * max(1, np.abs(expected).max()))


def ops(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


@given(st.data())
def test_a_convolution_computes_what_onnx_says(data: st.DataObject) -> None:
    axes = data.draw(st.integers(1, 2))

    def per_axis(low: int, high: int, count: int = axes) -> list[int]:
        return data.draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    groups = data.draw(st.integers(1, 2))
    sizes, kernel, channels = per_axis(5, 9), per_axis(1, 3), data.draw(st.integers(1, 3)) * groups
    attributes: dict[str, Any] = {"strides": per_axis(1, 3), "group": groups}
    if data.draw(st.booleans()):
        attributes["kernel_shape"] = kernel
    way = data.draw(st.sampled_from(["pads", "VALID", "SAME_UPPER", "SAME_LOWER", "nothing"]))
    if way == "pads":
        attributes |= {"pads": per_axis(0, 2, 2 * axes), "dilations": per_axis(1, 2)}
    elif way != "nothing":
        attributes |= {"auto_pad": way, "kernel_shape": kernel}
    weights = {"w": normal(1, 2 * groups, channels // groups, *kernel)}
    if data.draw(st.booleans()):
        weights["b"] = normal(2, 2 * groups)
    x = normal(3, 2, channels, *sizes)
    model = model_of([("Conv", ["x", *weights], "y", attributes)], {"x": x.shape}, weights)
    graph = load_model(model, batch=2)
    assert "Conv" in ops(graph) and agrees(model, graph, {"x": x})


@given(st.data())
def test_gemm_computes_what_onnx_says(data: st.DataObject) -> None:
    m, k, n = (data.draw(st.integers(1, 5)) for _ in range(3))
    attributes = {
        "transA": data.draw(st.integers(0, 1)), "transB": data.draw(st.integers(0, 1)),
        "alpha": data.draw(st.sampled_from([1.0, 0.5, -3.0])), "beta": data.draw(st.sampled_from([1.0, 0.0, 2.5])),
    }
    a = normal(1, *((k, m) if attributes["transA"] else (m, k)))
    b = normal(2, *((n, k) if attributes["transB"] else (k, n)))
    shape = data.draw(st.sampled_from([None, (n,), (1, n), (1,), (), (m, n), (m, 1)]))
    c = {} if shape is None else {"c": normal(3, *shape) if shape else np.float32(0.7).reshape(())}
    computed = data.draw(st.sampled_from(["a", "ab", "abc", "ac"]))
    every = {"a": a, "b": b, **c}
    inputs = {name: value for name, value in every.items() if name in computed and value.ndim == 2}
    weights = {name: value for name, value in every.items() if name not in inputs}
    model = model_of([("Gemm", list(every), "y", attributes)], {k: v.shape for k, v in inputs.items()}, weights)
    graph = load_model(model, shapes={name: value.shape for name, value in inputs.items()})
    assert agrees(model, graph, inputs)
    assert ("Dense" in ops(graph)) == ("b" in weights)
    plain = attributes["alpha"] == attributes["beta"] == 1 and not attributes["transA"] and "c" in weights
    if plain and "b" in weights and shape in ((n,), (1, n)):
        assert ops(graph) == ["Dense"]


@given(st.data())
def test_matmul_computes_what_onnx_says(data: st.DataObject) -> None:
    k = data.draw(st.integers(1, 4))
    batch = data.draw(st.lists(st.integers(1, 3), max_size=3))
    shapes = []
    for rows_last in (False, True):
        own = [size if data.draw(st.booleans()) else 1 for size in batch[data.draw(st.integers(0, len(batch))) :]]
        other = data.draw(st.integers(1, 4))
        matrix = (k, other) if rows_last else (other, k)
        shapes.append((k,) if data.draw(st.booleans()) and not own else (*own, *matrix))
    a, b = normal(1, *shapes[0]), normal(2, *shapes[1])
    inputs = {"a": a} if data.draw(st.booleans()) else {"a": a, "b": b}
    weights = {} if "b" in inputs else {"b": b}
    model = model_of([("MatMul", ["a", "b"], "y", {})], {n: v.shape for n, v in inputs.items()}, weights)
    graph = load_model(model, shapes={name: value.shape for name, value in inputs.items()})
    assert agrees(model, graph, inputs)
    assert ("Dense" in ops(graph)) == (bool(weights) and b.ndim <= 2)


def test_an_activation_times_a_bank_of_matrices_needs_only_products_that_c_can_walk() -> None:
    shapes = {"a": (2, 1, 3, 4), "b": (1, 5, 4, 2)}
    model = model_of([("MatMul", ["a", "b"], "y", {})], shapes, {})
    graph = load_model(model, shapes=shapes)
    (node,) = [node for node in graph.nodes if node.op.name == "MatMul"]
    assert [graph.type(name or "").shape[:2] for name in node.inputs] == [(2, 5), (2, 5)]


def test_computed_weights_are_refused_with_the_reason() -> None:
    model = model_of([("Conv", ["x", "w"], "y", {})], {"x": (1, 2, 5, 5), "w": (3, 2, 2, 2)}, {})
    with pytest.raises(UserError, match="weights are computed"):
        load_model(model)


def test_trained_weights_find_their_place_in_the_onnx_file() -> None:
    x, weights = normal(1, 1, 2, 5, 5), {"w": normal(2, 4, 2, 3, 2), "f": normal(3, 7, 48), "b": normal(4, 1, 7)}
    nodes = [
        ("Conv", ["x", "w"], "c", {}), ("Flatten", ["c"], "flat", {}), ("Gemm", ["flat", "f", "b"], "y", {"transB": 1})
    ]
    graph = load_model(model_of(nodes, {"x": x.shape}, weights))
    for name in graph.parameters():
        origin = graph.origins[name]
        assert (graph.data[name] == weights[origin.name].reshape(-1)[origin.index]).all()


BIASES = [(4,), (1, 4), (1, 1, 4)]


@pytest.mark.parametrize("shape", BIASES)
@pytest.mark.parametrize("first", [False, True])
def test_a_product_and_an_addition_become_one_layer(shape: tuple[int, ...], first: bool) -> None:
    weights = {"w": normal(1, 3, 4), "b": normal(2, *shape)}
    nodes = [("MatMul", ["x", "w"], "m", {}), ("Add", ["b", "m"] if first else ["m", "b"], "y", {})]
    model = model_of(nodes, {"x": (2, 5, 3)}, weights)
    graph = verify(fuse_bias(load_model(model, batch=2)))
    assert "Add" not in ops(graph)
    (layer,) = [node for node in graph.nodes if isinstance(node.op, Dense)]
    bias = layer.inputs[2] or ""
    assert graph.type(bias).shape == (4,) and graph.kind(bias) is Kind.PARAMETER
    assert (weights["b"].reshape(-1)[graph.origins[bias].index] == graph.data[bias]).all()
    assert agrees(model, graph, {"x": normal(3, 2, 5, 3)})


def test_a_convolution_and_an_addition_per_channel_become_one_layer() -> None:
    weights = {"w": normal(1, 4, 2, 3, 3), "b": normal(2, 1, 4, 1, 1)}
    nodes = [("Conv", ["x", "w"], "c", {}), ("Add", ["c", "b"], "y", {})]
    model = model_of(nodes, {"x": (1, 2, 6, 6)}, weights)
    graph = verify(fuse_bias(load_model(model)))
    assert ops(graph).count("Conv") == 1 and "Add" not in ops(graph)
    (layer,) = [node for node in graph.nodes if node.op.name == "Conv"]
    origin = graph.origins[layer.inputs[2] or ""]
    assert origin.shape == (1, 4, 1, 1) and origin.index.tolist() == [0, 1, 2, 3]
    assert agrees(model, graph, {"x": normal(3, 1, 2, 6, 6)})


def _dense_and_add(**change: Any) -> Graph:
    builder = GraphBuilder("g")
    from toolkit.ir import TensorType
    from toolkit.ops.add import Add
    from toolkit.ops.relu import Relu

    x, w = builder.input("x", TensorType((2, 3))), builder.parameter("w", normal(1, 3, 4))
    bias = builder.parameter("b", normal(2, *change.get("shape", (4,))))
    first = builder.parameter("b0", normal(3, 4)) if "biased" in change else None
    (y,) = builder.apply(Dense(), x, w, *([first] if first else []))
    builder.outputs = list(builder.apply(Add(), y, bias))
    if "value read" in change:
        builder.outputs += builder.apply(Relu(), y)
    if "value returned" in change:
        builder.outputs.append(y)
    if "vector read" in change:
        builder.outputs += builder.apply(Relu(), bias)
    return builder.finish()


@pytest.mark.parametrize(
    "change",
    [{"biased": 1}, {"value read": 1}, {"value returned": 1}, {"vector read": 1}, {"shape": (1,)}, {"shape": (2, 4)}],
)
def test_an_addition_stays_where_the_sum_would_be_another(change: dict[str, Any]) -> None:
    graph = _dense_and_add(**change)
    assert fuse_bias(graph) == graph
    assert ops(fuse_bias(_dense_and_add())) == ["Dense"]
