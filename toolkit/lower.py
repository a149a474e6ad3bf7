"""Graph -> Program: asks each op of each function for its kernel calls, and gives every tensor a place in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from codegen.forms import Form
from codegen.program import (
    Access,
    Argument,
    Buffer,
    ByPart,
    Function,
    Layout,
    Literal,
    Place,
    Pointer,
    Runtime,
    Step,
    Struct,
    Table,
    TableArgument,
)
from toolkit.ir import Graph, GraphError, Kind, Node, TensorType
from toolkit.ops.base import Op

ALL_AT_ONCE: Mapping[str, str] = MappingProxyType({})


class Memory:
    """Parameters, states and constants, shared by all functions of a model: one layout and one place each."""

    def __init__(self, changing: frozenset[str], trained: frozenset[str]) -> None:
        """
        Args:
            changing: tensors that some function updates; they live in the params struct, all others in flash.
            trained: those of them that are weights.
        """
        self.changing = changing
        self.trained = trained
        self.buffers: dict[str, Buffer] = {}

    def buffer(self, graph: Graph, name: str, layout: Layout | None) -> Buffer:
        """The buffer of a parameter, state or constant; whoever asks first chooses the layout."""
        if name not in self.buffers:
            value = graph.data[name]
            self.buffers[name] = Buffer(
                name,
                Place.PARAMS if name in self.changing else Place.FLASH,
                value.shape,
                str(value.dtype),
                layout,
                value,
                name in self.trained,
            )
        return self.buffers[name]


def lower_function(
    name: str, graph: Graph, memory: Memory, with_outputs: bool, parts: int = 1, role: Mapping[str, str] = ALL_AT_ONCE
) -> Function:
    """One function of the Program, unscheduled.

    Args:
        graph: its nodes in any valid order.
        memory: parameters, shared with the other functions.
        with_outputs: whether the caller of the C function gets the graph's outputs.
        parts: the graph is that of one of so many parts of the batch (toolkit.walk).
        role: node -> "add" or "last", where it has one (toolkit.walk).
    """
    function = _FunctionLowering(graph, memory)
    for node in graph.nodes:
        lowering = NodeLowering(function, node, parts, role.get(node.name) == "last")
        assert isinstance(node.op, Op)
        if role.get(node.name) == "add":
            node.op.lower_part(lowering)
        else:
            node.op.lower(lowering)
        lowering.finish()
    if with_outputs:
        function.place_outputs()
    return Function(
        name, tuple(function.steps), function.buffers, function.views, parts=parts, kept=frozenset(function.kept)
    )


class _FunctionLowering:
    def __init__(self, graph: Graph, memory: Memory) -> None:
        self.graph = graph
        self.memory = memory
        self.steps: list[Step] = []
        self.buffers: dict[str, Buffer] = {}
        self.views: dict[str, str] = {}
        self.kept: set[str] = set()
        self.replaces = {value: name for name, value in graph.updates.items()}
        self._permuted: dict[tuple[str, str], str] = {}

    def existing(self, name: str, layout: Layout | None) -> Buffer:
        """The buffer of a tensor that may be read; parameters take the layout on first use."""
        if name not in self.buffers:
            tensor = self.graph.tensors[name]
            if tensor.kind in (Kind.PARAMETER, Kind.STATE, Kind.CONSTANT):
                self.buffers[name] = self.memory.buffer(self.graph, name, layout)
            elif tensor.kind is Kind.INPUT:
                self.buffers[name] = Buffer(name, Place.INPUT, tensor.type.shape, tensor.type.dtype)
            elif tensor.kind is Kind.LABEL:
                self.buffers[name] = Buffer(name, Place.LABEL, tensor.type.shape, tensor.type.dtype)
            else:
                raise GraphError(f"{name} is read before it is written")
        return self.buffers[name]

    def root(self, name: str) -> str:
        """The first of a chain of views."""
        while name in self.views:
            name = self.views[name]
        return name

    def in_layout(self, name: str, layout: Layout | None, node: Node) -> str:
        """The tensor itself, or a copy of it in another layout, made once."""
        buffer = self.existing(name, layout)
        if buffer.layout == layout:
            return name
        key = (name, layout.name if layout else "row-major")
        if key not in self._permuted:
            canonical = np.arange(buffer.size, dtype=np.int64)
            position = canonical if buffer.layout is None else np.argsort(buffer.layout.permutation)
            table = position if layout is None else position[layout.permutation]
            copy = f"{name} in {key[1]}"
            self.buffers[copy] = Buffer(copy, Place.ARENA, buffer.shape, buffer.dtype, layout)
            rows = tuple(int(i) for i in table)
            self.steps.append(
                Step(
                    "et_permute_f32",
                    (
                        Literal(str(buffer.size)),
                        TableArgument(f"{name}_order", Table("int32_t", rows)),
                        Pointer(name, Access.READ),
                        Pointer(copy, Access.WRITE),
                    ),
                    node.name,
                    node.after,
                )
            )
            self._permuted[key] = copy
        return self._permuted[key]

    def place_outputs(self) -> None:
        """Gives each output the caller's memory; an output that is a view of something else is copied where needed."""
        taken: set[str] = set()
        for output in self.graph.outputs:
            root = self.root(self.existing(output, None).name)
            buffer = self.buffers[root]
            if buffer.place is Place.ARENA and buffer.layout is None and root not in taken:
                self.buffers[root] = replace(buffer, place=Place.OUTPUT)
                taken.add(root)
                continue
            copy = f"{output} returned"
            readable = self.in_layout(output, None, self.graph.nodes[-1])
            self.buffers[copy] = Buffer(copy, Place.OUTPUT, buffer.shape, buffer.dtype)
            arguments = (Literal(str(buffer.size)), Pointer(readable, Access.READ), Pointer(copy, Access.WRITE))
            self.steps.append(Step("et_copy_f32", arguments, output))


