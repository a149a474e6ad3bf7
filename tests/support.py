"""One op at a time: its gradient in the NumPy reference, and its kernels in C through its own lowering."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from codegen.build import build_shared_library
from codegen.kernels import Runtime as RuntimeFiles
from codegen.kernels import runtime_for
from codegen.program import Argument, Function, Literal, Pointer, Runtime, Step, Struct, Table, TableArgument
from codegen.resources import folder
from toolkit.ir import Array, Graph, TensorType
from toolkit.lower import Memory, lower_function
from toolkit.ops.base import Op, Run
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.contexts import Backward
from toolkit.ops.sum_to import SumTo
from toolkit.sim.backend import STATUS

GUARD = 64  # elements on each side of a buffer that no kernel may touch


def torch() -> Any:
    """PyTorch, or the test is skipped."""
    return pytest.importorskip("torch", reason="PyTorch is not installed: pip install edgetrain[oracle]")


# ---- the reference


def values(op: Op, *inputs: Array | None, fma: bool = True) -> tuple[Array, ...]:
    """The outputs of an op in the reference."""
    return op.run(Run(fma), *inputs)


def close(found: Array, expected: Array) -> None:
    """Equal to a relative 1e-4 of the largest value."""
    assert found.shape == expected.shape
    assert np.max(np.abs(found - expected), initial=0) <= 1e-4 * max(1.0, float(np.max(np.abs(expected), initial=0)))


def one_node(op: Op, inputs: Sequence[Array | None], states: Mapping[int, int] | None = None) -> Graph:
    """A graph of one node.

    Args:
        inputs: values; 0-dimensional ones become scalars of the context (learning rate, seed, step).
        states: input index -> output index, for inputs that are kept and replaced by an output.
    """
    builder = GraphBuilder("one")
    states = states or {}
    names: list[str | None] = []
    for index, value in enumerate(inputs):
        if value is None:
            names.append(None)
        elif index in states:
            names.append(builder.state(f"in{index}", value))
        elif value.ndim == 0:
            names.append(builder.runtime(f"in{index}", str(value.dtype)))
        else:
            names.append(builder.input(f"in{index}", TensorType(value.shape, str(value.dtype))))
    outputs = builder.apply(op, *names, name="node")
    builder.outputs = list(outputs)
    builder.updates = {f"in{index}": outputs[output] for index, output in states.items()}
    return builder.finish()


def run_nodes(graph: Graph, values: dict[str, Array], fma: bool = True) -> dict[str, Array]:
    """All tensors of a graph in the reference, given its inputs."""
    values = {**graph.data, **values}
    for node in graph.nodes:
        assert isinstance(node.op, Op)
        results = node.op.run(Run(fma), *(None if name is None else values[name] for name in node.inputs))
        values.update(zip(node.outputs, results, strict=True))
    return values


def reference_gradients(
    op: Op,
    inputs: Sequence[Array | None],
    output_gradients: Sequence[Array | None],
    wanted: Sequence[bool] | None = None,
    fma: bool = True,
) -> list[Array | None]:
    """The gradient of each input by the op's own rule, broadcast axes summed as toolkit.train.autodiff does it.

    Args:
        output_gradients: one per output; None where nothing flows back.
        wanted: which inputs need one; default: every float32 input.
    """
    builder = GraphBuilder.resume(one_node(op, inputs))
    node = builder.nodes[0]
    if wanted is None:
        wanted = [x is not None and x.dtype == np.float32 for x in inputs]
    given = {f"in{i}": x for i, x in enumerate(inputs) if x is not None}
    names = []
    for index, gradient in enumerate(output_gradients):
        names.append(None if gradient is None else builder.input(f"d{index}", TensorType(gradient.shape)))
        if gradient is not None:
            given[f"d{index}"] = gradient
    gradients = list(op.gradient(Backward(builder, node, wanted), *names))
    for index, (name, x) in enumerate(zip(gradients, inputs, strict=True)):
        codes = x is not None and x.dtype != np.float32  # their gradient has the shape of what they stand for
        if name is not None and x is not None and not codes and builder.type(name).shape != x.shape:
            gradients[index] = builder.apply(SumTo(x.shape), name)[0]
    values = run_nodes(builder.finish(), given, fma)
    return [None if name is None else values[name] for name in gradients]


def floats(seed: int, *shape: int, scale: float = 2.0) -> Array:
    """Normally distributed float32."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


SPECIAL = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3e38, -3e38, 1, -1, 3, -3, 6], np.float32)


def floats_with_special(seed: int, *shape: int) -> Array:
    """Normally distributed float32, a quarter of them zeros, infinities, NaN, subnormals and bounds of activations."""
    random = np.random.default_rng(seed)
    ordinary = random.standard_normal(shape) * 2
    return np.where(random.random(shape) < 0.25, random.choice(SPECIAL, shape), ordinary).astype(np.float32)


