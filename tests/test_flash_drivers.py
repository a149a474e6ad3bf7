"""Flash drivers: a board has one, or says plainly that nothing is kept; one of the user's own makes the store work."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from codegen import stack
from codegen.board import list_boards, load_board
from codegen.build import build_firmware, find_riscv_compilers, firmware_code
from codegen.emit import emit
from codegen.errors import BackendError
from codegen.project import why_nothing_is_kept, write_project
from codegen.resources import folder
from codegen.stack import StackUse
from toolkit.link.session import Session
from toolkit.pipeline import Options, compile_model
from toolkit.sim.backend import STATUS
from toolkit.sim.spike import start_emulator

OWN = """
[board]
id = "own"
name = "A flash with half a driver"
vendor = "-"
url = "-"
stack_bytes = "16KiB"
sources = [
  "start.S", "clocks_none.c", "uart_ns16550.c", "count_minstret.c", "exit_virt.c", "memory.c", "flash_mapped.c",
]
[cpu]
isa = "rv32imafc"
abi = "ilp32f"
[[memory]]
name = "RAM"
origin = 0x8000_0000
size = "32MiB"
[[memory]]
name = "TREE"
origin = 0x8200_0000
size = "1MiB"
attr = "r"
use = []
[[memory]]
name = "STORE"
origin = 0x8210_0000
size = "64KiB"
attr = "r"
use = ["store"]
page_bytes = "1KiB"
write_bytes = 4
[link]
uart = 0x1000_0000
[run]
emulator = "qemu-system-riscv32"
machine = "virt"
memory_backend = true
"""
DRIVER = """
#include "board.h"
#include "et_store.h"
static volatile uint32_t *words(uint32_t offset)
{
    return (volatile uint32_t *)(uintptr_t)(ET_BOARD_STORE + offset);
}
bool et_flash_erase(uint32_t page)
{
    for (uint32_t i = 0; i < ET_BOARD_STORE_PAGE_BYTES; i += 4)
        *words(page * ET_BOARD_STORE_PAGE_BYTES + i) = 0xFFFFFFFFu;
    return true;
}
bool et_flash_program(uint32_t offset, const uint8_t *from, uint32_t bytes)
{
    if (bytes == 4)
        *words(offset) &= from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
    return bytes == 0 || bytes == 4;
}
"""


FPEC_BOARD = """
#include "fpec.h"
#define ET_BOARD_REGISTER(address) (*fpec_register(address))
#define ET_BOARD_STORE ((uintptr_t)fpec.bytes)
#define ET_BOARD_STORE_PAGE_BYTES FPEC_PAGE_BYTES
"""


@pytest.fixture(scope="module")
def fpec(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The driver of GD32VF103 and CH32V307 and the store above it, on a model of the flash controller."""
    from cffi import FFI

    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    place = tmp_path_factory.mktemp("fpec")
    (place / "board.h").write_text(FPEC_BOARD)
    (place / "et_config.h").write_text("#define ET_FMA 0\n")
    tests, runtime = Path(__file__).parent / "c", folder("runtime_c")
    driver = place / "flash_fpec.c"  # beside this board.h, not the one of targets/common
    driver.write_text((folder("targets") / "common" / "flash_fpec.c").read_text())
    sources = [driver, tests / "fpec.c", runtime / "et_store.c", runtime / "et_link.c"]
    flags = ["-std=c99", "-O1", "-shared", "-fPIC", "-fsanitize=undefined", "-fno-sanitize-recover=all"]
    folders = [f"-I{place}", f"-I{tests}", f"-I{runtime}"]
    subprocess.run(["gcc", *flags, *folders, *map(str, sources), "-o", str(place / "fpec.so")], check=True)
    ffi = FFI()
    ffi.cdef(
        "typedef struct { uint32_t page_bytes, pages, write_bytes; } et_flash;"
        "typedef struct { void *data; uint32_t bytes, layout; const uint8_t *digest; float *learning_rate;"
        " uint32_t *seed, *step; } et_store_state;"
        "typedef struct { uint32_t sequence; uint64_t mark; } et_store_label;"
        "typedef struct { uint8_t bytes[8192]; uint32_t faults, erased, programmed, left; } fpec_state;"
        "extern fpec_state fpec; void fpec_reset(void);"
        "int et_store_save(const et_flash *, const et_store_state *, uint64_t, et_store_label *);"
        "int et_store_load(const et_flash *, const et_store_state *, et_store_label *);"
    )
    return ffi, ffi.dlopen(str(place / "fpec.so"))


