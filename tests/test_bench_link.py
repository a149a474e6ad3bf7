"""`edgetrain bench link`: bytes as they really are on the line, and the bar that the link has to clear."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from click.testing import CliRunner

from codegen.compilers import find_riscv_compilers
from tests.test_link import Board, session_on
from toolkit.bench.link import BAR, BAUD, Overhead, line_bytes, overhead_markdown
from toolkit.cli.bench_link import link
from toolkit.link.messages import Sample

ON_RV32 = [
    pytest.mark.emulator,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed"),
    pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed"),
]
ROW = Overhead("board", "rv32imafc", "uint8", 96.0, "", 576, 15_000_000, 48_000)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return Board(tmp_path_factory.mktemp("bench"))


@pytest.mark.parametrize("payload_bytes", [192, 60, 30])
@pytest.mark.parametrize("coded", [True, False])
def test_bytes_on_the_line_are_computed_as_they_are(board: Board, payload_bytes: int, coded: bool) -> None:
    session = session_on(board)
    session.board = replace(session.board, payload_bytes=payload_bytes)
    traffic = session.traffic
    before = traffic.sent + traffic.received
    inputs = 16 if coded else 64
    session.train(Sample(b"\1" * inputs, b"\1" * 16, coded))
    assert traffic.sent + traffic.received - before == line_bytes(inputs, 16, payload_bytes)


def test_an_overhead_is_line_and_link_as_part_of_the_step() -> None:
    assert ROW.line_ms == 1000 * 5760 / BAUD == 6.25
    assert (ROW.step_ms, ROW.link_ms, ROW.overhead) == (156.25, 0.5, 0.0432)
    assert replace(ROW, mhz=ROW.most_mhz).overhead == pytest.approx(BAR)
    assert "| board | uint8 | 96 | 156.2 | 6.25 | 0.50 | 4.32% | 112 MHz |" in overhead_markdown([ROW])


@pytest.mark.parametrize("ran", [pytest.param("ds-cnn", marks=ON_RV32)])
def test_the_link_takes_less_than_a_twentieth_of_a_step(ran: str) -> None:
    run = CliRunner().invoke(link, [ran, "--pieces", "1", "--json"], catch_exceptions=False)
    told = json.loads(run.stdout)
    coded = [row for row in told["overhead"] if row["samples"] == "uint8"]
    assert len(coded) >= 5 and all(row["overhead"] < BAR for row in coded)
    assert all(row["link_instructions"] < 200 * row["line_bytes"] for row in told["overhead"])
    assert len(told["throughput"]) == 4
    assert all(0 < row["share"] <= row["best"] and row["used"] > 0 for row in told["throughput"]), told["throughput"]
