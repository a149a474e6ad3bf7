"""The page of `bench results`: each table beside its command, and what was not measured for it says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from codegen.compilers import find_riscv_compilers
from toolkit.bench.host import MODELS
from toolkit.bench.peers import PEERS, peers_of
from toolkit.bench.results import Section, _beside, _kept, surroundings
from toolkit.bench.rv32 import Row
from toolkit.cli import main
from toolkit.cli.bench_runs import read_kept

RECORDS = Path(__file__).parent.parent / "benchmarks"


def test_every_section_names_its_command_and_its_record() -> None:
    sections = list(_kept(RECORDS, read_kept))
    assert [each.record for each in sections if each.record]
    for each in sections:
        text = each.markdown()
        assert text.startswith(f"## {each.title}\n\n```\n$ edgetrain bench ")
        assert each.record is not None and f"taken from {each.record}" in text
        assert (RECORDS.parent / each.record).is_file()


def test_no_record_no_section(tmp_path: Path) -> None:
    assert not list(_kept(tmp_path, read_kept))


def test_peers_stand_below_our_row() -> None:
    row = Row("resnet8", "none", "none", "infer", "qemu-rv32", "rv32imafc", 18_000_000, 12_501_632, 1.44, 12_501_632,
              1.44, 18_908, 311_000, 330_000, 200_000)  # fmt: skip
    lines = _beside([row]).splitlines()
    assert lines[2].startswith("| resnet8 | infer | **edgetrain** | 18,000,000 | 1.44 | 330,000 | 200,000 |")
    names = [line.split("|")[3].strip() for line in lines[3 : 3 + len(peers_of("resnet8", "infer"))]]
    assert names[:2] == ["onnx2c", "emx-onnx-cgen"]
    assert {peer.model for peer in PEERS} <= set(MODELS)


def test_the_surroundings_have_date_machine_and_versions() -> None:
    text = "\n".join(surroundings())
    assert "edgetrain " in text and "numpy " in text and "logical cores" in text
    assert Section("a", ("b",), "c").markdown() == "## a\n\n```\n$ b\n```\n\nc"


@pytest.mark.slow
@pytest.mark.emulator
@pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed")
@pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed")
def test_the_quick_page_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "results.md"
    assert main(["bench", "results", "--quick", "-o", str(page), "--records", str(RECORDS), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    text = page.read_text()
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == told["sections"]
    assert "| mlp | infer | **edgetrain** |" in text and "| mlp | train | 32 |" in text
