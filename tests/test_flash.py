"""Flashing: images of our own are what their formats say, and the board's tool is called with what it needs."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest
from click.testing import CliRunner

from codegen.board import list_boards, load_board
from codegen.build import build_firmware, find_riscv_compilers
from codegen.emit import emit
from codegen.errors import BackendError
from codegen.images import flat_binary, uf2
from codegen.project import write_project
from toolkit.cli import main, program
from toolkit.pipeline import Options, compile_model

pytestmark = pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed")

TOOL = """#!/bin/sh
echo "$@" >> {log}
exit {code}
"""


def _built(board_name: str, place: Path) -> Path:
    board = load_board(board_name)
    model = compile_model("digits-cnn", Options(train="last:2", fma=board.fma)).program
    emit(model, place, "edgetrain")
    write_project(place, model, board, "edgetrain")
    build_firmware(place, board)
    return place


@pytest.fixture(scope="module")
def rp2350(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _built("rp2350", tmp_path_factory.mktemp("rp2350"))


@pytest.fixture(scope="module")
def esp32c3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _built("esp32c3", tmp_path_factory.mktemp("esp32c3"))


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def _install(tools: Path, name: str, code: int = 0) -> Path:
    log = tools.parent / f"{name}.log"
    (tools / name).write_text(TOOL.format(log=log, code=code))
    (tools / name).chmod(0o755)
    return log


# ---- images


def test_a_flat_binary_is_what_lies_at_the_addresses_where_it_is_stored(rp2350: Path, esp32c3: Path) -> None:
    start, content = flat_binary(rp2350 / "firmware.elf")
    assert start == 0x10000000 and content[:4] == struct.pack("<I", 0xFFFFDED3)
    start, content = flat_binary(esp32c3 / "firmware.elf")
    assert start == 0x42000000 and content[:8] == struct.pack("<I", 0xAEDB041D) * 2
    # Constants follow the code, though their addresses lie far from it.
    image = build_firmware(esp32c3, load_board("esp32c3")).sizes
    assert len(content) == image["text"] + image["rodata"] + image["data"]


def test_uf2_gives_every_byte_its_address() -> None:
    content = bytes(range(256)) * 2 + b"the rest"
    blocks = uf2(0x10000000, content, 0xE48BFF5A)
    assert len(blocks) == 3 * 512
    back = {}
    for number in range(3):
        block = blocks[512 * number : 512 * (number + 1)]
        magic, second, flags, address, size, index, count, family = struct.unpack("<8I", block[:32])
        assert (magic, second, flags, size) == (0x0A324655, 0x9E5D5157, 0x2000, 256)
        assert (index, count, family) == (number, 3, 0xE48BFF5A)
        assert struct.unpack("<I", block[-4:])[0] == 0x0AB16F30 and block[288:508] == bytes(220)
        back.update({address + i: byte for i, byte in enumerate(block[32:288])})
    assert bytes(back[0x10000000 + i] for i in range(len(content))) == content
    assert back[0x10000000 + len(content)] == 0xFF


def test_what_is_no_firmware_is_refused(tmp_path: Path) -> None:
    (tmp_path / "firmware.elf").write_bytes(b"not an ELF file")
    with pytest.raises(BackendError, match="is no ELF file"):
        flat_binary(tmp_path / "firmware.elf")


# ---- the command


def test_the_tool_gets_the_image_that_we_write(rp2350: Path, tools: Path) -> None:
    log = _install(tools, "picotool")
    answer = CliRunner().invoke(program, ["flash", str(rp2350), "--json"], catch_exceptions=False)
    told = json.loads(answer.stdout)
    assert told["flashed"] and told["target"] == "rp2350"
    assert log.read_text() == f"load -x {rp2350 / 'firmware.uf2'}\n"
    assert (rp2350 / "firmware.uf2").stat().st_size == told["bytes"] and told["bytes"] % 512 == 0


def test_a_missing_tool_is_reported_with_the_way_to_install_it(
    esp32c3: Path, tools: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["flash", str(esp32c3), "--port", "/dev/ttyUSB0"]) == 2
    said = capsys.readouterr().err
    assert "esptool is not installed" in said and "pip install esptool" in said
    assert not (esp32c3 / "firmware.bin").exists()


def test_a_port_is_asked_for_where_the_tool_needs_one_and_handed_on(
    esp32c3: Path, tools: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = _install(tools, "esptool")
    assert main(["flash", str(esp32c3)]) == 2 and "needs a port" in capsys.readouterr().err
    assert not log.exists()
    assert main(["flash", str(esp32c3), "--port", "/dev/ttyACM3"]) == 0
    assert log.read_text() == f"--chip esp32c3 --port /dev/ttyACM3 write-flash 0x0 {esp32c3 / 'firmware.bin'}\n"


def test_a_tool_that_fails_makes_the_command_fail(
    rp2350: Path, tools: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _install(tools, "picotool", code=7)
    assert main(["flash", str(rp2350)]) == 2
    assert "picotool ended with 7" in capsys.readouterr().err


def test_a_dry_run_starts_nothing(rp2350: Path, tools: Path) -> None:
    log = _install(tools, "picotool")
    answer = CliRunner().invoke(program, ["flash", str(rp2350), "--dry-run"], catch_exceptions=False)
    assert "would run: picotool load -x" in answer.stdout and not log.exists()


def test_a_folder_that_is_not_built_or_is_none_of_ours_says_what_to_do(
    rp2350: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["flash", str(tmp_path)]) == 2 and "no target.json" in capsys.readouterr().err
    (tmp_path / "target.json").write_text((rp2350 / "target.json").read_text())
    assert main(["flash", str(tmp_path)]) == 2 and f"make -C {tmp_path}" in capsys.readouterr().err
    (tmp_path / "target.json").write_text("[1]")
    assert main(["flash", str(tmp_path)]) == 2 and "is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in list_boards() if load_board(name).flash])
def test_every_command_line_is_filled_in_completely(name: str) -> None:
    flash = load_board(name).flash
    assert flash is not None and flash.commands and flash.install
    words = [word for line in flash.commands for word in line]
    known = {"{image}", "{elf}", "{folder}", "{port}"}


    assert {found for word in words for found in re.findall(r"\{\w*\}", word)} <= known
    assert any("{image}" in word or "{elf}" in word for word in words)
