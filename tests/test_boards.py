"""Every board: what comes with edgetrain links for all of them, and runs on those that an emulator knows."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from codegen.board import (
    BoardFacts,
    Cpu,
    EspIdf,
    FlashFacts,
    LinkFacts,
    MemoryRegion,
    PlatformIo,
    RunFacts,
    Toolchain,
    list_boards,
    load_board,
)
from codegen.build import build_firmware, find_riscv_compilers, sizes
from codegen.emit import emit
from codegen.errors import BackendError
from codegen.project import write_project
from toolkit.cli import program
from toolkit.errors import UserError
from toolkit.link.messages import Region
from toolkit.link.session import Session
from toolkit.pipeline import Compiled, Options, compile_model
from toolkit.report.fitting import check_fits
from toolkit.sim.backend import read_params
from toolkit.sim.host import HostBackend
from toolkit.sim.parity import verify_bits
from toolkit.sim.spike import start_emulator

BARE = [name for name in list_boards() if name != "host"]
QUICK = (("hifive1", None), ("qemu-rv64", None))
RUNNABLE = [
    pytest.param(name, profile, marks=() if (name, profile) in QUICK else pytest.mark.slow)
    for name in BARE
    if load_board(name).run
    for profile in (None, *load_board(name).profiles)
]
# The others are run where there is time: `-m "slow or not slow"`.
COMPILERS = ["gcc", pytest.param("zig", marks=pytest.mark.slow), pytest.param("clang", marks=pytest.mark.slow)]
# Those that 256 KiB of flash and 64 KiB of RAM are too little for.
TOO_SMALL_FOR_LENET = {"ch32v307": "SRAM", "gd32vf103": "SRAM", "hifive1": "RAM"}
# Code, weights, arena, and stack with variables, each in a memory of its own: the RAM of QEMU's machine, divided.
SEVERAL = """
[board]
id = "several"
name = "Several memories"
vendor = "-"
url = "-"
sources = ["start.S", "clocks_none.c", "uart_ns16550.c", "count_minstret.c", "exit_virt.c", "memory.c"]
[cpu]
isa = "rv32imafc"
abi = "ilp32f"
[[memory]]
name = "CODE"
origin = 0x8000_0000
size = "1MiB"
attr = "rwx"
use = ["text"]
[[memory]]
name = "WEIGHTS"
origin = 0x8030_0000
size = "1MiB"
use = ["weights"]
[[memory]]
name = "ARENA"
origin = 0x8020_0000
size = "1MiB"
use = ["arena"]
[[memory]]
name = "TCM"
origin = 0x8040_0000
size = "64KiB"
use = ["data", "stack"]
[link]
uart = 0x1000_0000
[run]
emulator = "qemu-system-riscv32"
machine = "virt"
"""


def _compiled(model: str, board: str, profile: str | None = None) -> Compiled:
    return compile_model(model, Options(train="last:2", fma=load_board(board).with_profile(profile).fma))


def _compiler(name: str, allowed: tuple[str, ...]) -> str:
    if name not in [compiler.name for compiler in find_riscv_compilers()] or name not in allowed:
        pytest.skip(f"{name} is not installed, or not for this board")
    return name


def _needs(emulator: str) -> None:
    if shutil.which(emulator) is None or not find_riscv_compilers():
        pytest.skip(f"{emulator} or a compiler is not installed")


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", BARE)
def test_lenet_links_for_every_board_or_is_refused_with_the_reason(name: str, compiler: str, tmp_path: Path) -> None:
    board = load_board(name)
    compiled = _compiled("lenet", name)
    if name in TOO_SMALL_FOR_LENET:
        region = board.region("arena")
        assert region.name == TOO_SMALL_FOR_LENET[name]
        with pytest.raises(UserError, match=rf"{region.name} needs [\d,]+ B of {region.size:,} B"):
            check_fits(compiled, board)
        compiled = _compiled("digits-cnn", name)
    check_fits(compiled, board)
    emit(compiled.program, tmp_path, "edgetrain")
    write_project(tmp_path, compiled.program, board, "edgetrain")
    image = build_firmware(tmp_path, board, _compiler(compiler, board.toolchain.compilers))
    assert image.sizes["arena"] == compiled.program.arena_bytes
    assert image.sizes["params"] == compiled.program.params_bytes
    for use, symbol in (("text", "main"), ("weights", "et_params_start"), ("arena", "et_arena_start")):
        region = board.region(use)  # type: ignore[arg-type]
        assert region.origin <= image.symbols[symbol] < region.origin + region.size
    assert image.symbols["trap_entry"] % 256 == 0 and image.symbols["counting"] % 256 == 0
    stack = board.region("stack")
    assert image.symbols["__stack_top"] == stack.origin + stack.size


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["gcc", "zig", "clang"])
@pytest.mark.parametrize("name", BARE)
def test_the_makefile_builds_for_every_board(name: str, compiler: str, tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    board, compiled = load_board(name), _compiled("digits-cnn", name)
    command = next((c.command for c in find_riscv_compilers() if c.name == compiler), None)
    if command is None:
        pytest.skip(f"{compiler} is not installed")
    emit(compiled.program, tmp_path, "edgetrain")
    write_project(tmp_path, compiled.program, board, "edgetrain")
    made = subprocess.run(
        ["make", f"CC={' '.join(command)}"], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr[-2000:]
    assert sizes(tmp_path / "build" / "firmware.elf")["arena"] == compiled.program.arena_bytes


@pytest.mark.parametrize(("name", "profile"), RUNNABLE)
def test_a_model_trains_to_the_same_bits_on_every_board_that_runs_here(name: str, profile: str | None) -> None:
    board = load_board(name)
    assert board.run is not None and board.run.emulator is not None
    _needs(board.run.emulator)
    compilers = [compiler.name for compiler in find_riscv_compilers()]
    if not set(board.with_profile(profile).toolchain.compilers) & set(compilers):
        pytest.skip("no compiler for this profile is installed")
    report = verify_bits(_compiled("digits-cnn", name, profile), ["host", name], steps=2, profile=profile)
    assert report.differing_bits == 0 and report.compared_bits > 0, report.first_difference


def test_memories_for_each_use_run_to_the_same_bits(tmp_path: Path) -> None:
    _needs("qemu-system-riscv32")
    path = tmp_path / "target.toml"
    path.write_text(SEVERAL)
    compiled = compile_model("digits-cnn", Options(train="all"))
    report = verify_bits(compiled, ["host", str(path)], steps=2)
    assert report.differing_bits == 0 and report.compared_bits > 0, report.first_difference


def test_a_compiler_that_the_core_is_too_much_for_is_refused(tmp_path: Path) -> None:
    board = load_board("qemu-rv32").with_profile("rv32imafcv")
    with pytest.raises(BackendError, match="gcc cannot build for it"):
        build_firmware(tmp_path, board, "gcc")


def test_constants_are_stored_with_code_and_read_through_their_own_addresses(tmp_path: Path) -> None:
    """ESP32-C3: one flash, seen by fetches at 0x42000000 and by loads at 0x3c000000."""
    from elftools.elf.elffile import ELFFile

    board = load_board("esp32c3")
    compiled = _compiled("digits-cnn", "esp32c3")
    emit(compiled.program, tmp_path, "edgetrain")
    write_project(tmp_path, compiled.program, board, "edgetrain")
    for compiler in [each.name for each in find_riscv_compilers()]:
        image = build_firmware(tmp_path, board, compiler)
        with image.elf.open("rb") as stream:
            elf = ELFFile(stream)
            seen = {s.name: (s["sh_addr"], s["sh_size"]) for s in elf.iter_sections()}
            loads = [(s["p_vaddr"], s["p_paddr"]) for s in elf.iter_segments() if s["p_type"] == "PT_LOAD"]
            start = elf.get_section_by_name(".text").data()[:8]
        assert start == bytes.fromhex("1d04dbae") * 2 and seen[".text"][0] == 0x42000000
        address, size = seen[".rodata"]
        assert address - 0x3C000000 == seen[".text"][1] and size > 0
        assert any(there - 0x3C000000 == stored - 0x42000000 for there, stored in loads if there >> 24 == 0x3C)


def test_the_image_block_of_the_rp2350_stands_first(tmp_path: Path) -> None:
    from elftools.elf.elffile import ELFFile

    board = load_board("rp2350")
    compiled = _compiled("digits-cnn", "rp2350")
    emit(compiled.program, tmp_path, "edgetrain")
    write_project(tmp_path, compiled.program, board, "edgetrain")
    if not find_riscv_compilers():
        pytest.skip("no compiler for RISC-V is installed")
    image = build_firmware(tmp_path, board)
    with image.elf.open("rb") as stream:
        text = ELFFile(stream).get_section_by_name(".text")
        words = [int.from_bytes(text.data()[4 * i : 4 * i + 4], "little") for i in range(8)]
    start, top = image.symbols["_start"], image.symbols["__stack_top"]
    assert words == [0xFFFFDED3, 0x11010142, 0x00000344, start, top, 0x000004FF, 0, 0xAB123579]
    assert text["sh_addr"] == 0x10000000 and top == 0x20082000


# ---- the user's own code

SENSOR = """
#include "hooks.h"
extern volatile int told;
volatile int told;
static int given;
et_sample et_on_sample(float *input, int32_t *label)
{
    if (given == 3)
        return ET_NO_SAMPLE;
    for (int i = 0; i < 64; i++)
        input[i] = (float)((i * 7 + given) % 16) / 16.0f;
    label[0] = given++;
    return ET_TRAIN_SAMPLE;
}
void et_on_progress(et_status status, uint32_t step, float loss)
{
    if (status == ET_OK && loss > 0.0f)
        told = (int)step;
}
"""


def test_a_board_trains_on_samples_of_its_own_to_the_same_bits_as_the_pc(tmp_path: Path) -> None:
    _needs("qemu-system-riscv32")
    board = load_board("qemu-rv32")
    compiled = compile_model("digits-cnn", Options(train="all"))
    host = HostBackend(compiled)
    for number in range(3):
        sample = np.array([((i * 7 + number) % 16) / 16 for i in range(64)], np.float32)
        host.train_step([sample.reshape(compiled.program.inputs[0].shape)], np.array([number], np.int32))
    expected = b"".join(value.tobytes() for value in host.state().values())
    host.close()
    emit(compiled.program, tmp_path, "edgetrain")
    write_project(tmp_path, compiled.program, board, "edgetrain")
    (tmp_path / "sensor.c").write_text(SENSOR)
    image = build_firmware(tmp_path, board)
    emulator = start_emulator(image.elf, board)
    try:
        session = Session(emulator.stream, wait_ready=20.0, run_timeout=20.0, attempts=2)
        end = time.monotonic() + 20  # requests of the PC go before samples
        while session.scalars().step < 3 and time.monotonic() < end:
            time.sleep(0.05)
        assert session.scalars().step == 3
        told = image.symbols["told"]
        assert int.from_bytes(emulator.peek(told, 4), "little") == 3
        params = read_params(compiled.program, session.read_region(Region.PARAMS))
    finally:
        emulator.close()
    assert b"".join(value.tobytes() for value in params.values()) == expected


# ---- the commands


def _answer(*arguments: str) -> dict[str, Any]:
    ran = CliRunner().invoke(program, [*arguments, "--json"], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def test_targets_say_whether_they_were_run_or_only_linked() -> None:
    states = {board["id"]: board["state"] for board in _answer("targets")["targets"]}
    assert states["host"] == "this PC" and states["qemu-rv64"] == "run in qemu-system-riscv64"
    assert {name for name, state in states.items() if state == "linked only"} == {
        "bl602", "ch32v307", "esp32c3", "esp32c6", "esp32p4", "gap9", "gd32vf103", "k210", "rp2350"
    }  # fmt: skip
    shown = CliRunner().invoke(program, ["targets", "show", "esp32c3"]).stdout
    assert "linked only" in shown and "flashed by" in shown and "esptool" in shown and "same bytes as IROM" in shown
    assert "not kept, SAVE is refused" in shown
    assert _answer("targets", "show", "rp2350")["states"] == "kept in STORE, up to 520,192 B each"


def test_sizes_come_from_the_elf_file_and_a_board_that_is_too_small_says_why() -> None:
    if "gcc" not in [compiler.name for compiler in find_riscv_compilers()]:
        pytest.skip("gcc for RISC-V is not installed")
    boards = ("--board", "rp2350", "--board", "gd32vf103")
    fits, small = _answer("targets", "sizes", "lenet", "--train", "last:2", "--compiler", "gcc", *boards)["sizes"]
    compiled = _compiled("lenet", "rp2350").program
    assert (fits["weights"], fits["arena"]) == (compiled.params_bytes, compiled.arena_bytes)
    assert fits["flash"] > compiled.flash_bytes and fits["reason"] == ""
    assert "FLASH needs" in small["reason"] and small["flash"] == 0
    table = ["targets", "sizes", "digits-cnn", "--board", "hifive1", "--compiler", "gcc", "--markdown"]
    lines = CliRunner().invoke(program, table, catch_exceptions=False).stdout.splitlines()
    assert lines[1].startswith("| --- |") and lines[2].startswith("| hifive1 | rv32imac | gcc |")


def test_a_board_from_a_users_own_folder_is_compiled_and_built_by_its_path(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "target.toml").write_text(SEVERAL.replace('"clocks_none.c"', '"clocks_own.c"'))
    (own / "clocks_own.c").write_text('#include "board.h"\nvoid et_board_clocks(void)\n{\n}\n')
    path, folder = str(own / "target.toml"), tmp_path / "out"
    ran = CliRunner().invoke(
        program, ["compile", "digits-cnn", "--target", path, "-o", str(folder)], catch_exceptions=False
    )
    assert ran.exit_code == 0, ran.output
    assert (folder / "clocks_own.c").is_file()
    if find_riscv_compilers():
        assert build_firmware(folder, load_board(path)).symbols["et_arena_start"] == 0x80200000


# ---- docs/boards.md


def test_the_guide_names_every_board_profile_and_key() -> None:
    text = (Path(__file__).parent.parent / "docs" / "boards.md").read_text()
    for name in list_boards():
        board = load_board(name)
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert ("| run" in row) == (board.is_host or board.run is not None)
        assert all(profile in text for profile in board.profiles)
    tables: dict[str, type] = {
        "board": BoardFacts, "cpu": Cpu, "memory": MemoryRegion, "link": LinkFacts, "run": RunFacts,
        "flash": FlashFacts, "toolchain": Toolchain, "platformio": PlatformIo, "esp_idf": EspIdf,
    }  # fmt: skip
    for table, kind in tables.items():
        assert f"`[{table}]`" in text or f"`[[{table}]]`" in text
        for field in fields(kind):
            assert f"`{field.name}" in text, f"{table}.{field.name}"


def test_the_guide_s_own_board_is_valid(tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "docs" / "boards.md").read_text()
    toml = text.split("```toml\n")[1].split("```")[0]
    (tmp_path / "target.toml").write_text(toml)
    board = load_board(str(tmp_path))
    assert (board.region("weights").name, board.region("stack").name) == ("SRAM", "TCM")
