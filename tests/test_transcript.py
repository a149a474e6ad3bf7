"""The transcripts in README.md and docs/: a person who types their commands in an empty folder gets what they show."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from codegen.compilers import find_riscv_compilers

ROOT = Path(__file__).resolve().parent.parent
MARK = "<!-- transcript: tests/test_transcript.py types it -->"
MOST_COMMANDS = 5
# What depends on the machine and its compiler: seconds, instructions, and requests that were sent again.
_VARIES = re.compile(r"\d[\d.,]* (?=s\b|ms\b|instructions\b|bytes over|requests)")


@dataclass
class Typed:
    command: str
    shown: list[str] = field(default_factory=list)


def transcripts() -> dict[str, list[Typed]]:
    """Document -> what is typed there, and what follows."""
    found = {}
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text()
        if MARK not in text:
            continue
        block = text.split(MARK)[1].split("```")[1].strip("\n")
        typed: list[Typed] = []
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                typed.append(Typed(" ".join(line[2:].split())))
            else:
                typed[-1].shown.append(line)
        found[str(path.relative_to(ROOT))] = typed
    return found


def is_installation(command: str) -> bool:
    """Those that this checkout stands in for: what they install must be what it asks for."""
    return "pip install" in command or "apt-get install" in command


def same(text: str) -> str:
    return _VARIES.sub("# ", text)


def test_there_is_a_transcript_of_at_most_five_commands() -> None:
    assert transcripts()
    for name, typed in transcripts().items():
        assert len(typed) <= MOST_COMMANDS, name
        assert any("finetune" in each.command for each in typed) and any("--pull" in each.command for each in typed)


def test_what_a_transcript_installs_is_there_to_be_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for typed in transcripts().values():
        commands = [each.command for each in typed if is_installation(each.command)]
        (pip,) = [command for command in commands if "pip install" in command]
        extras = re.search(r"edgetrain\[([\w,]+)\]", pip)
        assert extras and set(extras[1].split(",")) <= set(project["optional-dependencies"])
        assert "scikit-learn" in pip  # where the digits come from


@pytest.mark.slow
@pytest.mark.emulator
@pytest.mark.parametrize("name", list(transcripts()))
def test_a_transcript_says_what_happens(name: str, tmp_path: Path) -> None:
    if shutil.which("qemu-system-riscv32") is None or not find_riscv_compilers():
        pytest.skip("QEMU or a compiler for RISC-V is not installed")
    tools, empty = tmp_path / "tools", tmp_path / "empty"
    tools.mkdir()
    empty.mkdir()
    (tools / "edgetrain").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m toolkit.cli "$@"\n')
    (tools / "edgetrain").chmod(0o755)
    paths = {"PATH": os.pathsep.join([str(tools), os.environ["PATH"]]), "PYTHONPATH": str(ROOT)}
    for typed in transcripts()[name]:
        if is_installation(typed.command):
            continue
        shell, environment = ["sh", "-c", typed.command], {**os.environ, **paths}
        ran = subprocess.run(shell, cwd=empty, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{typed.command}\n{ran.stderr[-2000:]}"
        # What goes on while it works is on stderr; a transcript shows what is said at the end.
        assert [same(line) for line in ran.stdout.splitlines()] == [same(line) for line in typed.shown], typed.command
    assert (empty / "turned.onnx").stat().st_size > 0
