"""Which of ONNX's own test cases pass: `python -m toolkit.frontend.coverage docs/coverage.md` writes the table.

Every float32 case of the ops that we import is run by the NumPy semantics of these ops, then compared with the outputs
of the case at the tolerance of the case. Many cases give weights and shapes as graph inputs; where that is not
supported, every input but the first is made an initializer, as it is in models.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import UserError
from toolkit.frontend.load import load_model
from toolkit.ir import Array, Graph
from toolkit.ops.base import Op, Run, ops_by_onnx_name

if TYPE_CHECKING:
    from onnx import ModelProto

_SETS = ("pytorch-operator", "pytorch-converted", "simple")
_SPATIAL = ("AveragePool", "Conv", "MaxPool")
Runner = Callable[[Graph, Mapping[str, Array]], Mapping[str, Array]]


@dataclass(frozen=True)
class Case:
    """One test case.

    Attributes:
        ops: the op types that it uses, joined by " + ".
        left_out: why the case is beyond what we set out to do; empty for most.
        data: pairs of inputs and outputs.
    """

    name: str
    ops: str
    left_out: str
    model: ModelProto
    data: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float
    atol: float


@dataclass(frozen=True)
class Result:
    """What became of a case.

    Attributes:
        reason: why it does not pass; empty where it does.
        counted: false for cases that are left out by design.
    """

    name: str
    ops: str
    reason: str
    counted: bool = True

    @property
    def passed(self) -> bool:
        """Whether the outputs agree."""
        return not self.reason


def listed() -> tuple[str, ...]:
    """ONNX op types whose cases count: all that are imported, and Constant, which folds away."""
    return tuple(sorted({*ops_by_onnx_name(), "Constant"}))


def cases() -> Iterator[Case]:
    """All cases whose ops are all listed and which are float32 throughout, by name; other dtypes are out of scope."""
    from onnx.backend.test.case.node import collect_testcases
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases are computed here and now, some from infinities
        found = {case.name: case for case in collect_testcases(None)}
        for kind in _SETS:
            for case in load_model_tests(kind=kind):
                found.setdefault(case.name, case)
    counted = set(listed())
    for name in sorted(found):
        case = found[name]
        folder = Path(case.model_dir or "")
        model = case.model if case.model is not None else _read(folder / "model.onnx")
        used = sorted({node.op_type for node in model.graph.node})
        standard = all(node.domain in ("", "ai.onnx") for node in model.graph.node)
        if not used or not standard or not set(used) <= counted or not _is_float32(model):
            continue
        data = case.data_sets if case.data_sets is not None else list(_read_data(folder, model))
        yield Case(name, " + ".join(used), _left_out(model, data), model, data, case.rtol, case.atol)


def run_case(case: Case, runner: Runner | None = None) -> Result:
    """Imports a case, runs it and compares."""
    if case.left_out:
        return Result(case.name, case.ops, case.left_out, counted=False)
    try:
        for inputs, outputs in case.data:
            _run_once(case, inputs, outputs, runner or run_reference)
    except UserError as problem:
        return Result(case.name, case.ops, _one_line(problem))
    except AssertionError as problem:
        return Result(case.name, case.ops, f"WRONG: {problem}")
    return Result(case.name, case.ops, "")


def run_reference(graph: Graph, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    """Every tensor of the graph, computed by the reference semantics of the ops."""
    values: dict[str, Array] = {**graph.data, **inputs}
    for node in graph.nodes:
        assert isinstance(node.op, Op)
        arrays = node.op.run(Run(fma=True), *(None if name is None else values[name] for name in node.inputs))
        values.update(zip(node.outputs, arrays, strict=True))
    return values


def report(results: Sequence[Result]) -> str:
    """The table, in Markdown."""
    import onnx

    counted = [result for result in results if result.counted]
    passed = sum(result.passed for result in counted)
    left_out = [result for result in results if not result.counted]
    lines = [
        "# Coverage of the ONNX test cases",
        "",
        f"{passed} of {len(counted)} float32 cases pass ({100 * passed / max(1, len(counted)):.1f} %). They are those "
        f"of the `onnx` {onnx.__version__} package:",
        f"node tests, {', '.join(_SETS)}. Cases of other element types and of other operators are not counted, nor are",
        f"the {len(left_out)} cases that are left out by design (at the end).",
        "",
        "Written by `python -m toolkit.frontend.coverage docs/coverage.md`; a test keeps it up to date.",
        "",
        "| op | pass | cases |",
        "|---|---|---|",
    ]
    for op in listed():
        mine = [result for result in counted if op in result.ops.split(" + ")]
        lines.append(f"| {op} | {sum(result.passed for result in mine)} | {len(mine)} |")
    lines += ["", "## Every case", "", "| case | ops | result |", "|---|---|---|"]
    lines += [f"| {r.name} | {r.ops} | {_cell(r.reason) or 'passes'} |" for r in counted]
    lines += ["", "## Left out by design", "", "| case | ops | why |", "|---|---|---|"]
    lines += [f"| {r.name} | {r.ops} | {_cell(r.reason)} |" for r in left_out]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: Sequence[str]) -> int:
    """Writes the table to the file named by the only argument."""
    if len(arguments) != 1:
        print("usage: python -m toolkit.frontend.coverage FILE.md", file=sys.stderr)
        return 2
    results = [run_case(case) for case in cases()]
    Path(arguments[0]).write_text(report(results), encoding="utf-8")
    counted = [result for result in results if result.counted]
    print(f"{sum(result.passed for result in counted)} of {len(counted)} cases pass")
    return 0


def _run_once(case: Case, inputs: Sequence[Any], outputs: Sequence[Any], runner: Runner) -> None:
    arrays = [np.asarray(value) for value in inputs]
    names = [value.name for value in case.model.graph.input]
    initial = {tensor.name for tensor in case.model.graph.initializer}
    fed = dict(zip([name for name in names if name not in initial], arrays, strict=False))
    graph = _load(case.model, fed)
    interface = graph.interface
    given = {name: interface[name].inward(fed[interface[name].name]) for name in graph.inputs}
    values = runner(graph, given)
    results = {interface[name].name: interface[name].outward(values[name]) for name in graph.outputs}
    for value, wanted in zip(case.model.graph.output, outputs, strict=True):
        np.testing.assert_equal(results[value.name].shape, np.shape(wanted), "the shape differs")
        difference = _difference(results[value.name], np.asarray(wanted), case.rtol, case.atol)
        assert not difference, f"{value.name}: {difference}"


def _load(model: ModelProto, fed: Mapping[str, Array]) -> Graph:
    """The model as it is; where that is not supported, with every input but the first as an initializer."""
    shapes = {name: array.shape for name, array in fed.items()}
    try:
        return load_model(model, shapes=shapes)
    except UserError:
        if len(fed) < 2:
            raise
    from onnx import ModelProto as Model
    from onnx import numpy_helper

    fixed = Model()
    fixed.CopyFrom(model)
    first, *others = fed
    for name in others:
        fixed.graph.initializer.append(numpy_helper.from_array(fed[name], name))
    return load_model(fixed, shapes={first: shapes[first]})


def _difference(found: Array, wanted: Array, rtol: float, atol: float) -> str:
    if np.allclose(found, wanted, rtol, atol, equal_nan=True):
        return ""
    worst = np.nanmax(np.abs(found.astype(np.float64) - wanted))
    return f"off by {worst:.3g} at the most"


def _left_out(model: ModelProto, data: Sequence[tuple[Sequence[Any], Sequence[Any]]]) -> str:
    """Why a case is none of ours: microcontrollers see no volumes; how to train is chosen here, not in the file."""
    arrays = [np.asarray(value) for pair in data for values in pair for value in values]
    if any(array.size == 0 for array in arrays if array.dtype == np.float32):
        return "a tensor without elements"
    for node in model.graph.node:
        if node.op_type in _SPATIAL and arrays[0].ndim > 4:
            return "three spatial axes"
        if node.op_type == "BatchNormalization" and any(a.name == "training_mode" and a.i for a in node.attribute):
            return "the file asks for training mode"
        if node.op_type == "Dropout" and any(array.dtype == np.bool_ and array.all() for array in arrays):
            return "the file asks for training mode, with random numbers of NumPy"
    return ""


def _is_float32(model: ModelProto) -> bool:
    """Whether the first input and all outputs are float32 tensors and no input is of another float type."""
    from onnx import TensorProto

    floats = (TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL)
    inputs, outputs = list(model.graph.input), list(model.graph.output)
    tensors = all(value.type.HasField("tensor_type") for value in (*inputs, *outputs))
    return (
        tensors
        and all(value.type.tensor_type.elem_type == TensorProto.FLOAT for value in (*inputs[:1], *outputs))
        and all(value.type.tensor_type.elem_type in floats for value in inputs)
    )


def _read(path: Path) -> ModelProto:
    import onnx

    return onnx.load_model(str(path))


def _read_data(folder: Path, model: ModelProto) -> Iterator[tuple[list[Array], list[Array]]]:
    """The data sets beside a model file."""
    from onnx import TensorProto, numpy_helper

    def tensors(folder: Path, kind: str, count: int) -> list[Array]:
        arrays = []
        for index in range(count):
            tensor = TensorProto()
            tensor.ParseFromString((folder / f"{kind}_{index}.pb").read_bytes())
            arrays.append(numpy_helper.to_array(tensor))
        return arrays

    for data in sorted(folder.glob("test_data_set_*")):
        inputs = len(list(data.glob("input_*.pb")))
        yield tensors(data, "input", inputs), tensors(data, "output", len(model.graph.output))


def _one_line(problem: UserError) -> str:
    """The reason alone: what is listed below the headline, or the headline."""
    lines = problem.what.splitlines()
    reasons = dict.fromkeys(line.split("  ")[-1].strip() for line in lines[1:])
    return "; ".join(reasons) if reasons else lines[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
