"""The import of ONNX models: nothing moves without need; weights find their way back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.onnx_models import agrees_with_onnx, make_model, ops, run, weight
from toolkit.errors import UserError
from toolkit.frontend import load_model
from toolkit.frontend.export import export_model
from toolkit.ir import Array, Kind, format_graph, verify
from toolkit.zoo import build, zoo_names

onnx = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
RANDOM = np.random.default_rng(5)


# Nothing moves without need


def test_an_image_in_nhwc_that_the_model_transposes_stays_where_it_is() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["c"]),
        helper.make_node("Transpose", ["c"], ["u"], perm=[0, 2, 3, 1]),
        helper.make_node("Relu", ["u"], ["y"]),
    ]
    model = make_model(nodes, {"x": [1, 5, 6, 3]}, ["y"], {"w": weight(4, 3, 2, 2)})
    graph = load_model(model)
    assert ops(graph) == ["Conv", "Relu"]
    assert graph.interface["x"].permutation == graph.interface["y"].permutation == (0, 1, 2, 3)
    agrees_with_onnx(model, graph)


def test_images_in_nchw_come_in_and_go_out_through_the_interface() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    model = make_model(nodes, {"x": [2, 3, 5, 6]}, ["y"], {"w": weight(4, 3, 2, 2)})
    graph = load_model(model)
    assert ops(graph) == ["Conv"]
    assert graph.interface["x"].permutation == graph.interface["y"].permutation == (0, 2, 3, 1)
    assert graph.type("x").shape == (2, 5, 6, 3)
    agrees_with_onnx(model, graph)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("between", [[], ["Relu"], ["Relu", "Sigmoid", "Identity"]])
def test_a_flattened_image_is_read_as_it_lies_and_the_rows_of_the_weights_move(
    transposed: bool, between: list[str]
) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Flatten", ["c"], ["f0"])]
    nodes += [helper.make_node(op, [f"f{i}"], [f"f{i + 1}"]) for i, op in enumerate(between)]
    nodes += [helper.make_node("Gemm", [f"f{len(between)}", "v", "b"], ["y"], transB=int(transposed))]
    weights = {"w": weight(4, 3, 2, 2), "v": weight(*((7, 80) if transposed else (80, 7))), "b": weight(7)}
    model = make_model(nodes, {"x": [2, 3, 5, 6]}, ["y"], weights)
    graph = load_model(model)
    assert "Transpose" not in ops(graph)
    assert ops(graph).count("Reshape") == 1
    agrees_with_onnx(model, graph)


def test_pixels_that_go_to_channels_and_back_do_not_move() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("SpaceToDepth", ["c"], ["s"], blocksize=2),
        helper.make_node("Relu", ["s"], ["r"]),
        helper.make_node("DepthToSpace", ["r"], ["d"], blocksize=2),
        helper.make_node("Conv", ["d", "v"], ["y"]),
    ]
    model = make_model(nodes, {"x": [1, 3, 5, 7]}, ["y"], {"w": weight(4, 3, 2, 2), "v": weight(2, 4, 3, 3)})
    graph = load_model(model)
    assert ops(graph) == ["Conv", "Relu", "Conv"]
    agrees_with_onnx(model, graph)


def test_what_cannot_be_absorbed_is_transposed_once_for_all_readers() -> None:
    shape = np.array([1, 6, -1], np.int64)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Reshape", ["c", "shape"], ["r"], name="/fold"),
        helper.make_node("Softmax", ["r"], ["y"]),
        helper.make_node("LogSoftmax", ["r"], ["z"]),
    ]
    model = make_model(nodes, {"x": [1, 3, 5, 6]}, ["y", "z"], {"w": weight(4, 3, 3, 3), "shape": shape})
    graph = load_model(model)
    assert ops(graph).count("Transpose") == 1
    assert any(node.name == "/fold" for node in graph.nodes)
    agrees_with_onnx(model, graph)


def test_a_bias_per_channel_is_a_vector() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Add", ["c", "b"], ["y"])]
    model = make_model(nodes, {"x": [1, 3, 5, 6]}, ["y"], {"w": weight(4, 3, 3, 3), "b": weight(4, 1, 1)})
    graph = load_model(model)
    assert graph.type("b").shape == (4,)
    agrees_with_onnx(model, graph)


def test_a_weight_that_is_used_twice_alike_is_one_parameter() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    graph = load_model(make_model(nodes, {"x": [2, 5]}, ["y"], {"w": weight(5, 5)}))
    assert graph.parameters() == ("w",)


def test_weights_are_parameters_and_scalars_and_constant_nodes_are_constants() -> None:
    three = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(weight(5)))
    nodes = [
        three,
        helper.make_node("Mul", ["x", "scale"], ["a"]),
        helper.make_node("Add", ["a", "k"], ["b"]),
        helper.make_node("Add", ["b", "bias"], ["y"]),
    ]
    weights = {"scale": np.array(0.5, np.float32), "bias": weight(5)}
    model = make_model(nodes, {"x": [2, 5]}, ["y"], weights)
    graph = load_model(model)
    kinds = {name: tensor.kind for name, tensor in graph.tensors.items()}
    assert (kinds["bias"], kinds["k"]) == (Kind.PARAMETER, Kind.CONSTANT)
    assert Kind.PARAMETER not in [kind for name, kind in kinds.items() if name != "bias"]
    agrees_with_onnx(model, graph)


def test_shapes_that_are_computed_from_shapes_fold_away() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Shape", ["r"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Concat", ["n", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["r", "shape"], ["y"]),
    ]
    weights = {"zero": np.array([0], np.int64), "rest": np.array([-1], np.int64)}
    model = make_model(nodes, {"x": [2, 3, 4]}, ["y"], weights)
    graph = load_model(model)
    assert graph.interface["y"].shape == (2, 12)
    assert set(ops(graph)) <= {"Relu", "Reshape"}
    agrees_with_onnx(model, graph)


def test_an_output_that_is_an_input_or_a_constant_is_a_tensor_of_its_own() -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["w"], ["z"])]
    model = make_model(nodes, {"x": [2, 3]}, ["y", "z"], {"w": weight(4)})
    graph = load_model(model)
    assert len(set(graph.outputs)) == 2
    agrees_with_onnx(model, graph)


KINDS = (
    "transpose", "reshape", "flatten", "depth", "space", "relu", "add", "scale", "conv", "dense", "softmax", "join",
    "concat",
)


@st.composite
def layout_chains(draw: st.DrawFn) -> Any:
    """Models of ops that move, reshape and combine a tensor of up to five axes."""
    shape = list(draw(st.sampled_from([(1, 6, 4, 4), (2, 3, 4, 6), (1, 1, 8, 2), (2, 12), (4, 1, 6)])))
    source, nodes, weights, step = "x", [], {}, 0
    start = list(shape)
    earlier = [(source, shape)]
    for step in range(draw(st.integers(1, 7))):
        kind = draw(st.sampled_from(KINDS))
        target = f"t{step}"
        if kind == "transpose":
            order = draw(st.permutations(range(len(shape))))
            nodes.append(helper.make_node("Transpose", [source], [target], perm=order))
            shape = [shape[axis] for axis in order]
        elif kind == "reshape":
            shape = draw(factorizations(int(np.prod(shape))))
            weights[f"s{step}"] = np.array(shape, np.int64)
            nodes.append(helper.make_node("Reshape", [source, f"s{step}"], [target]))
        elif kind == "flatten":
            axis = draw(st.integers(0, len(shape)))
            nodes.append(helper.make_node("Flatten", [source], [target], axis=axis))
            shape = [int(np.prod(shape[:axis])), int(np.prod(shape[axis:]))]
        elif kind == "depth" and len(shape) == 4 and shape[1] % 4 == 0:
            mode = draw(st.sampled_from(["DCR", "CRD"]))
            nodes.append(helper.make_node("DepthToSpace", [source], [target], blocksize=2, mode=mode))
            shape = [shape[0], shape[1] // 4, shape[2] * 2, shape[3] * 2]
        elif kind == "space" and len(shape) == 4 and shape[2] % 2 == shape[3] % 2 == 0:
            nodes.append(helper.make_node("SpaceToDepth", [source], [target], blocksize=2))
            shape = [shape[0], shape[1] * 4, shape[2] // 2, shape[3] // 2]
        elif kind == "add":
            full = [size if draw(st.booleans()) else 1 for size in shape]
            weights[f"a{step}"] = weight(*full[draw(st.integers(0, len(full))) :])
            nodes.append(helper.make_node("Add", [source, f"a{step}"], [target]))
        elif kind == "scale":
            weights[f"k{step}"] = np.array(1.5, np.float32)
            nodes.append(helper.make_node("Mul", [source, f"k{step}"], [target]))
        elif kind == "conv" and len(shape) == 4:
            weights[f"w{step}"] = weight(3, shape[1], 1, 1)
            nodes.append(helper.make_node("Conv", [source, f"w{step}"], [target]))
            shape = [shape[0], 3, *shape[2:]]
        elif kind == "dense" and len(shape) == 2:
            weights[f"w{step}"] = weight(5, shape[1])
            nodes.append(helper.make_node("Gemm", [source, f"w{step}"], [target], transB=1))
            shape = [shape[0], 5]
        elif kind == "join":
            fits = [(name, other) for name, other in earlier if joined(shape, other)]
            name, other = draw(st.sampled_from([*fits, (source, shape)]))
            operands = draw(st.permutations([source, name]))
            nodes.append(helper.make_node("Sub", operands, [target]))
            shape = joined(shape, other)
        elif kind == "concat":
            axis = draw(st.integers(0, len(shape) - 1))
            rest = [n for i, n in enumerate(shape) if i != axis]
            fits = [
                (name, other) for name, other in earlier
                if len(other) == len(shape) and [n for i, n in enumerate(other) if i != axis] == rest
            ]
            name, other = draw(st.sampled_from([*fits, (source, shape)]))
            nodes.append(helper.make_node("Concat", [source, name], [target], axis=axis))
            shape = [n + (other[axis] if i == axis else 0) for i, n in enumerate(shape)]
        elif kind == "softmax":
            nodes.append(helper.make_node("Softmax", [source], [target], axis=draw(st.integers(0, len(shape) - 1))))
        else:
            nodes.append(helper.make_node("Relu", [source], [target]))
        source = target
        earlier.append((source, shape))
    return make_model(nodes, {"x": start}, [source], weights)


def joined(first: list[int], second: list[int]) -> list[int]:
    """The shape that two shapes broadcast to; empty where they do not."""
    try:
        return list(np.broadcast_shapes(tuple(first), tuple(second)))
    except ValueError:
        return []


@st.composite
def factorizations(draw: st.DrawFn, size: int) -> list[int]:
    """A shape of up to five axes with `size` elements."""
    shape: list[int] = []
    while len(shape) < 4 and draw(st.booleans()):
        divisors = [n for n in range(1, size + 1) if size % n == 0]
        shape.append(draw(st.sampled_from(divisors)))
        size //= shape[-1]
    return [*shape, size]


@given(layout_chains())
def test_any_chain_of_layout_changes_means_what_it_means_in_onnx(model: Any) -> None:
    graph = load_model(model)
    agrees_with_onnx(model, graph)
    for name, origin in graph.origins.items():
        source = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == origin.name)
        assert np.array_equal(source.reshape(-1)[origin.index], graph.data[name])


# Names and order


@pytest.mark.parametrize("name", zoo_names())
def test_loading_twice_gives_the_same_graph_with_the_names_of_the_file(name: str) -> None:
    first, again = load_model(name), load_model(build(name))
    assert format_graph(first) == format_graph(again)
    assert {node.name for node in first.nodes} <= {node.name for node in build(name).graph.node}
    assert {tensor.name for tensor in build(name).graph.initializer} == set(first.parameters())
    assert first.outputs == ("output",)
    assert first.inputs == ("input",)
    for parameter, value in first.data.items():
        assert np.array_equal(value, again.data[parameter])
    verify(first)


def test_nodes_without_names_are_named_after_their_op_and_place() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Sigmoid", ["a"], ["y"])]
    graph = load_model(make_model(nodes, {"x": [3]}, ["y"]))
    assert [node.name for node in graph.nodes] == ["Relu_0", "Sigmoid_1"]
    assert [node.outputs for node in graph.nodes] == [("a",), ("y",)]


def test_importing_the_frontend_does_not_import_onnx() -> None:
    code = "import sys, toolkit.frontend, toolkit.frontend.export, toolkit.zoo; sys.exit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent).returncode == 0


# The way back


@pytest.mark.parametrize("name", ["cnn", "small-resnet", "ds-cnn"])
def test_trained_weights_are_found_again_after_export(name: str, tmp_path: Path) -> None:
    graph = load_model(name)
    trained = {parameter: graph.data[parameter] + np.float32(0.25) for parameter in graph.parameters()}
    export_model(name, graph, trained, tmp_path / "trained.onnx")
    again = load_model(tmp_path / "trained.onnx")
    assert set(again.parameters()) == set(trained)
    for parameter, value in trained.items():
        assert np.array_equal(again.data[parameter].view(np.uint32), value.view(np.uint32))


def test_an_export_runs_in_onnxruntime_and_agrees(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    graph = load_model("cnn")
    trained = {name: graph.data[name] * np.float32(1.5) for name in graph.parameters()}
    export_model("cnn", graph, trained, tmp_path / "trained.onnx")
    image = weight(1, 1, 28, 28)
    (wanted,) = runtime.InferenceSession(tmp_path / "trained.onnx").run(None, {"input": image})
    np.testing.assert_allclose(run(load_model(tmp_path / "trained.onnx"), input=image)["output"], wanted, 1e-4, 1e-4)


def test_a_weight_that_was_computed_from_others_is_exported_without_what_made_it(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "step"], ["d"]),
        helper.make_node("Transpose", ["d"], ["w"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    weights: dict[str, Array] = {"q": RANDOM.integers(-9, 9, (3, 5)).astype(np.int8), "step": np.array(0.5, np.float32)}
    model = make_model(nodes, {"x": [2, 5]}, ["y"], weights)
    model.ir_version = 3
    graph = load_model(model)
    assert graph.parameters() == ("w",)
    export_model(model, graph, {"w": graph.data["w"] + np.float32(1), "momentum": weight(3)}, tmp_path / "out.onnx")
    written = onnx.load(tmp_path / "out.onnx")
    onnx.checker.check_model(written)
    assert [node.op_type for node in written.graph.node] == ["MatMul"]
    assert [tensor.name for tensor in written.graph.initializer] == ["w"]
    assert np.array_equal(numpy_helper.to_array(written.graph.initializer[0]), graph.data["w"] + np.float32(1))


def test_layers_that_share_weights_but_were_trained_apart_are_not_exported(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Gemm", ["h", "w"], ["y"], transB=1)]
    model = make_model(nodes, {"x": [2, 5]}, ["y"], {"w": weight(5, 5)})
    graph = load_model(model)
    assert len(graph.parameters()) == 2
    export_model(model, graph, {name: graph.data[name] for name in graph.parameters()}, tmp_path / "same.onnx")
    first, second = graph.parameters()
    with pytest.raises(UserError, match="share these weights"):
        export_model(model, graph, {first: graph.data[first] + 1, second: graph.data[second]}, tmp_path / "other.onnx")


def test_an_export_of_another_model_is_refused(tmp_path: Path) -> None:
    graph = load_model("cnn")
    trained = {name: graph.data[name] for name in graph.parameters()}
    with pytest.raises(UserError, match="the file has"):
        export_model("digits-cnn", graph, trained, tmp_path / "wrong.onnx")
    with pytest.raises(UserError, match="cannot be written"):
        export_model("cnn", graph, trained, tmp_path / "no" / "folder.onnx")
