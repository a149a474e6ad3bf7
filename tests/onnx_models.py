"""Small ONNX models, and what they compute in ONNX's own reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from toolkit.frontend.coverage import run_reference
from toolkit.ir import Array, Graph

onnx = pytest.importorskip("onnx")
reference = pytest.importorskip("onnx.reference")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
RANDOM = np.random.default_rng(5)


def make_model(
    nodes: list[Any], inputs: dict[str, Any], outputs: list[str], weights: dict[str, Array] | None = None
) -> Any:
    """A model of opset 13 with float32 inputs and outputs of inferred shapes."""
    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info(name, float32, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, float32, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    return onnx.shape_inference.infer_shapes(model)


def weight(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


def run(graph: Graph, **feeds: Array) -> dict[str, Array]:
    """Runs a graph on inputs laid out as in ONNX, gives outputs so laid out."""
    inside = {name: graph.interface[name].inward(feeds[graph.interface[name].name]) for name in graph.inputs}
    values = run_reference(graph, inside)
    return {graph.interface[name].name: graph.interface[name].outward(values[name]) for name in graph.outputs}


def agrees_with_onnx(model: Any, graph: Graph) -> None:
    """Compares with the reference implementation of ONNX on random inputs."""
    feeds = {graph.interface[name].name: weight(*graph.interface[name].shape) for name in graph.inputs}
    wanted = reference.ReferenceEvaluator(model).run(None, feeds)
    found = run(graph, **feeds)
    for value, expected in zip(model.graph.output, wanted, strict=True):
        np.testing.assert_allclose(found[value.name], expected, rtol=1e-4, atol=1e-5, strict=True)


def ops(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.nodes]