def shapes(max_rank: int = 4, max_side: int = 6, min_rank: int = 1) -> st.SearchStrategy[tuple[int, ...]]:
    """Small shapes; sides up to max_side."""
    return st.lists(st.integers(1, max_side), min_size=min_rank, max_size=max_rank).map(tuple)


@st.composite
def broadcast_pairs(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that broadcast together: ones here and there, leading axes missing."""
    result = draw(shapes(max_rank=5, max_side=5))
    operands = []
    for _ in range(2):
        operand = tuple(1 if draw(st.integers(0, 2)) == 0 else n for n in result)
        operands.append(operand[draw(st.integers(0, len(operand) - 1)) :])
    return operands[0], operands[1]


def agrees_with_torch(op: Op, x: Array, function: Any, seed: int) -> None:
    """Forward and gradient of a channels-last op against a channels-first function of PyTorch."""
    there, back = (0, x.ndim - 1, *range(1, x.ndim - 1)), (0, *range(2, x.ndim), 1)
    t = torch().tensor(x.transpose(there).copy(), requires_grad=True)
    expected = function(t)
    close(values(op, x)[0], expected.detach().numpy().transpose(back))
    dy = floats(seed + 1, *values(op, x)[0].shape)
    expected.backward(torch().tensor(dy.transpose(there).copy()))
    (dx,) = reference_gradients(op, [x], [dy])
    assert dx is not None
    close(dx, t.grad.numpy().transpose(back))


# ---- C


@cache
def kernel_library(kernel: str, fma: int, scalar: int, forms: tuple[str, ...] = ()) -> tuple[Any, Any]:
    """(cffi FFI, library) with a kernel and its family, compiled with warnings as errors.

    Args:
        scalar: take the loops meant for cores without vectors.
        forms: of the inner loops that a step asks for.
    """
    return _library(runtime_for([kernel]), fma, scalar, forms)


@cache
def _library(files: RuntimeFiles, fma: int, scalar: int, forms: tuple[str, ...]) -> tuple[Any, Any]:
    from cffi import FFI

    values = {"ET_FMA": fma, "ET_SCALAR_CORE": scalar} | dict.fromkeys(forms, 1)
    runtime = folder("runtime_c")
    ffi = FFI()
    ffi.cdef("typedef int et_status;")
    for header in _with_included(runtime, files.includes):
        text = re.sub(r"/\*.*?\*/", "", (runtime / header).read_text(), flags=re.DOTALL)
        structs = re.findall(r"typedef struct (?:\w+ )?\{[^}]*\} \w+;", text)
        kernels = re.findall(r"^ET_CHECKED (et_status\s+\w+\([^;{]*\);)", text, re.MULTILINE)
        ffi.cdef("\n".join([*structs, *kernels]))
    with tempfile.TemporaryDirectory(prefix="edgetrain-kernels-") as place:
        library = build_kernels(Path(place), [runtime / name for name in files.sources], values, "-O2")
        return ffi, ffi.dlopen(str(library))


def build_kernels(
    place: Path, sources: Iterable[Path], config: Mapping[str, int], flags: str, compiler: str = "gcc"
) -> Path:
    """A shared library of sources with the headers of runtime_c, warnings as errors.

    Args:
        place: an empty folder for it.
        flags: the first says how to optimize.
    """
    for source in sources:
        (place / source.name).write_bytes(source.read_bytes())
    (place / "et_config.h").write_text("".join(f"#define {name} {value}\n" for name, value in config.items()))
    optimize, *extra = flags.split()
    extra += ["-I.", f"-I{folder('runtime_c')}"]
    return build_shared_library(place, place / "kernels.so", compiler, optimize, extra, native=False)


def _with_included(runtime: Path, headers: Sequence[str]) -> list[str]:
    """Headers and what they include, before the file that includes it; each once."""
    found: list[str] = []
    for header in headers:
        if (runtime / header).exists():
            inner = re.findall(r'^#include "(et_\w+\.h)"', (runtime / header).read_text(), re.MULTILINE)
            found += [*_with_included(runtime, inner), header]
    return list(dict.fromkeys(found))


class StepRunner:
    """Runs the unplanned steps of a function, every buffer in memory of its own with guards around it."""

    def __init__(self, function: Function, values: Mapping[str, Array], fma: bool, in_place: int | None) -> None:
        """
        Args:
            in_place: which of the inputs that a step allows (0 the first, -1 the last) lends an output its memory.
        """
        self.options = (int(fma), int(in_place is not None))  # the scalar loops read ahead, which matters most in place
        self.function = function
        self.values = values
        self.memory: dict[str, Array] = {}
        self.same = dict(function.views)
        if in_place is not None:
            for step in function.steps:
                for written in step.writes():
                    allowed = [read for output, read in step.in_place if output == written and read in values]
                    if allowed and written not in self.same and allowed[in_place] not in self.same.values():
                        self.same[written] = allowed[in_place]
        for name, buffer in function.buffers.items():
            if self._root(name) == name:
                whole = np.full(buffer.size + 2 * GUARD, 77, np.dtype(buffer.dtype))
                if name in values:
                    flat = np.ascontiguousarray(values[name])
                    whole[GUARD:-GUARD] = flat.reshape(-1) if buffer.layout is None else buffer.layout.pack(flat)
                self.memory[name] = whole

    def run(self) -> str:
        """Name of the status that ended it, ET_OK where all steps ran. Fails where a guard was touched."""
        status = 0
        for step in self.function.steps:
            status = self._call(step)
            if status:
                break
        for name, whole in self.memory.items():
            assert np.all(whole[:GUARD] == 77) and np.all(whole[-GUARD:] == 77), f"{name}: wrote outside"
        return STATUS[status]

    def result(self, name: str) -> Array:
        """The value of a tensor."""
        buffer = self.function.buffers[name]
        flat = self.memory[self._root(name)][GUARD:-GUARD]
        return flat.reshape(buffer.shape).copy() if buffer.layout is None else buffer.layout.unpack(flat, buffer.shape)

    def _root(self, name: str) -> str:
        while name in self.same:
            name = self.same[name]
        return name

    def _call(self, step: Step) -> int:
        fma, scalar = self.options
        forms = tuple(form.macro for form in step.forms if scalar or not form.bytes)
        self.ffi, library = kernel_library(step.kernel, fma, scalar, forms)
        keep: list[Any] = []  # what the arguments point to
        return int(getattr(library, step.kernel)(*(self._argument(a, keep) for a in step.arguments)))

    def _argument(self, argument: Argument, keep: list[Any]) -> Any:
        if isinstance(argument, Pointer):
            whole = self.memory[self._root(argument.buffer)]
            return self.ffi.cast("void *", whole.ctypes.data + GUARD * whole.itemsize)
        if isinstance(argument, Runtime):
            return self.values[argument.field].item()
        if isinstance(argument, Literal):
            return self._literal(argument.text)
        if isinstance(argument, TableArgument):
            return self._table(argument.table, keep)
        assert isinstance(argument, Struct)
        fields = {n: self._table(v, keep) if isinstance(v, Table) else v for n, v in argument.fields}
        keep.append(self.ffi.new(f"{argument.type} *", fields))
        return keep[-1]

    def _literal(self, text: str) -> Any:
        words = {"NULL": self.ffi.NULL, "true": 1, "false": 0, "ET_INFINITY": np.inf, "-ET_INFINITY": -np.inf}
        if text in words:
            return words[text]
        if text in STATUS:
            return STATUS.index(text)
        return float(text[:-1]) if text.endswith("f") else int(text.removesuffix("u"))

    def _table(self, table: Table, keep: list[Any]) -> Any:
        keep.append(self.ffi.new(f"{table.ctype}[]", list(table.rows)))
        return keep[-1]


def run_in_c(
    op: Op,
    inputs: Sequence[Array | None],
    fma: bool,
    states: Mapping[int, int] | None = None,
    in_place: int | None = None,
) -> tuple[str, list[Array]]:
    """(status, outputs) of one op, lowered and run step by step. Arguments as for `one_node` and `StepRunner`."""
    graph = one_node(op, inputs, states)
    changing = frozenset(graph.updates)
    function = lower_function("infer", graph, Memory(changing, frozenset()), with_outputs=False)
    values = {f"in{i}": x for i, x in enumerate(inputs) if x is not None}
    runner = StepRunner(function, values, fma, in_place)
    status = runner.run()
    return status, [runner.result(name) for name in graph.outputs]


def assert_same_bits(c: Array, reference: Array, what: str = "") -> None:
    """Every bit equal; NaN for NaN, payloads aside (numerics N8)."""
    assert c.shape == reference.shape and c.dtype == reference.dtype, what
    if c.dtype == np.float32:
        both_nan = np.isnan(c) & np.isnan(reference)
        found, wanted = (np.ascontiguousarray(x).view(np.uint32).reshape(x.shape) for x in (c, reference))
        differ = (found != wanted) & ~both_nan
    else:
        differ = c != reference
    if np.any(differ):
        first = tuple(int(i[0]) for i in np.nonzero(differ))
        values = f"{c[first]!r} in C, {reference[first]!r} in the reference"
        raise AssertionError(f"{what}: {differ.sum()} of {differ.size} differ, first at {first}: {values}")


def assert_parity(op: Op, inputs: Sequence[Array | None], states: Mapping[int, int] | None = None) -> None:
    """Reference and C give the same bits, fused and not, in place (wherever the lowering allows it) and not."""
    values = {f"in{i}": x for i, x in enumerate(inputs) if x is not None}
    for fma in (True, False):
        graph = one_node(op, inputs, states)
        expected = run_nodes(graph, dict(values), fma)
        for in_place in (None, 0, -1):
            status, outputs = run_in_c(op, inputs, fma, states, in_place)
            assert status == "ET_OK"
            for name, output in zip(graph.outputs, outputs, strict=True):
                assert_same_bits(output, expected[name], f"{op} {name} fma={fma} in_place={in_place}")
