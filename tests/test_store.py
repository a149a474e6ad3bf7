"""The flash store: whatever is cut off where, a restart finds the old state or the new one, and pages are spared."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.resources import folder
from toolkit.sim.backend import STATUS

ROOT = Path(__file__).resolve().parent.parent
WARNINGS = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
PAGE, PAGES, WRITE = 256, 16, 8
HEADER_BYTES = 60
NEVER = 0xFFFFFFFF


def build(place: Path, sources: list[str], flags: list[str], compiler: str = "gcc") -> Path:
    (place / "et_config.h").write_text("#define ET_FMA 0\n")
    runtime, tests = folder("runtime_c"), ROOT / "tests/c"
    files = [*(tests / name for name in sources), runtime / "et_store.c", runtime / "et_link.c"]
    out = place / sources[0].replace(".c", "")
    line = [compiler, *WARNINGS, *flags, f"-I{place}", f"-I{runtime}", f"-I{tests}", *map(str, files), "-o", str(out)]
    subprocess.run(line, check=True)
    return out


class Store:
    """A state in memory and a simulated flash below it."""

    def __init__(
        self, library: Any, ffi: Any, size: int, page: int = PAGE, pages: int = PAGES, write: int = WRITE
    ) -> None:
        self._library, self._ffi, self._size = library, ffi, size
        self.nor = library.nor
        self._flash = ffi.new("et_flash *", library.nor_table(page, pages, write))
        self.data = ffi.new("uint8_t[]", size)
        self.digest = ffi.new("uint8_t[16]", bytes(range(16)))
        self.rate, self.seed, self.step = ffi.new("float *"), ffi.new("uint32_t *"), ffi.new("uint32_t *")
        self.state = ffi.new("et_store_state *")
        fields = {"data": self.data, "bytes": size, "layout": 5, "digest": self.digest}
        for name, value in (fields | {"learning_rate": self.rate, "seed": self.seed, "step": self.step}).items():
            setattr(self.state, name, value)
        self._label = ffi.new("et_store_label *")

    def put(self, number: int, data: bytes | None = None) -> None:
        self._ffi.memmove(self.data, bytes([number]) * self._size if data is None else data, self._size)
        self.rate[0], self.seed[0], self.step[0] = number / 2, number + 1, number + 2

    def got(self) -> tuple[int, float, int, int]:
        data = bytes(self._ffi.buffer(self.data, self._size))
        assert len(set(data)) <= 1
        return data[0], self.rate[0], self.seed[0], self.step[0]

    def save(self, mark: int = 0) -> str:
        return STATUS[self._library.et_store_save(self._flash, self.state, mark, self._label)]

    def load(self) -> str:
        return STATUS[self._library.et_store_load(self._flash, self.state, self._label)]

    def rollback(self) -> str:
        return STATUS[self._library.et_store_rollback(self._flash, self.state, self._label)]

    @property
    def label(self) -> tuple[int, int]:
        return self._label.sequence, self._label.mark


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    from cffi import FFI

    out = build(
        tmp_path_factory.mktemp("store"), ["nor_flash.c"],
        ["-O1", "-g", "-shared", "-fPIC", "-fsanitize=undefined", "-fno-sanitize-recover=all"],
    )  # fmt: skip
    ffi = FFI()
    ffi.cdef(
        "typedef struct { uint32_t page_bytes, pages, write_bytes; } et_flash;"
        "typedef struct { void *data; uint32_t bytes, layout; const uint8_t *digest; float *learning_rate;"
        " uint32_t *seed, *step; } et_store_state;"
        "typedef struct { uint32_t sequence; uint64_t mark; } et_store_label;"
        "typedef struct { uint8_t bytes[65536]; uint32_t left, touched, erased, random;"
        " bool scattered, dead, overwritten; } nor_flash;"
        "extern nor_flash nor; et_flash nor_table(uint32_t, uint32_t, uint32_t);"
        "int et_store_save(const et_flash *, const et_store_state *, uint64_t, et_store_label *);"
        "int et_store_load(const et_flash *, const et_store_state *, et_store_label *);"
        "int et_store_rollback(const et_flash *, const et_store_state *, et_store_label *);"
    )
    return ffi.dlopen(str(out)), ffi


@pytest.fixture
def store(library: tuple[Any, Any]) -> Store:
    return fresh(library, 1000)


def fresh(library: tuple[Any, Any], size: int, *shape: int) -> Store:
    store = Store(*library, size, *shape)
    library[1].memmove(store.nor.bytes, b"\xff" * 65536, 65536)
    store.nor.left, store.nor.dead, store.nor.overwritten, store.nor.scattered = NEVER, False, False, False
    return store


@pytest.mark.parametrize(
    ("shape", "least"),
    [(("256", "16", "4", "1500", "300"), 23_000), (("64", "24", "1", "600", "70"), 9_000)],
)
def test_power_cut_at_every_byte(tmp_path: Path, shape: tuple[str, ...], least: int) -> None:
    flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    program = build(tmp_path, ["flash_cuts.c", "nor_flash.c"], flags)
    run = subprocess.run([str(program), *shape], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) >= least


@pytest.mark.skipif(shutil.which("clang-19") is None, reason="clang-19 is not installed")
def test_another_compiler_finds_nothing_to_warn_of(tmp_path: Path) -> None:
    build(tmp_path, ["nor_flash.c"], ["-shared", "-fPIC", "-O2"], "clang-19")


@given(st.lists(st.sampled_from(["save", "load", "rollback"]), max_size=12), st.sampled_from([1, 2, 8, 64, 256]))
def test_saves_and_rollbacks_are_a_stack_of_two(library: tuple[Any, Any], actions: list[str], write: int) -> None:
    store = fresh(library, 300, PAGE, 6, write)
    kept: list[int] = []
    for number, action in enumerate(actions, 1):
        store.put(number)
        if action == "save":
            assert store.save(mark=number << 33) == "ET_OK"
            kept = [*kept[-1:], number]
            continue
        if action == "rollback":
            assert store.rollback() == ("ET_OK" if len(kept) == 2 else "ET_NO_STATE")
            kept = kept[:-1] if len(kept) == 2 else kept
        assert store.load() == ("ET_OK" if kept else "ET_NO_STATE")
        wanted = kept[-1] if kept else number
        assert store.got() == (wanted, wanted / 2, wanted + 1, wanted + 2)
        assert not kept or store.label[1] == wanted << 33
    assert not store.nor.overwritten


def test_only_changed_pages_are_erased(store: Store) -> None:
    data = bytearray(1000)
    for _ in range(2):
        store.put(1, bytes(data))
        assert store.save() == "ET_OK"
    before = store.nor.erased
    assert store.save() == "ET_OK"
    assert store.nor.erased - before == 1  # the header's
    data[300] = 1
    store.put(1, bytes(data))
    before, touched = store.nor.erased, store.nor.touched
    assert store.save() == "ET_OK"
    assert store.nor.erased - before == 2
    assert store.nor.touched - touched == 2 * PAGE + PAGE + 64


def test_sequence_numbers_go_round(store: Store, library: tuple[Any, Any]) -> None:
    store.put(3)
    assert store.save() == "ET_OK"
    header = bytearray(library[1].buffer(store.nor.bytes, HEADER_BYTES))
    header[4:8] = struct.pack("<I", 0xFFFFFFFF)
    header[-4:] = struct.pack("<I", zlib.crc32(header[:-4]))
    library[1].memmove(store.nor.bytes, bytes(header), HEADER_BYTES)
    store.put(4)
    assert store.save() == "ET_OK" and store.label[0] == 0
    store.put(0)
    assert store.load() == "ET_OK" and store.got()[0] == 4


@pytest.mark.parametrize("what", ["digest", "layout", "bytes"])
def test_a_state_of_another_model_is_not_loaded(store: Store, what: str) -> None:
    store.put(3)
    assert store.save() == "ET_OK"
    if what == "digest":
        store.digest[15] ^= 1
    else:
        setattr(store.state, what, getattr(store.state, what) - 1)
    store.put(9)
    assert store.load() == "ET_NO_STATE"
    assert store.got() == (9, 4.5, 10, 11)


@pytest.mark.parametrize("shape", [(PAGE, 3, 8), (PAGE, 4, 3), (PAGE, 4, 512), (100, 8, 4), (PAGE, 8, 0), (0, 8, 1),
                                   (1 << 31, 8, 1), (PAGE, 8, 8)])  # fmt: skip
def test_a_state_that_does_not_fit_is_refused(library: tuple[Any, Any], shape: tuple[int, int, int]) -> None:
    store = fresh(library, 4 * PAGE, *shape)
    before = store.nor.touched
    assert [store.save(), store.load(), store.rollback()] == ["ET_BAD_ARGUMENT"] * 3
    assert store.nor.touched == before


def test_a_flash_that_fails_is_told_and_the_old_state_stays(store: Store) -> None:
    store.put(3)
    assert store.save() == "ET_OK"
    store.put(4)
    store.nor.left = 700
    assert store.save() == "ET_FLASH_FAILED"
    store.put(0)
    assert store.load() == "ET_OK" and store.got()[0] == 3


@given(st.binary(min_size=64, max_size=400), st.integers(0, 1500))
def test_noise_in_the_flash_is_no_state(library: tuple[Any, Any], noise: bytes, place: int) -> None:
    store = fresh(library, 1000)
    store.put(3)
    assert store.save() == "ET_OK"
    held = bytes(library[1].buffer(store.nor.bytes, 2000))
    library[1].memmove(store.nor.bytes + place, noise, len(noise))
    harmless = bytes(library[1].buffer(store.nor.bytes, 2000))
    kept = harmless[:HEADER_BYTES] == held[:HEADER_BYTES] and harmless[PAGE : PAGE + 1000] == held[PAGE : PAGE + 1000]
    store.put(9)
    assert store.load() == ("ET_OK" if kept else "ET_NO_STATE")
    assert store.got()[0] == (3 if kept else 9)
