"""`edgetrain bench compile`: what is timed is what users run, and nothing is timed that fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from toolkit.bench.compile_time import CompileRow, compile_markdown
from toolkit.cli.bench_compile import compile_time
from toolkit.errors import UserError


def test_commands_are_those_that_users_run(tmp_path: Path) -> None:
    kept = tmp_path / "rows.jsonl"
    run = CliRunner().invoke(
        compile_time,
        ["digits-cnn", "autoencoder", "--train", "last:1", "--rounds", "1", "--results", str(kept), "--json"],
        catch_exceptions=False,
    )
    rows = json.loads(run.stdout)["rows"]
    assert [row["command"] for row in rows] == [
        "edgetrain --help",
        "edgetrain compile digits-cnn --train last:1 --target qemu-rv32",
        "edgetrain compile autoencoder --train last:1 --target qemu-rv32 --loss mse",
    ]
    assert all(0 < row["minimum"] <= row["seconds"] and row["rounds"] == 1 for row in rows)
    assert [json.loads(line) for line in kept.read_text().splitlines()] == rows


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_what_was_written_is_built_if_asked_for() -> None:
    words = ["digits-cnn", "--train", "none", "--target", "host", "--rounds", "1", "--make", "--json"]
    run = CliRunner().invoke(compile_time, words, catch_exceptions=False)
    commands = [row["command"] for row in json.loads(run.stdout)["rows"]]
    assert commands[1:] == ["edgetrain compile digits-cnn --train none --target host", "make of that"]


@pytest.mark.parametrize(
    ("words", "said"),
    [(["no-such"], "the zoo has no model"), (["digits-cnn", "--quant", "no-such"], "no quantization")],
)
def test_what_fails_is_not_timed(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        CliRunner().invoke(compile_time, [*words, "--rounds", "1"], catch_exceptions=False)


def test_the_table_has_median_and_minimum() -> None:
    table = compile_markdown([CompileRow("edgetrain --help", 0.06, 0.05, 3)])
    assert "| `edgetrain --help` | 0.06 (0.05) |" in table and "rounds: 3." in table
