"""Which activations become the end of the layer before them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.op_cases import Case
from toolkit.ops.clip import Clip
from toolkit.ops.rectified_layer import RectifiedLayer
from toolkit.ops.relu import Relu
from toolkit.pipeline import Compiled, Options, compile_model
from toolkit.sim.parity import verify_bits


def _compiled(case: Case, folder: Path, **options: str) -> Compiled:
    path = folder / "case.onnx"
    path.write_bytes(case.model().SerializeToString())
    return compile_model(str(path), Options(**options))  # type: ignore[arg-type]


def _kernels(compiled: Compiled, function: str = "infer") -> set[str]:
    return {step.kernel for step in compiled.program.functions[function].steps}


def _convolution(case: Case, groups: int = 1) -> str:
    return case.node("Conv", case.current or "x", case.weight(4, 4 // groups, 3, 3), case.weight(4), group=groups)


def _image() -> Case:
    case = Case((1, 4, 6, 6), 3)
    case.current = "x"
    return case


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("ceiling", [None, 6.0])
def test_a_layer_takes_the_activation_after_it(groups: int, ceiling: float | None, tmp_path: Path) -> None:
    case = _image()
    layer = _convolution(case, groups)
    if ceiling is None:
        case.node("Relu", layer)
    else:
        case.node("Clip", layer, case.array(0.0, "float32"), case.array(ceiling, "float32"))
    compiled = _compiled(case, tmp_path, train="all")
    for graph in compiled.graphs.values():
        assert not any(isinstance(node.op, Relu | Clip) for node in graph.nodes)
        assert sum(isinstance(node.op, RectifiedLayer) for node in graph.nodes) == 1
    assert f"et_{'conv' if groups == 1 else 'depthwise'}_relu_f32" in _kernels(compiled, "train_step")
    assert ("ET_FORM_CEILING" in compiled.program.forms) == (ceiling is not None)
    report = verify_bits(compiled, ["reference", "host"], steps=2)
    assert report.differing_bits == 0 < report.compared_bits


@pytest.mark.parametrize("bounds", [(-0.0, 6.0), (-1.0, 1.0), (0.0, 0.0)])
def test_bounds_that_are_no_relu_stay(bounds: tuple[float, float], tmp_path: Path) -> None:
    case = _image()
    case.node("Clip", _convolution(case), *(case.array(bound, "float32") for bound in bounds))
    assert {"et_conv_f32", "et_clip_f32"} <= _kernels(_compiled(case, tmp_path))


def test_what_something_else_reads_stays(tmp_path: Path) -> None:
    case = _image()
    layer = _convolution(case)
    case.node("Add", layer, case.node("Relu", layer))
    assert {"et_conv_f32", "et_relu_f32"} <= _kernels(_compiled(case, tmp_path))


def test_masks_of_a_relu_read_its_output(tmp_path: Path) -> None:
    case = _image()
    case.node("Relu", _convolution(case))
    case.node("GlobalAveragePool", case.current)
    compiled = _compiled(case, tmp_path, train="all")
    kernels = _kernels(compiled, "train_step")
    assert "et_relu_f32" not in kernels and {"et_conv_relu_f32", "et_mask_f32"} <= kernels
    report = verify_bits(compiled, ["reference", "host"], steps=2)
    assert report.differing_bits == 0 < report.compared_bits


@pytest.mark.parametrize("ceiling", [None, 6.0])
def test_a_sum_takes_the_activation_after_it(ceiling: float | None, tmp_path: Path) -> None:
    case = _image()
    layer = _convolution(case, groups=4)
    case.current = "x"
    case.node("Add", layer, _convolution(case, groups=4))
    if ceiling is None:
        case.node("Relu", case.current)
    else:
        case.node("Clip", case.current, case.array(0.0, "float32"), case.array(ceiling, "float32"))
    compiled = _compiled(case, tmp_path, train="all")
    for function in ("infer", "train_step"):
        assert "et_add_relu_f32" in _kernels(compiled, function)
        assert not {"et_add_f32", "et_relu_f32", "et_clip_f32"} & _kernels(compiled, function)
    report = verify_bits(compiled, ["reference", "host"], steps=2)
    assert report.differing_bits == 0 < report.compared_bits


def test_a_broadcast_sum_has_no_such_kernel(tmp_path: Path) -> None:
    case = _image()
    case.node("Add", _convolution(case), case.array([[[[0.5]], [[1.0]], [[-1.0]], [[0.0]]]], "float32"))
    case.node("Mul", case.current, case.current)
    case.node("Add", case.current, case.array([[[0.5]]], "float32"))
    case.node("Relu", case.current)
    assert "et_relu_f32" in _kernels(_compiled(case, tmp_path))
