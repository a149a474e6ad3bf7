"""A folder of C -> a shared library for this PC, or a firmware with its exact sizes."""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from codegen.board import Board
from codegen.compilers import (
    WARNINGS,
    Compiler,
    find,
    find_host_compilers,
    find_riscv_compilers,
    firmware_flags,
    firmware_link_flags,
    run_tool,
)
from codegen.errors import BackendError

# The part of a generated folder that makes a firmware of a model.
BOARD_FOLDER = "board"
LINKER_SCRIPT = f"{BOARD_FOLDER}/link.ld"
_INCLUDE = re.compile(rb'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
_SECTIONS = {
    ".text": "text", ".rodata": "rodata", ".data": "data", ".bss": "bss", ".et_params": "params", ".et_arena": "arena",
}
_SHOWN_ERRORS = 5


@dataclass(frozen=True)
class FirmwareImage:
    """A linked firmware.

    Attributes:
        sizes: bytes of text, rodata, data, bss, params, arena, and of the reserved stack.
        symbols: addresses of functions, variables and of what the linker script defines.
    """

    elf: Path
    map: Path
    sizes: Mapping[str, int]
    symbols: Mapping[str, int]

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
    strict: bool = False,
) -> Path:
    """Compiles a generated folder for this PC.

    Args:
        folder: its *.c files are compiled; those of subfolders are not.
        out: the library to write.
        compiler: gcc, clang, zig or a command; the best found for None.
        extra: more flags, for compiling and for linking.
        strict: warnings are errors.

    Raises:
        BackendError: no compiler, or it refuses the code.
    """
    chosen = find(compiler, "host")
    flags = [*chosen.host_flags(), *_warnings(strict), optimize, *extra]
    objects = _compile(chosen, folder, _sources(folder, ("*.c",)), flags)
    _link(chosen, ["-shared", "-fPIC", *_without_standard(flags)], objects, out)
    return out


def build_firmware(
    folder: Path,
    board: Board,
    profile: str | None = None,
    compiler: str | None = None,
    optimize: str = "-O2",
    extra: Sequence[str] = (),
    strict: bool = False,
    out: Path | None = None,
) -> FirmwareImage:
    """Compiles and links a folder that `codegen.project.write_project` has completed.

    Args:
        profile: one of the board's; its own core for None.
        compiler: gcc, clang, zig or a command; the best found of those that the board allows for None.
        out: the ELF file; folder/firmware.elf for None. The map is beside it.

    Raises:
        BackendError: no compiler, it refuses the code, or the firmware does not fit the memories.
    """
    board = board.with_profile(profile)
    chosen = find(compiler, "riscv", board.toolchain.compilers)
    flags = [*firmware_flags(chosen.family, board), *_warnings(strict), f"-I{BOARD_FOLDER}", optimize, *extra]
    sources = _sources(folder, ("*.c", f"{BOARD_FOLDER}/*.c", f"{BOARD_FOLDER}/*.S"))
    objects = _compile(chosen, folder, sources, flags)
    elf = (out or folder / "firmware.elf").absolute()
    map_file = elf.with_suffix(".map")
    # Zig's driver knows no -Map: the map is then written from the ELF file.
    maps = () if chosen.family == "zig" else (f"-Wl,-Map={map_file}",)
    script = ("-T", str((folder / LINKER_SCRIPT).absolute()))
    link_flags = [*firmware_link_flags(chosen.family, board), optimize, *script, *maps]
    _link(chosen, link_flags, objects, elf, chosen.firmware_libraries(board))
    image = FirmwareImage(elf, map_file, sizes(elf), _symbols(elf))
    if not maps:
        map_file.write_text(_map_text(image))
    return image


