"""Which sums become the end of the layer before them."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen.program import Function
from tests.op_cases import Case
from toolkit.pipeline import Compiled, Options, compile_model
from toolkit.sim.parity import verify_bits


def _image() -> Case:
    case = Case((1, 16, 12, 12), 3)
    case.current = "x"
    return case


def _convolution(case: Case, source: str, groups: int = 1) -> str:
    """So small that a kernel of both is worth its code."""
    return case.node("Conv", source, case.weight(16, 16 // groups, 1, 1), case.weight(16), group=groups)


def _norm(case: Case, source: str) -> str:
    """A convolution and its batch normalization."""
    layer = case.node("Conv", source, case.weight(16, 16, 1, 1))
    gains = case.array([9.0 - c for c in range(16)], "float32")  # so large that some results reach a ceiling of 6
    positive = case.array([1.0 + 0.1 * c for c in range(16)], "float32")
    return case.node("BatchNormalization", layer, gains, case.weight(16), case.weight(16), positive)


def _compiled(case: Case, folder: Path, train: str = "none") -> Compiled:
    path = folder / "case.onnx"
    path.write_bytes(case.model().SerializeToString())
    return compile_model(str(path), Options(train=train))


def _kernels(function: Function) -> list[str]:
    return [step.kernel for step in function.steps]


@pytest.mark.parametrize("relu", [False, True])
def test_a_convolution_takes_the_sum_after_it(relu: bool, tmp_path: Path) -> None:
    case = _image()
    entry = case.node("Relu", _convolution(case, "x"))
    layer = _convolution(case, entry)
    case.node("Add", *((layer, entry) if relu else (entry, layer)))
    if relu:
        case.node("Relu", case.current)
    compiled = _compiled(case, tmp_path, "all")
    kernel = "et_conv_add_relu_f32" if relu else "et_conv_add_f32"
    assert all(_kernels(function).count(kernel) == 1 for function in compiled.program.functions.values())
    assert "ET_FORM_ADDEND" in compiled.program.forms
    report = verify_bits(compiled, ["reference", "host"], steps=2)
    assert report.differing_bits == 0 < report.compared_bits


def test_the_result_takes_the_place_of_what_is_added(tmp_path: Path) -> None:
    case = _image()
    entry = case.node("Relu", case.current)
    case.node("Add", _convolution(case, _convolution(case, entry)), entry)
    case.node("Relu", _convolution(case, case.current, groups=16))
    function = _compiled(case, tmp_path).program.functions["infer"]
    (step,) = (step for step in function.steps if step.kernel == "et_conv_add_f32")
    addend, y = step.pointers()[-2:]
    assert function.storage[addend.buffer] == function.storage[y.buffer]


def test_the_result_does_not_take_the_place_of_what_the_layer_reads(tmp_path: Path) -> None:
    case = _image()
    entry = case.node("Relu", case.current)
    case.node("Add", _convolution(case, entry), entry)
    case.node("Relu", _convolution(case, case.current, groups=16))
    compiled = _compiled(case, tmp_path)
    assert "et_conv_add_f32" in _kernels(compiled.program.functions["infer"])
    assert verify_bits(compiled, ["reference", "host"], steps=1).differing_bits == 0


def test_of_two_convolutions_the_later_takes_the_sum(tmp_path: Path) -> None:
    case = _image()
    main = _convolution(case, _convolution(case, "x"))
    case.node("Add", main, _convolution(case, "x"))
    kernels = _kernels(_compiled(case, tmp_path).program.functions["infer"])
    assert kernels[:3] == ["et_conv_f32", "et_conv_f32", "et_conv_add_f32"]


def test_what_something_else_reads_stays(tmp_path: Path) -> None:
    case = _image()
    layer = _convolution(case, "x")
    case.node("Add", layer, case.node("Relu", layer))
    case.node("Add", layer, case.current)
    assert _kernels(_compiled(case, tmp_path).program.functions["infer"]).count("et_add_f32") == 2


def test_twice_the_same_and_broadcasts_stay(tmp_path: Path) -> None:
    case = _image()
    layer = _convolution(case, "x")
    twice = case.node("Add", layer, layer)
    case.node("Add", _convolution(case, twice), case.node("GlobalAveragePool", twice))
    kernels = _kernels(_compiled(case, tmp_path).program.functions["infer"])
    assert {"et_add_f32", "et_add_broadcast_f32"} <= set(kernels)
    assert not any("conv_add" in kernel for kernel in kernels)


def test_a_normalization_in_training_takes_the_sum_and_the_activation_after_it(tmp_path: Path) -> None:
    case = _image()
    entry = case.node("Clip", _norm(case, "x"), case.array(0.0, "float32"), case.array(6.0, "float32"))
    case.node("Relu", case.node("Add", _norm(case, entry), entry))
    compiled = _compiled(case, tmp_path, "all")
    kernels = _kernels(compiled.program.functions["train_step"])
    assert {"et_batch_norm_train_relu_f32", "et_batch_norm_train_add_relu_f32"} <= set(kernels)
    assert not {"et_clip_f32", "et_relu_f32", "et_add_relu_f32"} & set(kernels)
    report = verify_bits(compiled, ["reference", "host"], steps=2)
    assert report.differing_bits == 0 < report.compared_bits


def test_small_code_has_one_kernel_of_normalizations() -> None:
    small, fast = (
        compile_model("small-resnet", Options(train="all", opt=opt)).program.functions["train_step"]  # type: ignore[arg-type]
        for opt in ("size", "speed")
    )
    assert {"et_batch_norm_train_f32", "et_relu_f32", "et_add_relu_f32"} <= set(_kernels(small))
    assert fast.peak < small.peak


def test_models_with_residual_blocks_need_less_memory() -> None:
    for opt in ("speed", "size"):
        function = compile_model("resnet8", Options(opt=opt)).program.functions["infer"]  # type: ignore[arg-type]
        assert function.peak == 2 * 32 * 32 * 16 * 4  # two tensors of a block are alive, not three


def test_small_code_has_none_that_save_no_memory() -> None:
    for opt, fused in (("speed", True), ("size", False)):
        program = compile_model("resnet8", Options(train="all", opt=opt)).program  # type: ignore[arg-type]
        assert ("ET_FORM_ADDEND" in program.forms) == fused
        assert "ET_FORM_ADDEND_NARROW" not in program.forms
        assert program.functions["train_step"].peak <= 360_448  # of separate kernels
