"""A trained model as ONNX: the original file with the trained weights written back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from toolkit.errors import UserError
from toolkit.frontend.modelfile import read_model
from toolkit.ir import SAVED, Array, Graph, Kind
from toolkit.train.rules import rule_of

if TYPE_CHECKING:
    from onnx import ModelProto

_NEWEST_IR_VERSION = 10  # what the runtimes of today read; the onnx package itself writes a newer one
_INITIALIZERS_NEED_NO_INPUTS = 4  # the IR version since which an initializer need not be listed as an input


def export_model(
    original: str | Path | ModelProto, graph: Graph, trained: Mapping[str, Array], path: str | Path
) -> None:
    """Writes an ONNX file with trained weights.

    A weight that the import computed from others (by a Transpose, a DequantizeLinear, ...) becomes an initializer of
    its own, and the nodes that made it are removed.

    Args:
        original: what `graph` was loaded from: a file, the name of a zoo model, or the model itself.
        graph: as `load_model` gave it, or a graph made from that: only `origins` is read.
        trained: values by parameter name, in the layout of the graph, as they are stored (16-bit weights are decoded).
            Parameters that a quantizer introduced have no origin: they become initializers that no node reads, named
            SAVED + name, and come back in Graph.data. Other names without an origin (optimizer state) are left out.
        path: the file to write; replaced in one go.

    Raises:
        UserError: the original is another model than the graph was made from; two parameters that share one ONNX
            tensor have drifted apart; the file cannot be written.
    """
    _, source = read_model(original)
    model = type(source)()
    model.CopyFrom(source)
    for name, value in _in_onnx_layout(graph, trained).items():
        _replace_tensor(model, name, value)
    _save_parameters(model, graph, trained)
    _remove_unused(model)
    model.ir_version = min(model.ir_version, _NEWEST_IR_VERSION)
    inputs = {value.name for value in model.graph.input}
    if any(tensor.name not in inputs for tensor in model.graph.initializer):
        model.ir_version = max(model.ir_version, _INITIALIZERS_NEED_NO_INPUTS)
    _write(model, Path(path))


def _in_onnx_layout(graph: Graph, trained: Mapping[str, Array]) -> dict[str, Array]:
    """ONNX name -> value, every element put back to where the import took it from."""
    values: dict[str, Array] = {}
    for parameter, value in trained.items():
        origin = graph.origins.get(parameter)
        if origin is None:
            continue
        if value.shape != origin.index.shape:
            wanted = list(origin.index.shape)
            raise UserError(f"the trained value is {list(value.shape)}, not {wanted}", where=parameter)
        flat = np.empty(origin.index.size, np.float32)
        flat[origin.index.reshape(-1)] = rule_of(graph.rules, parameter).decode(value).reshape(-1)
        whole = flat.reshape(origin.shape)
        if origin.name in values and not np.array_equal(values[origin.name], whole):
            raise UserError(
                "several layers share these weights in the ONNX file, but were trained apart",
                where=origin.name,
                hint="freeze all of them but one",
            )
        values[origin.name] = whole
    return values


def _save_parameters(model: ModelProto, graph: Graph, trained: Mapping[str, Array]) -> None:
    """Writes the trained parameters that the ONNX model has no place for."""
    from onnx import numpy_helper

    kept = {tensor.name: tensor for tensor in model.graph.initializer}
    for parameter, value in trained.items():
        introduced = parameter in graph.tensors and graph.kind(parameter) is Kind.PARAMETER
        if introduced and parameter not in graph.origins:
            name = SAVED + parameter
            tensor = kept[name] if name in kept else model.graph.initializer.add()
            tensor.CopyFrom(numpy_helper.from_array(rule_of(graph.rules, parameter).decode(value), name))


def _replace_tensor(model: ModelProto, name: str, value: Array) -> None:
    """Gives an ONNX tensor a value, whatever made it before."""
    from onnx import numpy_helper

    for tensor in model.graph.initializer:
        if tensor.name == name:
            if tuple(tensor.dims) != value.shape:
                raise UserError(f"the file has {list(tensor.dims)}, the graph {list(value.shape)}", where=name)
            tensor.CopyFrom(numpy_helper.from_array(value, name))
            return
    for node in model.graph.node:
        if name in node.output:
            node.output[list(node.output).index(name)] = ""
            model.graph.initializer.append(numpy_helper.from_array(value, name))
            return
    raise UserError(f"the original model has no tensor named '{name}'", hint="export with the model that was trained")


def _remove_unused(model: ModelProto) -> None:
    """Nodes whose last named output is gone, and then whatever only they needed."""
    graph = model.graph
    outputs = {value.name for value in graph.output}
    before = _names_read(model)
    while True:
        read = _names_read(model) | outputs
        # Only what became useless here is removed: what was never read in the original stays as it was.
        idle = [
            node for node in graph.node
            if not any(name in read or (name and name not in before) for name in node.output)
        ]
        if not idle:
            break
        for node in idle:
            graph.node.remove(node)
    read = _names_read(model) | outputs
    inputs = {value.name for value in graph.input}
    for tensor in list(graph.initializer):
        if tensor.name in before and tensor.name not in read and tensor.name not in inputs:
            graph.initializer.remove(tensor)


def _names_read(model: ModelProto) -> set[str]:
    """Every name that a node reads, subgraphs included."""
    names: set[str] = set()
    nodes = list(model.graph.node)
    while nodes:
        node = nodes.pop()
        names.update(node.input)
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                nodes.extend(graph.node)
    return names


def _write(model: ModelProto, path: Path) -> None:
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(model.SerializeToString(deterministic=True))
        os.replace(part, path)
    except OSError as problem:
        raise UserError(f"cannot be written: {problem.strerror or problem}", where=str(path)) from problem