class NodeLowering:
    """The Lowering context of one node (see toolkit.ops.contexts)."""

    def __init__(self, function: _FunctionLowering, node: Node, parts: int = 1, last: bool = False) -> None:
        self._function = function
        self._node = node
        self._parts = parts
        self._last = last
        self._in_place: list[tuple[str, str]] = []
        self._calls = 0
        self._forms: tuple[Form, ...] = ()

    @property
    def node(self) -> Node:
        return self._node

    def type(self, name: str) -> TensorType:
        return self._function.graph.type(name)

    @property
    def parts(self) -> int:
        return self._parts

    def has(self, index: int) -> bool:
        return index < len(self._node.inputs) and self._node.inputs[index] is not None

    def input_type(self, index: int) -> TensorType:
        return self.type(self._input(index))

    def output_type(self, index: int = 0) -> TensorType:
        return self.type(self._node.outputs[index])

    def layout(self, index: int) -> Layout | None:
        name = self._input(index)
        if self._function.graph.kind(name) is Kind.RUNTIME:
            return None
        return self._function.existing(name, None).layout

    def read(self, index: int, layout: Layout | None = None) -> Argument:
        if not self.has(index):
            return Literal("NULL")
        name = self._input(index)
        if self._function.graph.kind(name) is Kind.RUNTIME:
            return Runtime(name)
        return Pointer(self._function.in_layout(name, layout, self._node), Access.READ)

    def write(self, index: int = 0, layout: Layout | None = None, in_place: Sequence[int] = ()) -> Argument:
        function, name = self._function, self._node.outputs[index]
        type = self.type(name)
        replaced = function.replaces.get(name)
        if replaced is not None:
            target = function.existing(replaced, layout)
            if target.layout != layout:
                raise GraphError(f"{self._node.name} writes {name} in another layout than {replaced} has")
            if replaced in [self._input(i) for i in in_place if self.has(i)] or replaced not in self._node.inputs:
                place, trained = target.place, target.trained
                function.buffers[name] = Buffer(name, place, type.shape, type.dtype, layout, None, trained)
                function.views[name] = replaced
                return Pointer(name, Access.WRITE)
            raise GraphError(f"{self._node.name} cannot update {replaced} in place")
        place = Place.LOSS if name == function.graph.loss else Place.ARENA
        function.buffers[name] = Buffer(name, place, type.shape, type.dtype, layout)
        others = {function.root(x) for i, x in enumerate(self._node.inputs) if x is not None and i not in in_place}
        for i in in_place:
            if self.has(i) and self.input_type(i).bytes == type.bytes and function.root(self._input(i)) not in others:
                self._in_place.append((name, self._input(i)))
        return Pointer(name, Access.WRITE)

    def scratch(self, elements: int, dtype: str = "uint8") -> Argument:
        name = f"{self._node.name}.scratch{self._calls or ''}"
        self._function.buffers[name] = Buffer(name, Place.ARENA, (max(elements, 1),), dtype)
        return Pointer(name, Access.WRITE)

    def kept(self, shape: tuple[int, ...], layout: Layout | None = None) -> Argument:
        name = f"{self._node.name}.sums"
        self._function.buffers[name] = Buffer(name, Place.ARENA, shape, "float32", layout)
        self._function.kept.add(name)
        return Pointer(name, Access.WRITE)

    def keep(self, index: int = 0) -> None:
        self._function.kept.add(self._node.outputs[index])

    def by_part(self, first: str, later: str) -> Argument:
        return ByPart(first, later)

    def struct(self, type: str, fields: Mapping[str, int | float | Table], suffix: str = "shape") -> Argument:
        return Struct(type, f"{self._node.name}_{suffix}", tuple(fields.items()))

    def size(self, value: int) -> Argument:
        return Literal(str(int(value)))

    def real(self, value: float) -> Argument:
        return Literal(float_literal(value))

    def constant(self, value: Any, ctype: str) -> Argument:
        return Literal(str(value))

    def ask_for(self, *forms: Form) -> None:
        self._forms += forms

    def call(self, kernel: str, *arguments: Argument) -> None:
        function = self._function
        op, macs = self._node.op, 0
        assert isinstance(op, Op)
        if self._calls == 0:
            macs = op.macs(*(None if x is None else self.type(x) for x in self._node.inputs))
        self._calls += 1
        written = {argument.buffer for argument in arguments if isinstance(argument, Pointer)}
        in_place = tuple(pair for pair in self._in_place if pair[0] in written)
        updates = tuple(
            (name, function.views[name])
            for name in self._node.outputs
            if name in written and name in function.views and function.views[name] in self._node.inputs
        )
        node = self._node
        function.steps.append(
            Step(kernel, arguments, node.name, node.after, in_place, updates, macs, self._forms, self._last, op.zeros())
        )

    def call_last(self, kernel: str, *arguments: Argument) -> None:
        before, self._last = self._last, True
        self.call(kernel, *arguments)
        self._last = before

    def alias(self, output: int = 0, input: int = 0) -> None:
        function, name, source = self._function, self._node.outputs[output], self._input(input)
        type = self.type(name)
        buffer = function.existing(source, None)
        if name in function.replaces:
            raise GraphError(f"{self._node.name} cannot be both a view and an update")
        function.buffers[name] = Buffer(name, buffer.place, type.shape, type.dtype, buffer.layout)
        function.views[name] = source

    def finish(self) -> None:
        """Every output must have got a buffer."""
        missing = [name for name in self._node.outputs if name not in self._function.buffers]
        if missing:
            raise GraphError(f"{self._node.name}: the lowering of {self._node.op.name} leaves out {', '.join(missing)}")

    def _input(self, index: int) -> str:
        name = self._node.inputs[index]
        assert name is not None
        return name


def float_literal(value: float) -> str:
    """A float32 constant in C: the shortest decimal that reads back as the same bits."""
    single = np.float32(value)
    if np.isnan(single):
        return "ET_NAN"
    if np.isinf(single):
        return "ET_INFINITY" if single > 0 else "-ET_INFINITY"
    if single == 0 or 1e-4 <= abs(single) < 1e7:
        return f"{np.format_float_positional(single, unique=True, trim='0')}f"
    return f"{np.format_float_scientific(single, unique=True, trim='0')}f"