def test_the_flash_controller_of_gd32vf103_and_ch32v307_is_used_as_its_manual_says(fpec: tuple[Any, Any]) -> None:
    ffi, library = fpec
    library.fpec_reset()
    data, digest = ffi.new("uint8_t[]", 2000), ffi.new("uint8_t[16]")
    rate, seed, step = ffi.new("float *"), ffi.new("uint32_t *"), ffi.new("uint32_t *")
    flash, label = ffi.new("et_flash *", (1024, 8, 2)), ffi.new("et_store_label *")
    state = ffi.new("et_store_state *", (data, 2000, 1, digest, rate, seed, step))

    def save(fill: int, left: int = 0xFFFFFFFF) -> str:
        ffi.memmove(data, bytes([fill]) * 2000, 2000)
        library.fpec.left = left
        status = STATUS[library.et_store_save(flash, state, fill, label)]
        library.fpec.left = 0xFFFFFFFF
        return status

    def load() -> int:
        assert STATUS[library.et_store_load(flash, state, label)] == "ET_OK" and len(set(bytes(data))) == 1
        assert label.mark == data[0]
        return int(data[0])

    assert save(1) == "ET_OK" and load() == 1 and library.fpec.erased == 3  # a page of the header, two of data
    assert save(2) == "ET_OK" and load() == 2
    for left in (0, 1, 2, 500, 1003, 1030):  # a page that is protected, a half word that is not taken
        assert save(3, left) == "ET_FLASH_FAILED" and load() == 2
    assert save(4) == "ET_OK" and load() == 4
    before = library.fpec.erased
    assert save(4) == "ET_OK" and library.fpec.erased == before + 3
    assert save(4) == "ET_OK" and library.fpec.erased == before + 3 + 1  # the data is there: its header alone
    assert library.fpec.faults == 0 and library.fpec.programmed > 4000


@contextmanager
def on_own_board(place: Path, driver: str = "", size: str = "64KiB") -> Iterator[Session]:
    if shutil.which("qemu-system-riscv32") is None or not find_riscv_compilers():
        pytest.skip("QEMU or a compiler for RISC-V is not installed")
    (place / "own.toml").write_text(OWN.replace('"64KiB"', f'"{size}"'))
    board = load_board(str(place / "own.toml"))
    program = compile_model("digits-cnn", Options(train="all")).program
    built = place / "firmware"
    built.mkdir()
    emit(program, built, "edgetrain")
    write_project(built, program, board, "edgetrain")
    if driver:
        (built / "my_flash.c").write_text(driver)
    emulator = start_emulator(build_firmware(built, board).elf, board)
    try:
        yield Session(emulator.stream, wait_ready=20.0, run_timeout=20.0, attempts=2)
    finally:
        emulator.close()


def test_without_a_driver_nothing_is_saved_and_the_board_says_so(tmp_path: Path) -> None:
    with on_own_board(tmp_path) as session:
        assert not session.board.stores
        assert STATUS[session.save(mark=1).status] == "ET_NO_FLASH"
        assert STATUS[session.load().status] == "ET_NO_STATE"
        assert STATUS[session.rollback().status] == "ET_NO_STATE"


def test_two_functions_in_a_file_of_the_user_s_make_it_save(tmp_path: Path) -> None:
    with on_own_board(tmp_path, DRIVER) as session:
        assert session.board.stores
        session.set_scalars(step=77)
        assert session.save(mark=5).status == 0
        session.set_scalars(step=78)
        session.reset()
        assert session.scalars().step == 77 and session.load().mark == 5


def test_a_state_that_is_too_large_for_the_store_is_refused(tmp_path: Path) -> None:
    with on_own_board(tmp_path, DRIVER, "8KiB") as session:
        assert not session.board.stores
        assert STATUS[session.save(mark=1).status] == "ET_BAD_ARGUMENT"


@pytest.mark.slow
def test_the_stack_of_a_rom_is_counted_though_nobody_sees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not find_riscv_compilers():
        pytest.skip("no compiler for RISC-V is installed")
    board = load_board("rp2350")
    program = compile_model("digits-cnn", Options(train="all", fma=False)).program
    emit(program, tmp_path, "edgetrain")
    write_project(tmp_path, program, board, "edgetrain")
    image = build_firmware(tmp_path, board)

    def counted(rom_bytes: int) -> StackUse:
        monkeypatch.setattr(stack, "_ROM_BYTES", rom_bytes)
        return stack.count_stack(firmware_code(image.elf), ["_start", "trap_entry"])

    # With a ROM that takes more than all else the deepest path leads through it: what is above it shows.
    deepest = counted(1 << 16)
    assert deepest.path[-1][0] == "et_rom_call"
    above = deepest.bytes - (1 << 16)
    assert above > 0
    assert counted(1 << 17).bytes == above + (1 << 17)
    monkeypatch.undo()
    assert image.sizes["stack_counted"] >= above + 1024


@pytest.mark.parametrize("name", [name for name in list_boards() if name != "host"])
def test_every_board_keeps_states_or_says_why_not(name: str) -> None:
    board = load_board(name)
    why = why_nothing_is_kept(board, 7592)
    if why is None:
        assert board.store is not None and board.store.slot_bytes >= 7592
        assert "STORE keeps states of" in str(why_nothing_is_kept(board, 1 << 30))
    else:
        assert "et_flash_erase and et_flash_program" in why
        assert ("use = [" in why) == (board.store is None)


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("write_bytes = 4", "write_bytes = 3"), ("write_bytes = 4", "write_bytes = 512"),
        ('page_bytes = "1KiB"', "page_bytes = 100"), ('page_bytes = "1KiB"', 'page_bytes = "32KiB"'),
        ("write_bytes = 4", ""), ('use = ["store"]', "use = []"),
    ],
)  # fmt: skip
def test_a_store_that_cannot_work_is_refused_when_it_is_read(line: str, other: str, tmp_path: Path) -> None:
    assert line in OWN
    (tmp_path / "own.toml").write_text(OWN.replace(line, other))
    with pytest.raises(BackendError, match="STORE"):
        load_board(str(tmp_path / "own.toml"))
