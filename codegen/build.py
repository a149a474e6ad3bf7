"""A folder of C -> a shared library for this PC, or a firmware with its exact sizes."""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from codegen.board import Board
from codegen.compilers import (
    FREESTANDING,
    NUMERICS,
    WARNINGS,
    Compiler,
    find,
    find_host_compilers,
    find_riscv_compilers,
    firmware_flags,
    firmware_link_flags,
    host_flags,
    require_extensions,
    run_tool,
)
from codegen.errors import BackendError
from codegen.stack import Code, StackUse, UnknownFrame, count_stack

LINKER_SCRIPT = "linker.ld"
_INCLUDE = re.compile(rb'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
_SECTIONS = {
    ".text": "text", ".rodata": "rodata", ".data": "data", ".bss": "bss", ".et_params": "params", ".et_arena": "arena",
}
# Of symbols in an ELF file.
_NO_TYPE, _OBJECT, _FUNCTION, _GLOBAL = 0, 1, 2, 1
_OF_ONE_MODEL = ("model.c", "weights.c")
_SHOWN_ERRORS = 5
_ROOTS = ("_start", "trap_entry")  # of targets/common/start.S


@dataclass(frozen=True)
class FirmwareImage:
    """A linked firmware.

    Attributes:
        sizes: bytes of text, rodata, data, bss, params, arena, and of the reserved stack.
        symbols: addresses of functions, variables and of what the linker script defines.
        stack: the most that is ever used, counted; None where a frame has no size before it runs.
    """

    elf: Path
    map: Path
    sizes: Mapping[str, int]
    symbols: Mapping[str, int]
    stack: StackUse | None = None

    @property
    def flash_bytes(self) -> int:
        """What is programmed: code, constants and the initial values of variables."""
        return self.sizes["text"] + self.sizes["rodata"] + self.sizes["data"]

    @property
    def ram_bytes(self) -> int:
        """What is used of the RAM, with the whole of the reserved stack."""
        return sum(self.sizes[part] for part in ("data", "bss", "params", "arena", "stack"))


def build_shared_library(
    folder: Path,
    out: Path,
    compiler: str | None = None,
    optimize: str = "-O3",
    extra: Sequence[str] = (),
    native: bool = True,
) -> Path:
    """Compiles the C files of a generated folder to a shared library for this PC. Warnings are errors.

    Args:
        out: the library to write.
        compiler: gcc, clang, zig or a command; the best found for None.
        extra: more flags, for compiling and for linking.
        native: use all instructions of this machine.

    Raises:
        BackendError: no compiler, or it refuses the code.
    """
    chosen = find(compiler, "host")
    flags = [*host_flags(optimize), "-fPIC", *(chosen.native_flags() if native else ()), *extra]
    objects = _compile(chosen, folder, _sources(folder, "*.c"), flags)
    _link(chosen, ["-shared", "-fPIC", *extra], objects, out)
    return out


def build_firmware(
    folder: Path,
    board: Board,
    compiler: str | None = None,
    optimize: str = "-O2",
    warnings: bool = True,
    extra: Sequence[str] = (),
) -> FirmwareImage:
    """Builds firmware.elf and firmware.map in a folder that `emit` and `write_project` have filled.

    Args:
        board: with its profile, if it is to have one (`Board.with_profile`).
        compiler: gcc, clang, zig or a command; the best found of those that the board allows for None.
        warnings: warnings are errors.

    Raises:
        BackendError: no compiler, it does not know the core or refuses the code, or the firmware or its stack does
            not fit.
    """
    chosen = find(compiler, "riscv", board.toolchain.compilers)
    require_extensions(chosen, board)
    core = firmware_flags(board, chosen.family)
    flags = [*NUMERICS, optimize, *FREESTANDING, *core, *board.toolchain.flags, *(WARNINGS if warnings else ()), *extra]
    objects = _compile(chosen, folder, _sources(folder, "*.c") + _sources(folder, "*.S"), flags)
    elf, map_file = (folder / "firmware.elf").absolute(), (folder / "firmware.map").absolute()
    # Zig's driver knows no -Map: the map is then written from the ELF file.
    maps = () if chosen.family == "zig" else (f"-Wl,-Map={map_file}",)
    script = ("-T", str((folder / LINKER_SCRIPT).absolute()))
    _link(chosen, [*core, *firmware_link_flags(chosen.family), *script, *maps], objects, elf,
          chosen.firmware_libraries(board))
    if not maps:
        map_file.write_text(_map_text(elf))
    image = read_image(elf, map_file)
    if image.stack is not None and image.stack.bytes > image.sizes["stack"]:
        deepest = " > ".join(name for name, _ in image.stack.path)
        what = f"the stack needs {image.stack.bytes:,} B of the {image.sizes['stack']:,} B reserved: {deepest}"
        raise BackendError(what, where=f"stack_bytes in target.toml of {board.id}")
    return image


def read_image(elf: Path, map_file: Path) -> FirmwareImage:
    """Sizes and symbols of a linked firmware.

    Raises:
        BackendError: pyelftools is missing.
    """
    parts = dict.fromkeys([*_SECTIONS.values(), "stack"], 0)
    for section in _sections(elf):
        if section.name in _SECTIONS:
            parts[_SECTIONS[section.name]] = section["sh_size"]
    symbols = {symbol.name: symbol.value for symbol in _symbols(elf)}
    parts["stack"] = symbols.get("__stack_top", 0) - symbols.get("__stack_limit", 0)
    try:
        stack = count_stack(firmware_code(elf), _ROOTS)
    except UnknownFrame:
        stack = None
    parts["stack_counted"] = stack.bytes if stack else 0
    return FirmwareImage(elf, map_file, parts, symbols, stack)


def firmware_code(elf: Path) -> Code:
    """What the stack is counted from."""
    functions: dict[str, tuple[int, int]] = {}
    objects: dict[str, tuple[int, int]] = {}
    code: list[tuple[int, bytes]] = []
    constants: list[tuple[int, bytes]] = []
    reader = _elf_file()
    with elf.open("rb") as stream:
        content = reader(stream)
        bits = int(content.elfclass)
        for section in content.iter_sections():
            if section["sh_flags"] & 2 and section["sh_type"] == "SHT_PROGBITS":
                (code if section["sh_flags"] & 4 else constants).append((int(section["sh_addr"]), section.data()))
    symbols = _symbols(elf)
    for number, symbol in enumerate(symbols):  # functions of several files may share a name
        place = (symbol.value, symbol.size)
        labelled = symbol.kind == _NO_TYPE and symbol.bind == _GLOBAL  # as in assembly
        labelled = labelled and any(start <= place[0] < start + len(text) for start, text in code)
        if symbol.kind == _FUNCTION or labelled or symbol.name in _ROOTS:
            name = f"{symbol.name}.{number}" if functions.get(symbol.name, place) != place else symbol.name
            functions[name] = place
        elif symbol.kind == _OBJECT:
            objects[f"{symbol.name}.{number}"] = place
    pointer = next((s.value for s in symbols if s.name == "__global_pointer$"), None)
    return Code(bits, code, constants, functions, objects, pointer)


def sizes(elf: Path) -> Mapping[str, int]:
    """Bytes of each part of a firmware: text, rodata, data, bss, params, arena, stack (reserved), stack_counted."""
    return read_image(elf, elf.with_suffix(".map")).sizes


def load_image(elf: Path) -> list[tuple[int, bytes]]:
    """(address where it is stored, bytes) of every section that is flashed or loaded.

    Raises:
        BackendError: it is no ELF file, or pyelftools is missing.
    """
    reader = _elf_file()
    parts = []
    with elf.open("rb") as stream:
        try:
            content = reader(stream)
        except Exception as error:  # of pyelftools, whose classes are known only once it is imported
            raise BackendError(f"is no ELF file: {error}", where=str(elf)) from None
        segments = [segment for segment in content.iter_segments() if segment["p_type"] == "PT_LOAD"]
        for section in content.iter_sections():
            if section["sh_type"] == "SHT_NOBITS" or not section["sh_flags"] & 2 or not section["sh_size"]:
                continue
            segment = next(each for each in segments if each.section_in_segment(section))
            parts.append((section["sh_addr"] - segment["p_vaddr"] + segment["p_paddr"], section.data()))
    return parts


def _elf_file() -> Any:
    try:
        from elftools.elf.elffile import ELFFile
    except ImportError:
        raise BackendError("pyelftools is not installed", hint="pip install 'edgetrain[riscv]'") from None
    return ELFFile


def _sections(elf: Path) -> list[Any]:
    reader = _elf_file()
    with elf.open("rb") as stream:
        return list(reader(stream).iter_sections())


class _Symbol(NamedTuple):
    """Of an ELF file; kind and bind are numbers of its specification."""

    name: str
    value: int
    size: int
    kind: int
    bind: int


def _symbols(elf: Path) -> list[_Symbol]:
    """Read as a whole: pyelftools takes a second for the thousands of a firmware."""
    reader = _elf_file()
    with elf.open("rb") as stream:
        content = reader(stream)
        table = content.get_section_by_name(".symtab")
        names, entries = content.get_section(table["sh_link"]).data(), table.data()
        order, wide = "<" if content.little_endian else ">", content.elfclass == 64
    rows = struct.iter_unpack(order + ("IBBHQQ" if wide else "IIIBBH"), entries)
    found = []
    for row in rows:
        (at, info, _, _, value, size) = row if wide else (row[0], *row[3:], *row[1:3])
        name = names[at : names.index(b"\0", at)].decode()
        if name and not name.startswith("$"):
            found.append(_Symbol(name, value, size, info & 15, info >> 4))
    return found


def _map_text(elf: Path) -> str:
    """A map of sections and symbols in the columns of LLVM's."""
    rows = [(s["sh_addr"], s["sh_size"], s["sh_addralign"], s.name) for s in _sections(elf) if s["sh_flags"] & 2]
    rows += [(s.value, s.size, 1, f"  {s.name}") for s in _symbols(elf)]
    ordered = sorted(rows, key=lambda row: (row[0], row[3]))
    lines = [f"{address:8x} {address:8x} {size:8x} {align:5} {name}" for address, size, align, name in ordered]
    return "\n".join(["     VMA      LMA     Size Align Out", *lines]) + "\n"


def _sources(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


# ---- compiling, each text once


def _compile(compiler: Compiler, folder: Path, sources: Sequence[str], flags: Sequence[str]) -> list[Path]:
    """Objects of sources. An object is made once for the same preprocessed text, flags and compiler."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return list(pool.map(lambda source: _object(compiler, folder, source, flags), sources))


def _object(compiler: Compiler, folder: Path, source: str, flags: Sequence[str]) -> Path:
    start = repr((compiler.command, tuple(flags), source)).encode()
    places = [folder, *(folder / flag[2:] for flag in flags if flag.startswith("-I"))]
    texts = b"".join(f"\0{name}\0".encode() + text for name, text in sorted(_texts(places, source).items()))
    known = _cache_folder() / f"{hashlib.sha256(start + texts).hexdigest()}.name"
    if not known.is_file():
        seen = texts
        if source not in _OF_ONE_MODEL:
            # Constants differ from model to model, and most sources ask for few of them: what is compiled tells.
            run = run_tool([*compiler.command, *flags, "-E", "-P", source], folder)
            seen = texts if run.returncode else run.stdout.encode()
        _put(known, lambda made: made.write_text(hashlib.sha256(start + seen).hexdigest()))
    place = _cache_folder() / f"{known.read_text()}.o"
    if not place.is_file():
        _put(place, lambda made: _run(compiler, [*flags, "-c", source, "-o", str(made)], folder))
    return place


def _put(place: Path, write: Callable[[Path], object]) -> None:
    """Writes a file as a whole or not at all, should another process make the same one."""
    handle, made = tempfile.mkstemp(suffix=place.suffix, dir=place.parent)
    os.close(handle)
    try:
        write(Path(made))
    except BaseException:
        Path(made).unlink(missing_ok=True)
        raise
    os.replace(made, place)


def _texts(places: Sequence[Path], source: str) -> dict[str, bytes]:
    """A source and all headers that it includes, of those that lie in the places; the first place has the source."""
    texts: dict[str, bytes] = {}
    waiting = [source]
    while waiting:
        name = waiting.pop()
        texts[name] = next(place / name for place in places if (place / name).is_file()).read_bytes()
        for included in _INCLUDE.findall(texts[name]):
            header = included.decode()
            if header not in texts and header not in waiting and any((place / header).is_file() for place in places):
                waiting.append(header)
    return texts


@cache
def _cache_folder() -> Path:
    """$EDGETRAIN_CACHE, kept, or a folder that lives as long as this process."""
    kept = os.environ.get("EDGETRAIN_CACHE")
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
        return Path(kept)
    place = Path(tempfile.mkdtemp(prefix="edgetrain-objects-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


def _link(
    compiler: Compiler, flags: Sequence[str], objects: Sequence[Path], out: Path, libraries: Sequence[str] = ()
) -> None:
    _run(compiler, [*flags, *map(str, objects), *libraries, "-o", str(out)], None)


def _run(compiler: Compiler, arguments: Sequence[str], folder: Path | None) -> None:
    run = run_tool([*compiler.command, *arguments], folder)
    if run.returncode == 0:
        return
    lines = [line.strip() for line in (run.stderr + run.stdout).splitlines() if line.strip()]
    # gcc's driver adds that ld failed; ld itself writes its path before what it has to say.
    lines = [re.sub(r"^\S*/(?=ld: )", "", line) for line in lines if not line.startswith("collect2:")]
    telling = [line for line in lines if re.search(r"error|^ld: ", line)] or lines
    shown = "\n".join(telling[:_SHOWN_ERRORS]) or f"exit code {run.returncode}"
    raise BackendError(f"{compiler.name} failed:\n{shown}", hint="compile with --compiler to try another one")


__all__ = [
    "LINKER_SCRIPT",
    "Compiler",
    "FirmwareImage",
    "build_firmware",
    "build_shared_library",
    "find_host_compilers",
    "find_riscv_compilers",
    "firmware_flags",
    "host_flags",
    "load_image",
    "read_image",
    "sizes",
]
