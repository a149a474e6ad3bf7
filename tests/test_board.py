"""Boards, compilers and project files: what target.toml says is what the compiler and the linker do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from codegen import build, compilers
from codegen.board import Board, extensions, list_boards, load_board, parse_size
from codegen.build import build_firmware, build_shared_library, find_riscv_compilers
from codegen.emit import emit
from codegen.errors import BackendError
from codegen.program import Program
from codegen.project import project_files, write_project
from toolkit.pipeline import Options, compile_model

BOARD = """
[board]
id = "toy"
name = "Toy"
vendor = "-"
url = "-"
sources = ["start.S", "clocks_none.c", "uart_ns16550.c", "count_minstret.c", "exit_virt.c", "memory.c"]
[link]
uart = 0x1000_0000
[cpu]
isa = "rv32imac"
abi = "ilp32"
[[memory]]
name = "FLASH"
origin = 0x2000_0000
size = "1MiB"
attr = "rx"
use = ["text"]
[[memory]]
name = "RAM"
origin = 0x8000_0000
size = "64 KiB"
attr = "rw"
use = ["data", "weights", "arena", "stack"]
"""


@pytest.fixture(scope="module")
def program() -> Program:
    return compile_model("digits-cnn", Options(train="none", fma=False)).program


def _load(text: str, place: Path) -> Board:
    path = place / "target.toml"
    path.write_text(text)
    return load_board(str(path))


def _riscv(name: str) -> str:
    if name not in [compiler.name for compiler in find_riscv_compilers()]:
        pytest.skip(f"{name} for RISC-V is not installed")
    return name


# ---- target.toml


@pytest.mark.parametrize("name", list_boards())
def test_every_board_is_valid_and_all_its_files_exist(name: str, program: Program) -> None:
    board = load_board(name)
    assert board.id == name
    for profile in (None, *board.profiles):
        files = project_files(program, board.with_profile(profile), "edgetrain")
        assert files == project_files(program, board.with_profile(profile), "edgetrain")
        assert {"Makefile", "CMakeLists.txt"} <= set(files)


def test_sizes_are_read_with_and_without_a_unit() -> None:
    assert [parse_size(text) for text in ("320KiB", "2 MiB", "1G", "7", "9B")] == [327680, 2097152, 1 << 30, 7, 9]
    assert parse_size("much") == "much" and parse_size(12) == 12


def test_a_board_of_a_users_own_is_read_from_its_folder(tmp_path: Path) -> None:
    _load(BOARD, tmp_path)
    board = load_board(str(tmp_path))
    assert board.region("text").name == "FLASH" and board.region("arena").size == 65536
    assert not board.fma and board.link.frame_bytes == 1024


def test_multiply_adds_are_fused_exactly_on_cores_with_float_instructions() -> None:
    board = load_board("qemu-rv32")
    fused = {name: board.with_profile(name).fma for name in board.profiles}
    assert fused == {name: "f" in name.split("_")[0][4:] for name in board.profiles}


def test_extensions_of_an_isa() -> None:
    assert extensions("rv32imafc_zba_zbb") == ("i", "m", "a", "f", "c", "zba", "zbb")
    assert extensions("rv64gc") == ("i", "m", "a", "f", "d", "c")
    assert extensions("native") == ()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("sources =", "source =", "did you mean sources?"),
        ('size = "1MiB"', 'siez = "1MiB"', "did you mean size?"),
        ('size = "1MiB"', 'size = "some"', "memory.0.size"),
        ('isa = "rv32imac"', 'isa = "riscv"', "no ISA"),
        ('"arena", ', "", "no memory for arena"),
        ('attr = "rw"', 'attr = "r"', "not writable"),
        ('name = "RAM"', 'name = "FLASH"', "same name"),
        ('use = ["text"]', 'use = ["text", "data"]\nattr2 = "w"', "did you mean attr?"),
        ('abi = "ilp32"', "", "cpu.abi"),
        ('[cpu]', "[cpu", "is not TOML"),
        ('uart = ', "frame_bytes = 16\nuart = ", "192..65535"),
    ],
)
def test_a_fault_in_target_toml_is_named(old: str, new: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BackendError) as error:
        _load(BOARD.replace(old, new), tmp_path)
    assert said in str(error.value) and str(tmp_path) in str(error.value.where)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("0x8000_0000", "0x2000_8000", "FLASH and RAM overlap"),
        ('use = ["text"]', 'use = ["text"]\nsame_as = "ROM"', "FLASH is not the same as ROM"),
        ('use = ["data", ', 'use = ["data", "rodata", ', "rodata is in RAM, text in FLASH"),
    ],
)
def test_memories_that_contradict_each_other_are_refused(old: str, new: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=said):
        _load(BOARD.replace(old, new), tmp_path)


def test_unknown_names_are_answered_with_those_that_exist() -> None:
    with pytest.raises(BackendError, match=r"did you mean hifive1\?.*host"):
        load_board("hifive")
    with pytest.raises(BackendError, match="rv32imafc"):
        load_board("qemu-rv32").with_profile("rv32g")


def test_pydantic_is_not_imported_until_a_board_is_loaded() -> None:
    code = "import sys, codegen.board, codegen.build; sys.exit('pydantic' in sys.modules or 'elftools' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, check=False).returncode == 0


# ---- flags


def test_a_library_for_the_same_registers_is_linked_whatever_the_extensions() -> None:
    board = load_board("qemu-rv32")
    chosen = {name: compilers.libgcc_query(board.with_profile(name))[0] for name in board.profiles}
    assert chosen["rv32imac_zbb"] == "-march=rv32imac" and chosen["rv32ic"] == "-march=rv32i"
    assert chosen["rv32imafc_zbb"] == chosen["rv32imafc"] == "-march=rv32imafc"


def test_a_missing_compiler_is_reported_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilers, "find_riscv_compilers", list)
    with pytest.raises(BackendError, match=r"pip install 'edgetrain\[riscv\]'"):
        compilers.find(None, "riscv")
    with pytest.raises(BackendError, match="no compiler 'tcc'"):
        compilers.find("tcc", "riscv")


@pytest.mark.parametrize("version", [0, 1000000])
def test_a_compiler_that_does_not_know_an_extension_is_refused(version: int, tmp_path: Path) -> None:
    """It would emulate what the core has instructions for, and say nothing."""
    script = tmp_path / "riscv64-unknown-elf-gcc"
    script.write_text(f"#!/bin/sh\necho '#define __riscv_zfh {version}'\n")
    script.chmod(0o755)
    board = load_board("qemu-rv32").with_profile("rv32imafc_zfh")
    compiler = compilers.find(str(script), "riscv")
    if version:
        compilers.require_extensions(compiler, board)
        return
    with pytest.raises(BackendError, match="does not know the extension zfh of rv32imafc_zfh") as caught:
        compilers.require_extensions(compiler, board)
    assert "zig" in str(caught.value.hint)


def test_zig_gets_a_cache_where_home_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "ZIG_GLOBAL_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert "ZIG_GLOBAL_CACHE_DIR" in compilers._zig_cache.__wrapped__()
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", "/elsewhere")
    assert compilers._zig_cache.__wrapped__() == {}


# ---- builds


def test_errors_of_the_compiler_are_shown(tmp_path: Path) -> None:
    (tmp_path / "wrong.c").write_text("int f(void) { return nothing; }\n")
    with pytest.raises(BackendError, match=r"wrong\.c:1.*nothing"):
        build_shared_library(tmp_path, tmp_path / "wrong.so")


def test_a_file_is_compiled_once_for_the_same_text_and_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    run = build.run_tool

    def counted(command: Sequence[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        calls.append(list(command))
        return run(command, folder)

    monkeypatch.setattr(build, "run_tool", counted)
    (tmp_path / "inner.h").write_text("#define NUMBER 1\n")
    (tmp_path / "outer.h").write_text('#include "inner.h"\n')
    (tmp_path / "one.c").write_text('#include "outer.h"\nint one(void);\nint one(void) { return NUMBER; }\n')
    counts = []
    for number in (1, 1, 2):
        (tmp_path / "inner.h").write_text(f"#define NUMBER {number} /* {tmp_path.name} */\n")
        calls.clear()
        build_shared_library(tmp_path, tmp_path / "one.so")
        counts.append(sum("-c" in call for call in calls))
    assert counts == [1, 0, 1]


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize(("size", "said"), [("1KiB", "RAM"), ("6KiB", "RAM is full: less than the 4096 bytes")])
def test_a_firmware_that_does_not_fit_says_which_memory_is_full(
    size: str, said: str, compiler: str, program: Program, tmp_path: Path
) -> None:
    board = _load(BOARD.replace("64 KiB", size), tmp_path)
    emit(program, tmp_path, "edgetrain")
    write_project(tmp_path, program, board, "edgetrain")
    with pytest.raises(BackendError, match=said):
        build_firmware(tmp_path, board, _riscv(compiler))


@pytest.mark.parametrize("compiler", ["gcc", "zig", "clang"])
def test_hifive1_runs_from_flash_and_keeps_its_ram_for_data(compiler: str, program: Program, tmp_path: Path) -> None:
    board = load_board("hifive1")
    emit(program, tmp_path, "edgetrain")
    write_project(tmp_path, program, board, "edgetrain")
    image = build_firmware(tmp_path, board, _riscv(compiler))
    assert image.sizes["stack"] == board.board.stack_bytes
    assert image.sizes["arena"] == program.arena_bytes
    assert image.ram_bytes <= board.region("data").size
    assert image.symbols["main"] >> 24 == 0x20 and image.symbols["et_arena_start"] >> 24 == 0x80
    assert ".et_arena" in image.map.read_text()


@pytest.mark.parametrize("compiler", ["gcc", "zig", "clang"])
def test_the_makefile_builds_what_build_firmware_builds(compiler: str, program: Program, tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    board = load_board("qemu-rv32").with_profile("rv32imac_zbb")
    emit(program, tmp_path, "edgetrain")
    write_project(tmp_path, program, board, "edgetrain")
    image = build_firmware(tmp_path, board, _riscv(compiler))
    command = " ".join(next(c.command for c in find_riscv_compilers() if c.name == compiler))
    subprocess.run(["make", f"CC={command}"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert build.sizes(tmp_path / "build" / "firmware.elf") == image.sizes


@pytest.mark.parametrize(
    ("name", "compiler"),
    [("host", "gcc"), ("hifive1", "gcc"), pytest.param("hifive1", "zig", marks=pytest.mark.slow),
     pytest.param("hifive1", "clang", marks=pytest.mark.slow)],
)  # fmt: skip
def test_cmake_builds_the_project(name: str, compiler: str, program: Program, tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    board = load_board(name)
    emit(program, tmp_path, "edgetrain")
    write_project(tmp_path, program, board, "edgetrain")
    chosen = []
    if not board.is_host:
        command = next(c.command for c in find_riscv_compilers() if c.name == _riscv(compiler))
        chosen = [f"-DCMAKE_C_COMPILER={';'.join(command)}"] if compiler != "gcc" else []
    for arguments in (["-B", "build", *chosen], ["--build", "build"]):
        ran = subprocess.run(["cmake", *arguments], cwd=tmp_path, check=False, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    made = ("libdigits_cnn.a", "libdigits_cnn.so") if board.is_host else ("firmware.elf",)
    assert all((tmp_path / "build" / file).is_file() for file in made)
    if not board.is_host:
        # CMake links in another order, so that alignment may take a few bytes more or less.
        made_here, image = build.sizes(tmp_path / "build" / "firmware.elf"), build_firmware(tmp_path, board, compiler)
        assert all(abs(size - image.sizes[part]) <= 16 for part, size in made_here.items())


@pytest.mark.parametrize("tool", ["make", "cmake"])
def test_build_files_refuse_a_compiler_that_the_core_is_too_much_for(
    tool: str, program: Program, tmp_path: Path
) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    emit(program, tmp_path, "edgetrain")
    write_project(tmp_path, program, load_board("qemu-rv32").with_profile("rv32imafc_zfh"), "edgetrain")
    gcc = compilers.find(_riscv("gcc"), "riscv").command[0]
    command = ["make", f"CC={gcc}"] if tool == "make" else ["cmake", "-B", "build", f"-DCMAKE_C_COMPILER={gcc}"]
    ran = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert ran.returncode != 0 and "zig or clang" in ran.stderr


def test_the_makefile_for_this_pc_makes_both_libraries(program: Program, tmp_path: Path) -> None:
    if shutil.which("make") is None or shutil.which("gcc") is None:
        pytest.skip("make or gcc is not installed")
    emit(program, tmp_path, "edgetrain")
    write_project(tmp_path, program, load_board("host"), "edgetrain")
    subprocess.run(["make", "CC=gcc", "CFLAGS=-O1"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert (tmp_path / "libdigits_cnn.a").is_file() and (tmp_path / "libdigits_cnn.so").is_file()


def test_a_source_that_is_nowhere_is_reported(program: Program, tmp_path: Path) -> None:
    board = _load(BOARD, tmp_path)
    missing = replace(board, board=replace(board.board, sources=("start.S", "uart_of_mars.c")))
    with pytest.raises(BackendError, match=r"uart_of_mars\.c"):
        project_files(program, missing, "edgetrain")
