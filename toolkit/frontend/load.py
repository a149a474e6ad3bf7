"""An ONNX model as a Graph: the door through which models come in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import UserError
from toolkit.frontend.folding import Known, can_fold, fold
from toolkit.frontend.importing import Importer, NodeImport
from toolkit.frontend.modelfile import dtype_name, input_shape, opset_of, read_model
from toolkit.frontend.naming import rename
from toolkit.ir import SAVED, Graph
from toolkit.ops import views
from toolkit.ops.base import ShapeError, UnsupportedError, ops_by_onnx_name
from toolkit.ops.reshape import Reshape
from toolkit.ops.transpose import Transpose

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_DATA_DEPENDENT = ("Compress", "NonMaxSuppression", "NonZero", "Unique")
_DOMAINS = ("", "ai.onnx")


def load_model(
    source: str | Path | ModelProto,
    batch: int | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    until: str | None = None,
) -> Graph:
    """Reads a model and makes it a Graph.

    Images are stored channels-last inside; the inputs and outputs are stored as suits the ops that read and write
    them, and `Graph.interface` says how. Parameters keep the names of the ONNX initializers, nodes those of the ONNX
    nodes, tensors those of the ONNX tensors.

    Args:
        source: an ONNX file, the name of a model of the zoo, or a model that is loaded already.
        batch: first dimension of every input; None keeps that of the model, 1 where it is dynamic.
        shapes: full shapes of inputs, by name.
        until: name of the tensor or node that shall be the output, instead of the outputs of the model.

    Raises:
        UserError: for everything that can be wrong with a model; unsupported operators are listed all at once.
    """
    name, model = read_model(source)
    where = str(source) if isinstance(source, str | Path) else name
    if batch is not None and batch < 1:
        raise UserError(f"a batch of {batch}", where=where, hint="the batch is 1 or more")
    loader = _Loader(name, where, model, batch, dict(shapes or {}), until)
    plain = {input: tuple(range(len(shape))) for input, shape in loader.inputs.items()}
    best = loader.load(plain)
    for input, candidates in loader.input_orders().items():
        for candidate in candidates:
            if _layout_cost(best) == (0, 0):
                break
            graph = loader.load(plain | {input: candidate})
            if _layout_cost(graph) < _layout_cost(best):
                best, plain = graph, plain | {input: candidate}
    if batch is not None:
        _check_batch(best, batch, where)
    return best


def _check_batch(graph: Graph, batch: int, where: str) -> None:
    """Raises UserError where the samples of a batch do not come out one by one."""
    for name in graph.outputs:
        side = graph.interface[name]
        if side.shape[:1] != (batch,):
            shape = "x".join(map(str, side.shape)) or "a scalar"
            raise UserError(
                f"with a batch of {batch} the output '{side.name}' is {shape}: the model mixes samples",
                where=where,
                hint="export the model with a dynamic batch, or leave out --batch",
            )


def _layout_cost(graph: Graph) -> tuple[int, int]:
    """How many elements the transpositions of a graph move on every run; how many nodes only rename bytes."""
    moved = sum(graph.type(node.outputs[0]).size for node in graph.nodes if isinstance(node.op, Transpose))
    return moved, sum(isinstance(node.op, Reshape) for node in graph.nodes)


@dataclass
class _Loader:
    """One model with its shapes fixed, ready to be imported with its inputs in one order or another."""

    name: str
    where: str
    model: ModelProto
    batch: int | None
    shapes: Mapping[str, tuple[int, ...]]
    until: str | None
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from onnx import numpy_helper

        graph = self.model.graph
        self.initializers = {
            tensor.name: Known(tensor.name, numpy_helper.to_array(tensor), weight=True) for tensor in graph.initializer
        }
        if graph.sparse_initializer:
            raise UserError("sparse initializers are not supported", where=self.where)
        given = {value.name: value for value in graph.input if value.name not in self.initializers}
        self.outputs = self._find_outputs(set(given) | set(self.initializers))
        self.nodes = self._needed_nodes()
        self._check_connected(set(given))
        self.used = {name for node in self.nodes for name in node.input} | set(self.outputs)
        for name in self.shapes:
            if name not in given:
                raise UserError(
                    f"the model has no input named '{name}'", where=self.where, hint=f"its inputs: {', '.join(given)}"
                )
        self.refused: list[tuple[str, str, str]] = []
        for name, value in given.items():
            if name not in self.used:
                continue
            if not value.type.HasField("tensor_type"):
                self.refused.append(("input", name, "not a tensor"))
                continue
            dtype = dtype_name(value.type.tensor_type.elem_type)
            if dtype != "float32":
                self.refused.append(("input", name, f"{dtype}; only float32 inputs are supported"))
                continue
            self.inputs[name] = input_shape(name, value.type, self.batch, self.shapes, self.where)
        self.opset = opset_of(self.model)
        self._folded: dict[str, Known] = {}

    def input_orders(self) -> dict[str, list[views.Order]]:
        """Axis orders that may save transpositions: channels-last, and whatever the model transposes an input to."""
        orders: dict[str, list[views.Order]] = {}
        for name, shape in self.inputs.items():
            found = [views.channels_last(len(shape))] if len(shape) > 2 else []
            for node in self.nodes:
                if node.op_type == "Transpose" and node.input[0] == name:
                    found += [tuple(a.ints) for a in node.attribute if a.name == "perm" and len(a.ints) == len(shape)]
            orders[name] = list(dict.fromkeys(found))
        return orders

    def load(self, orders: Mapping[str, Sequence[int]]) -> Graph:
        """The Graph with the inputs stored in the given orders."""
        importer = Importer(self.name, self.opset, self.used)
        importer.values.update(self.initializers)
        for name, shape in self.inputs.items():
            importer.add_input(name, shape, orders[name])
        problems = list(self.refused)
        last_good: str | None = None
        for position, node in enumerate(self.nodes):
            name = node.name or f"{node.op_type}_{position}"
            problem = self._import(importer, node, name)
            if problem is not None:
                if not problems:
                    last_good = self._computed_input(node)
                problems.append((f"{node.domain}.{node.op_type}" if node.domain else node.op_type, name, problem))
        if problems:
            raise self._unsupported(problems, last_good)
        for name in self.outputs:
            importer.add_output(name)
        graph = rename(importer.builder.finish(), importer.names()).without_dead_nodes()
        saved = {name: known.value for name, known in self.initializers.items() if name.startswith(SAVED)}
        return replace(graph, data={**graph.data, **saved}) if saved else graph

    def _import(self, importer: Importer, node: NodeProto, name: str) -> str | None:
        """Adds one node; gives the reason where that is impossible, None where it was done or must wait."""
        registry = ops_by_onnx_name()
        if node.domain not in _DOMAINS:
            return f"operators of the domain '{node.domain}' are not supported"
        known = [importer.values.get(input) for input in node.input]
        constants = [value if isinstance(value, Known) else None for value in known]
        missing = any(input and value is None for input, value in zip(node.input, known, strict=True))
        foldable = all(value is not None or not input for input, value in zip(node.input, constants, strict=True))
        foldable = foldable and can_fold(node, constants)
        shape_known = node.op_type in ("Shape", "Size") and isinstance(known[0], views.View)
        supported = node.op_type in registry or foldable or shape_known
        if not supported and not (missing and node.op_type in ("Shape", "Size")):
            return "output shape depends on data" if node.op_type in _DATA_DEPENDENT else "not supported"
        if missing:
            return None  # it reads what an unsupported node gives; that node is in the list already
        try:
            if foldable:
                self._fold(importer, node, constants)
            elif shape_known:
                self._fold_shape(importer, node)
            else:
                op_class = registry[node.op_type]
                NodeImport(importer, node, name, op_class).read_as(op_class)
        except (UnsupportedError, ShapeError) as problem:
            return str(problem)
        return None

    def _fold(self, importer: Importer, node: NodeProto, constants: Sequence[Known | None]) -> None:
        outputs = [name for name in node.output if name]
        if not all(name in self._folded for name in outputs):
            self._folded.update((known.name, known) for known in fold(node, constants, self.opset))
        importer.values.update((name, self._folded[name]) for name in outputs)

    def _fold_shape(self, importer: Importer, node: NodeProto) -> None:
        import numpy as np

        value = importer.values[node.input[0]]
        assert isinstance(value, views.View)
        if node.op_type == "Size":
            result: Any = np.array(np.prod(value.shape, dtype=np.int64))
        else:
            ends = {attribute.name: attribute.i for attribute in node.attribute}
            result = np.array(value.shape[slice(ends.get("start", 0), ends.get("end"))], np.int64)
        importer.values[node.output[0]] = Known(node.output[0], result, weight=False)

    def _find_outputs(self, available: Collection[str]) -> tuple[str, ...]:
        """Names of the tensors to compute."""
        nodes = self.model.graph.node
        if self.until is None:
            return tuple(output.name for output in self.model.graph.output)
        for node in nodes:
            if self.until in node.output:
                return (self.until,)
            if self.until == node.name:
                return (node.output[0],)
        if self.until in available:
            raise UserError(f"--until {self.until} leaves no nodes", where=self.where)
        from difflib import get_close_matches

        names = [name for node in nodes for name in (node.name, *node.output) if name]
        near = get_close_matches(self.until, names, 1, cutoff=0.0)
        raise UserError(
            f"no tensor or node is named '{self.until}'",
            where=self.where,
            hint=f"did you mean {near[0]}?" if near else "the model has no nodes",
        )

    def _needed_nodes(self) -> list[NodeProto]:
        """The nodes that the outputs need, in an order in which every value is computed before it is read."""
        maker = {output: node for node in self.model.graph.node for output in node.output if output}
        done: dict[int, NodeProto] = {}
        open_nodes: set[int] = set()
        stack = [maker[name] for name in reversed(self.outputs) if name in maker]
        while stack:
            node = stack[-1]
            waiting = [maker[name] for name in node.input if name in maker and id(maker[name]) not in done]
            if id(node) in done or not waiting:
                done.setdefault(id(stack.pop()), node)
                continue
            if id(node) in open_nodes:
                raise UserError(f"the node {node.name or node.op_type} needs its own output", where=self.where)
            open_nodes.add(id(node))
            stack += reversed(waiting)
        position = {id(node): number for number, node in enumerate(self.model.graph.node)}
        needed = list(done.values())
        in_file_order = sorted(needed, key=lambda node: position[id(node)])
        written: set[str] = set()
        for node in in_file_order:
            if any(name in maker and name not in written for name in node.input):
                return needed
            written.update(node.output)
        return in_file_order

    def _check_connected(self, inputs: Collection[str]) -> None:
        """Raises UserError where a node or an output needs a tensor that nothing gives."""
        made = {*inputs, *self.initializers, *(name for node in self.nodes for name in node.output)}
        for node in self.nodes:
            for name in node.input:
                if name and name not in made:
                    raise UserError(
                        f"the node {node.name or node.op_type} reads '{name}', which nothing computes", where=self.where
                    )
        for name in self.outputs:
            if name not in made:
                raise UserError(f"the output '{name}' is computed by no node", where=self.where)

    def _computed_input(self, node: NodeProto) -> str | None:
        """The first input of a node that another node computes: a place where the model may be cut."""
        made = {output for other in self.nodes for output in other.output}
        return next((name for name in node.input if name in made), None)

    def _unsupported(self, problems: Sequence[tuple[str, str, str]], last_good: str | None) -> UserError:
        widths = [min(60, max(len(row[column]) for row in problems)) for column in range(2)]
        rows = "\n".join(f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in problems)
        inputs = sum(row[0] == "input" for row in problems)
        nodes = len(problems) - inputs
        parts = []
        if inputs:
            parts.append(f"has {inputs} input{'s' if inputs > 1 else ''}")
        if nodes:
            parts.append(f"uses {nodes} operator{'s' if nodes > 1 else ''}")
        hint = f"end the graph before them with --until {last_good}" if last_good and not inputs else None
        if self.batch is not None:
            hint = f"the model may not allow a batch of {self.batch}; try without"
        return UserError(f"{self.where} {' and '.join(parts)} that cannot be compiled\n{rows}", hint=hint)


