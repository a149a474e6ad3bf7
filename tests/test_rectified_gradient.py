"""Which gradients of activations become the end of the gradient before them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.op_cases import Case
from tests.support import assert_parity, floats_with_special
from toolkit.ops.add import Add
from toolkit.ops.clip import ClipGrad
from toolkit.ops.rectified_gradient import RectifiedGradient
from toolkit.ops.relu import ReluGrad
from toolkit.pipeline import Compiled, Options, compile_model
from toolkit.sim.parity import verify_bits
from toolkit.train.codecs import parse_save


def _activation(case: Case, value: str, ceiling: float | None) -> str:
    if ceiling is None:
        return case.node("Relu", value)
    return case.node("Clip", value, case.array(0.0, "float32"), case.array(ceiling, "float32"))


def _model(
    folder: Path, channels: int = 17, groups: int = 1, ceiling: float | None = None, beside: bool = False
) -> Path:
    """Two layers with an activation between them; `beside`: whose output an addition reads too."""
    case = Case((2, 4, 6, 6), 3)
    active = _activation(case, case.node("Conv", "x", case.weight(channels, 4, 3, 3), case.weight(channels)), ceiling)
    weight = case.weight(channels, channels // groups, 3, 3)
    layer = case.node("Conv", active, weight, group=groups, pads=[1] * 4)
    if beside:
        case.node("Add", layer, active)
    path = folder / "case.onnx"
    path.write_bytes(case.model().SerializeToString())
    return path


def _compiled(path: Path, **options: object) -> Compiled:
    compiled = compile_model(path, Options(train="all", **options))  # type: ignore[arg-type]
    report = verify_bits(compiled, ["reference", "host"], steps=2)
    assert report.differing_bits == 0 < report.compared_bits
    return compiled


def _kernels(compiled: Compiled) -> set[str]:
    return {step.kernel for step in compiled.program.functions["train_step"].steps}


def _ends(compiled: Compiled) -> int:
    nodes = compiled.graphs["train_step"].nodes
    assert not any(isinstance(node.op, ReluGrad | ClipGrad) for node in nodes)
    return sum(isinstance(node.op, RectifiedGradient) for node in nodes)


@pytest.mark.parametrize(
    ("groups", "ceiling", "kernel"),
    [(1, None, "et_conv_grad_input_gated_f32"), (17, 6.0, "et_depthwise_grad_input_gated_f32")],
)
def test_a_gradient_takes_that_of_the_activation_after_it(
    groups: int, ceiling: float | None, kernel: str, tmp_path: Path
) -> None:
    compiled = _compiled(_model(tmp_path, 17, groups, ceiling))
    assert _ends(compiled) == 1
    assert kernel in _kernels(compiled) and "ET_FORM_GATE" in compiled.program.forms


def test_a_sum_of_gradients_takes_that_of_the_activation_after_it(tmp_path: Path) -> None:
    compiled = _compiled(_model(tmp_path, beside=True))
    assert _ends(compiled) == 1
    assert {"et_add_gated_f32", "et_conv_grad_input_f32"} <= _kernels(compiled)


def test_channels_that_fill_no_vector_stay(tmp_path: Path) -> None:
    compiled = _compiled(_model(tmp_path, channels=8))
    assert {"et_conv_grad_input_f32", "et_relu_grad_f32"} <= _kernels(compiled)


def test_bounds_that_are_no_relu_stay(tmp_path: Path) -> None:
    kernels = _kernels(_compiled(_model(tmp_path, ceiling=1.0)))  # clamp passes at 0
    assert {"et_conv_grad_input_f32", "et_pass_masked_f32"} <= kernels


def test_what_is_made_again_for_the_backward_pass_stays(tmp_path: Path) -> None:
    compiled = _compiled(_model(tmp_path), save=parse_save("*Relu*=fp16"))
    assert not any(isinstance(node.op, RectifiedGradient) for node in compiled.graphs["train_step"].nodes)


@given(st.integers(1, 70), st.integers(0, 2**31), st.sampled_from([(1e-45, np.inf), (1e-45, 5.9999995), (0.5, 1.0)]))
def test_the_sum_has_the_bits_of_the_reference(count: int, seed: int, bounds: tuple[float, float]) -> None:
    op = RectifiedGradient(Add(), *bounds)
    assert_parity(op, [floats_with_special(seed + index, count) for index in range(3)])
