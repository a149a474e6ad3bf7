"""The same bits on RISC-V: for every op, a model around it trained in firmware, with float hardware and without."""

from __future__ import annotations

import itertools
import shutil
from typing import Any

import pytest
from hypothesis import given, settings

from codegen.board import load_board
from codegen.compilers import find_riscv_compilers
from tests.op_cases import CASES, models
from tests.test_parity import compile_case
from toolkit.pipeline import Options
from toolkit.sim.parity import verify_bits
from toolkit.zoo import build

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed"),
    pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed"),
]


VECTORS = pytest.mark.skipif(
    not {"zig", "clang"} & {compiler.family for compiler in find_riscv_compilers()}, reason="no compiler has vectors"
)
WITH_VECTORS = ("Conv", "Gemm", "MatMul")  # of which kernels have a form for vector registers


# Where there is little time, these stand for all ops on cores with float instructions: every op is run without them.
QUICK_WITH_FLOATS = (*WITH_VECTORS, "BatchNormalization", "Softmax", "AveragePool", "MaxPool", "Relu", "Sigmoid", "Add")


def _ops_and_profiles() -> list[Any]:
    cases = []
    for op, profile in itertools.product(sorted(CASES), ("rv32imac", "rv32imafc", "rv32imafcv")):
        quick = profile == "rv32imac" or (profile == "rv32imafc" and op in QUICK_WITH_FLOATS)
        marks = [] if quick else [pytest.mark.slow]
        cases.append(pytest.param(op, profile, marks=[*marks, VECTORS] if profile == "rv32imafcv" else marks))
    return cases


@pytest.mark.parametrize(("op", "profile"), _ops_and_profiles())
def test_training_is_the_same_to_the_bit_on_rv32(op: str, profile: str) -> None:
    _check(op, profile, 1)


@VECTORS
@pytest.mark.parametrize("op", WITH_VECTORS)
def test_vector_registers_hold_the_same_bits(op: str) -> None:
    _check(op, "rv32imafcv", 1)


def _check(op: str, profile: str, examples: int) -> None:
    @settings(max_examples=examples)
    @given(model=models(op))
    def check(model: Any) -> None:
        fma = load_board("qemu-rv32").with_profile(profile).fma
        compiled = compile_case(model, Options(train="all", fma=fma))
        report = verify_bits(compiled, ["reference", "qemu-rv32"], steps=1, profile=profile)
        assert report.differing_bits == 0, report.first_difference
        assert report.compared_bits > 0

    check()


@pytest.mark.parametrize("model", [
    "mobilenetv3-small", *(pytest.param(model, marks=pytest.mark.slow) for model in ("mobilenetv2", "proxyless"))
])  # fmt: skip
def test_models_of_inverted_residual_blocks_train_to_the_same_bits_everywhere(model: str) -> None:
    compiled = compile_case(build(model, (3, 16, 16)), Options(train="all"))
    report = verify_bits(compiled, ["reference", "host", "qemu-rv32"], steps=1)
    assert report.differing_bits == 0, report.first_difference
    assert report.compared_bits > 0
