"""The forms of inner loops that odd shapes ask for give the same bits on RISC-V, trained in float32 and run in int8."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from codegen.board import load_board
from codegen.compilers import find_riscv_compilers
from toolkit.bench.rv32 import compile_for
from toolkit.bench.shapes import NONE
from toolkit.pipeline import Compiled, Options, compile_model
from toolkit.sim.parity import verify_bits
from toolkit.train.step import TrainingOptions
from toolkit.zoo.single import LayerShape, single_layer

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed"),
    pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed"),
]

SHAPES = {
    "ET_FORM_DEPTHWISE": LayerShape(6, (9, 8), 6, (4, 5), (3, 2), groups=6, pads=(2, 2, 1, 2)),
    "ET_FORM_DEPTHWISE_ROLLS": LayerShape(5, (7, 9), 5, (2, 5), (2, 1), groups=5, pads=(1, 2, 0, 2)),
    "ET_FORM_DEPTHWISE_STRIDES": LayerShape(6, (9, 12), 6, (2, 3), (1, 2), groups=6, pads=(0, 1, 0, 1)),
    "ET_FORM_TEN": LayerShape(21, (1, 1), 10, (1, 1), pads=NONE),
    "ET_FORM_GROUPED": LayerShape(6, (5, 6), 12, groups=6),
    "ET_FORM_TAPS": LayerShape(2, (6, 7), 3, (3, 5), pads=(1, 2, 1, 2)),
    "ET_FORM_NARROW": LayerShape(5, (4, 5), 7, (2, 3), pads=(0, 1, 1, 1)),
    "ET_FORM_NARROW_GRADIENT": LayerShape(7, (5, 9), 5, (2, 3), pads=(0, 1, 1, 1)),
    "ET_FORM_STILL": LayerShape(2, (7, 9), 3, (2, 3), pads=(0, 1, 1, 1)),
    "ET_FORM_DOT": LayerShape(19, (1, 1), 1, (1, 1), pads=NONE),
}

CODE_SHAPES = {
    "ET_FORM_CODES": SHAPES["ET_FORM_DEPTHWISE"],
    "ET_FORM_CODES_FLAT": LayerShape(15, (3, 5), 12, (1, 1), groups=3, pads=NONE),
    "ET_FORM_CODES_NARROW": LayerShape(10, (5, 4), 7, (1, 1), pads=NONE),
    "ET_FORM_CODES_SLIDE": LayerShape(5, (9, 8), 10, stride=(3, 2), groups=5, pads=(1, 0, 0, 1)),
}


def _check(compiled: Compiled, form: str, profile: str) -> None:
    assert form in compiled.program.forms
    report = verify_bits(compiled, ["reference", "host", "qemu-rv32"], steps=1, profile=profile)
    assert report.differing_bits == 0, report.first_difference
    assert report.compared_bits > 0


@pytest.mark.parametrize("form", [
    "ET_FORM_DEPTHWISE", *(pytest.param(form, marks=pytest.mark.slow) for form in sorted(SHAPES)[1:])
])  # fmt: skip
@pytest.mark.parametrize("profile", ["rv32imafc", "rv32imac"])
def test_training_is_the_same_to_the_bit(form: str, profile: str, tmp_path: Path) -> None:
    path = tmp_path / "single.onnx"
    path.write_bytes(single_layer(SHAPES[form]).SerializeToString())
    fma = load_board("qemu-rv32").with_profile(profile).fma
    _check(compile_model(str(path), Options(train="all", fma=fma, training=TrainingOptions("mse"))), form, profile)


@pytest.mark.slow
@pytest.mark.parametrize("form", CODE_SHAPES)
def test_int8_is_the_same_to_the_bit(form: str, tmp_path: Path) -> None:
    path = tmp_path / "single.onnx"
    path.write_bytes(single_layer(CODE_SHAPES[form], followed=True).SerializeToString())
    _check(compile_for(str(path), "int8", "none", "rv32imac", TrainingOptions()), form, "rv32imac")
