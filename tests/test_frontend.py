"""The import of ONNX models: what is refused and how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.onnx_models import agrees_with_onnx, make_model, ops, weight
from toolkit.errors import UserError
from toolkit.frontend import load_model
from toolkit.ir import format_graph
from toolkit.zoo import build

onnx = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper


def changed_cnn(change: Callable[[Any], None]) -> Any:
    model = build("cnn")
    change(model)
    return model


def refusal(source: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        load_model(source, **options)
    return str(caught.value)


# What cannot be read


@pytest.mark.parametrize("kept", [0, 1, 10, 100, 0.5, 0.9, -1])
def test_a_truncated_file_is_named_as_such(tmp_path: Path, kept: float) -> None:
    whole = build("cnn").SerializeToString()
    length = int(kept * len(whole)) if isinstance(kept, float) else kept
    file = tmp_path / "cut.onnx"
    file.write_bytes(whole[:length])
    assert "cut.onnx: not an ONNX file, or a truncated one" in refusal(file)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n" + bytes(range(256)), b"{}", b"hello", b"\x00" * 64])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "other.onnx"
    file.write_bytes(content)
    assert "not an ONNX file" in refusal(file)


def test_a_missing_file_and_an_unknown_zoo_model_are_told_apart(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.onnx")
    assert "did you mean lenet?" in refusal("lenett")


def test_missing_and_short_external_data_are_named(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    onnx.save_model(build("cnn"), file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert format_graph(load_model(file)).splitlines()[1:] == format_graph(load_model("cnn")).splitlines()[1:]
    (tmp_path / "weights.bin").write_bytes(b"too short")
    assert "external weights cannot be read" in refusal(file)
    (tmp_path / "weights.bin").unlink()
    assert "'weights.bin', which is missing" in refusal(file)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named_with_their_place(bad: float) -> None:
    def spoil(model: Any) -> None:
        value = numpy_helper.to_array(model.graph.initializer[0]).copy()
        value[1, 0, 2, 2] = bad
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(value, "conv1.weight"))

    message = refusal(changed_cnn(spoil))
    assert message.startswith(f"conv1.weight: the weights hold {bad} at [1, 0, 2, 2]")


@pytest.mark.parametrize("opset, says", [(5, "6 is the oldest"), (999, "pip install --upgrade onnx")])
def test_opsets_out_of_range_are_refused_with_a_way_out(opset: int, says: str) -> None:
    assert says in refusal(changed_cnn(lambda model: setattr(model.opset_import[0], "version", opset)))


def test_a_node_that_reads_nothing_known_is_named() -> None:
    def cut(model: Any) -> None:
        model.graph.node[3].input[0] = "ghost"

    assert "/conv2 reads 'ghost', which nothing computes" in refusal(changed_cnn(cut))


def test_a_cycle_is_named() -> None:
    def close(model: Any) -> None:
        model.graph.node[0].input[0] = "output"

    assert "needs its own output" in refusal(changed_cnn(close))


# What is not supported


def test_all_unsupported_nodes_are_listed_at_once_with_a_way_to_cut_them_off() -> None:
    def spoil(model: Any) -> None:
        model.graph.node[2].op_type = "GridSample"
        model.graph.node[4].op_type = "NonZero"
        model.graph.node[6].domain = "my.ops"

    assert refusal(changed_cnn(spoil)).splitlines() == [
        "cnn uses 3 operators that cannot be compiled",
        "  GridSample      /pool1     not supported",
        "  NonZero         /relu2     output shape depends on data",
        "  my.ops.Flatten  /flatten1  operators of the domain 'my.ops' are not supported",
        "hint: end the graph before them with --until relu1.out",
    ]


def test_the_hint_about_until_is_right() -> None:
    def spoil(model: Any) -> None:
        model.graph.node[2].op_type = "GridSample"

    assert ops(load_model(changed_cnn(spoil), until="relu1.out")) == ["Conv", "Relu"]


@pytest.mark.parametrize("dtype", ["FLOAT16", "BFLOAT16", "DOUBLE", "INT32", "BOOL"])
def test_a_cast_of_a_computed_tensor_to_another_type_is_refused(dtype: str) -> None:
    there = helper.make_node("Cast", ["r"], ["c"], to=getattr(onnx.TensorProto, dtype))
    back = helper.make_node("Cast", ["c"], ["y"], to=onnx.TensorProto.FLOAT)
    model = make_model([helper.make_node("Relu", ["x"], ["r"]), there, back], {"x": [2, 3]}, ["y"])
    assert f"a computed float32 tensor is cast to {dtype.lower()}" in refusal(model)


def test_a_cast_to_its_own_type_and_casts_of_constants_leave_no_node() -> None:
    nodes = [
        helper.make_node("Cast", ["w"], ["v"], to=onnx.TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "v"], ["h"]),
        helper.make_node("Cast", ["h"], ["c"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    model = make_model(nodes, {"x": [2, 5]}, ["y"], {"w": weight(5, 3).astype(np.float16)})
    graph = load_model(model)
    assert ops(graph) == ["Dense", "Relu"]
    agrees_with_onnx(model, graph)


def test_a_new_shape_that_is_computed_is_refused_for_weights_too() -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["n"]),
        helper.make_node("Reshape", ["w", "n"], ["y"]),
    ]
    assert "output shape depends on data" in refusal(make_model(nodes, {"x": [2]}, ["y"], {"w": weight(4)}))
    nodes = [helper.make_node("Reshape", ["w", "x"], ["y"])]
    assert "the new shape must be a constant" in refusal(make_model(nodes, {"x": [2]}, ["y"], {"w": weight(4)}))


@pytest.mark.parametrize("dtype", ["FLOAT16", "INT8", "DOUBLE"])
def test_inputs_of_other_types_are_refused(dtype: str) -> None:
    def change(model: Any) -> None:
        model.graph.input[0].type.tensor_type.elem_type = getattr(onnx.TensorProto, dtype)

    message = refusal(changed_cnn(change))
    assert "has 1 input that cannot be compiled" in message
    assert "only float32 inputs are supported" in message


def test_dynamic_sizes_are_asked_for_but_a_dynamic_batch_is_one() -> None:
    def change(model: Any) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"

    model = changed_cnn(change)
    assert "--shape input=1,1,N,28" in refusal(model)
    assert load_model(model, shapes={"input": (1, 1, 28, 28)}).interface["input"].shape == (1, 1, 28, 28)
    assert load_model("cnn").interface["input"].shape == (1, 1, 28, 28)
    assert load_model("cnn", batch=3).interface["input"].shape == (3, 1, 28, 28)
    assert "it cannot be 1x2x28x28" in refusal("cnn", shapes={"input": (1, 2, 28, 28)})
    assert "no input named 'x'" in refusal("cnn", shapes={"x": (1,)})
    assert "a batch of 0" in refusal("cnn", batch=0)


def test_a_batch_that_the_model_forbids_is_an_error_that_says_so() -> None:
    shape = np.array([1, 12], np.int64)
    model = make_model([helper.make_node("Reshape", ["x", "shape"], ["y"])], {"x": [1, 3, 4]}, ["y"], {"shape": shape})
    assert "may not allow a batch of 2" in refusal(model, batch=2)
    shape = np.array([1, -1], np.int64)
    model = make_model([helper.make_node("Reshape", ["x", "shape"], ["y"])], {"x": [1, 3, 4]}, ["y"], {"shape": shape})
    assert "with a batch of 2 the output 'y' is 1x24: the model mixes samples" in refusal(model, batch=2)


def test_until_takes_tensors_and_nodes_and_knows_near_misses() -> None:
    assert load_model("cnn", until="/pool1").outputs == load_model("cnn", until="pool1.out").outputs
    assert "did you mean /pool1?" in refusal("cnn", until="/poool1")
    assert "leaves no nodes" in refusal("cnn", until="input")