def sizes(elf: Path) -> dict[str, int]:
    """Bytes of each part of a firmware, from the ELF file: text, rodata, data, bss, params, arena, stack."""
    from elftools.elf.elffile import ELFFile

    result = dict.fromkeys([*_SECTIONS.values(), "stack"], 0)
    with elf.open("rb") as stream:
        for section in ELFFile(stream).iter_sections():
            if section.name in _SECTIONS:
                result[_SECTIONS[section.name]] = int(section["sh_size"])
    symbols = _symbols(elf)
    result["stack"] = symbols.get("__stack_top", 0) - symbols.get("__stack_limit", 0)
    return result


def _symbols(elf: Path) -> dict[str, int]:
    from elftools.elf.elffile import ELFFile

    with elf.open("rb") as stream:
        table: Any = ELFFile(stream).get_section_by_name(".symtab")
        return {s.name: int(s["st_value"]) for s in table.iter_symbols() if s.name and not s.name.startswith("$")}


def _map_text(image: FirmwareImage) -> str:
    """Sections and symbols by address."""
    parts = [f"{name:8} {size:10}" for name, size in image.sizes.items()]
    ordered = sorted(image.symbols.items(), key=lambda item: (item[1], item[0]))
    symbols = [f"{address:08x}  {name}" for name, address in ordered]
    return "\n".join(["section       bytes", *parts, "", "address   symbol", *symbols]) + "\n"


def _warnings(strict: bool) -> tuple[str, ...]:
    return (*WARNINGS, "-Werror") if strict else WARNINGS


def _without_standard(flags: Iterable[str]) -> list[str]:
    return [flag for flag in flags if not flag.startswith(("-std=", "-W"))]


def _sources(folder: Path, patterns: Iterable[str]) -> list[str]:
    found = [str(path.relative_to(folder)) for pattern in patterns for path in sorted(folder.glob(pattern))]
    if not found:
        raise BackendError("there is no C in it", where=str(folder))
    return found


# ---- compiling, each text once


def _compile(compiler: Compiler, folder: Path, sources: Sequence[str], flags: Sequence[str]) -> list[Path]:
    """Objects of sources. An object is made once for the same text, headers, flags and compiler."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return list(pool.map(lambda source: _object(compiler, folder, source, flags), sources))


def _object(compiler: Compiler, folder: Path, source: str, flags: Sequence[str]) -> Path:
    key = hashlib.sha256(repr((compiler.command, tuple(flags))).encode())
    for name, text in sorted(_texts(folder, source).items()):
        key.update(f"\0{name}\0".encode() + text)
    place = _cache_folder() / f"{key.hexdigest()}.o"
    if not place.is_file():
        handle, made = tempfile.mkstemp(suffix=".o", dir=place.parent)
        os.close(handle)
        _run(compiler, [*flags, "-I.", "-c", source, "-o", made], folder)
        os.replace(made, place)  # whole or not at all, should another process make the same one
    return place


def _texts(folder: Path, source: str) -> dict[str, bytes]:
    """A source and all headers of the folder that it includes."""
    texts: dict[str, bytes] = {}
    waiting = [source]
    while waiting:
        name = waiting.pop()
        texts[name] = (folder / name).read_bytes()
        for included in _INCLUDE.findall(texts[name]):
            header = included.decode()
            for place in (header, f"{BOARD_FOLDER}/{header}"):
                if place not in texts and place not in waiting and (folder / place).is_file():
                    waiting.append(place)
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
    telling = [line for line in lines if re.search(r"error|will not fit|overflow|undefined|ASSERT", line)] or lines
    telling = [line for line in telling if not line.startswith("collect2:")] or telling
    shown = "\n".join(telling[:_SHOWN_ERRORS]) or f"exit code {run.returncode}"
    raise BackendError(f"{compiler.name} failed:\n{shown}", hint="compile with --compiler to try another one")


__all__ = [
    "BOARD_FOLDER",
    "LINKER_SCRIPT",
    "Compiler",
    "FirmwareImage",
    "build_firmware",
    "build_shared_library",
    "find_host_compilers",
    "find_riscv_compilers",
    "sizes",
]
