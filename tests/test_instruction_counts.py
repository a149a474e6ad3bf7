"""Whole models never take more instructions than were recorded: for the compilers of the record, to the instruction.

instruction_counts.json holds what `edgetrain bench rv32` counted. Where a change saves instructions, or a compiler is
added, write it again: `python -m tests.test_instruction_counts`, with compilers by name behind it (default: all).
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from codegen.compilers import find, find_riscv_compilers
from toolkit.bench.rv32 import measure

RECORD = Path(__file__).parent / "instruction_counts.json"


@dataclass(frozen=True)
class Case:
    """A model as `measure` takes it."""

    model: str
    quant: str = "none"
    scheme: str = "all"
    profile: str = "rv32imafc"

    @property
    def name(self) -> str:
        """Of its entry in the record."""
        return f"{self.model} {self.quant} {self.scheme} {self.profile}"


QUICK = (Case("digits-cnn"),)
SLOW = (
    *(Case(model) for model in ("mlp", "cnn", "ds-cnn", "resnet8", "mobilenetv1-0.25")),
    *(Case(model, "int8", "none") for model in ("ds-cnn", "resnet8")),
    *(Case(model, profile="rv32imafcv") for model in ("cnn", "ds-cnn", "resnet8")),
    Case("mnist-cnn", "dorefa:w1a2g6", profile="rv32imac"),
    Case("mnist-cnn", "fixed8", profile="rv32imac"),
    Case("mnist-cnn", "fp16:accumulate=native", profile="rv32imafc_zfh"),
)

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed"),
    pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed"),
]


def count(case: Case, compiler: str) -> dict[str, int]:
    """Phase -> instructions."""
    rows = measure(case.model, case.quant, case.scheme, case.profile, compiler)
    return {row.phase: row.instructions for row in rows}


def builds(case: Case, compiler: str) -> bool:
    """gcc 12 knows no vectors and no half floats."""
    return compiler != "gcc" or case.profile in ("rv32imafc", "rv32imac")


def _check(case: Case, compiler: str) -> None:
    record = json.loads(RECORD.read_text())
    installed = {each.name for each in find_riscv_compilers()}
    if compiler not in installed:
        pytest.skip(f"{compiler} for RISC-V is not installed")
    version = find(compiler, "riscv").version()
    if version not in record:
        pytest.skip(f"nothing is recorded of {version}; recorded are {', '.join(record)}")
    recorded = record[version][case.name]
    found = count(case, compiler)
    assert found.keys() == recorded.keys()
    for phase, instructions in found.items():
        more = f"{case.name} {phase}, {compiler}: {instructions:,} instructions, recorded are {recorded[phase]:,}"
        assert instructions <= recorded[phase], more


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_a_small_model_takes_no_more_instructions_than_recorded(case: Case, compiler: str) -> None:
    _check(case, compiler)


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("case", SLOW, ids=lambda case: case.name)
def test_models_take_no_more_instructions_than_recorded(case: Case, compiler: str) -> None:
    if not builds(case, compiler):
        pytest.skip(f"{compiler} does not know all of {case.profile}")
    _check(case, compiler)


def test_the_record_is_complete() -> None:
    for version, counts in json.loads(RECORD.read_text()).items():
        compiler = "zig" if version.startswith("zig") else "gcc"
        assert list(counts) == [case.name for case in (*QUICK, *SLOW) if builds(case, compiler)]


def _write(compilers: list[str]) -> None:
    record = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    for compiler in compilers:
        counts = {}
        for case in (*QUICK, *SLOW):
            if builds(case, compiler):
                counts[case.name] = count(case, compiler)
                print(compiler, case.name, counts[case.name], flush=True)
        record[find(compiler, "riscv").version()] = counts
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    _write(sys.argv[1:] or [name for name in ("gcc", "zig") if name in {c.name for c in find_riscv_compilers()}])
