"""Compilers: which there are, what flags they want, and what came out. Everything about flags is in this file."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from codegen.board import Board, extensions
from codegen.errors import BackendError

WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
# -fno-math-errno lets square roots and fmaf be instructions; contraction would fuse where the source does not say so.
NUMERICS = ("-std=c99", "-ffp-contract=off", "-fno-math-errno")
_FIRMWARE = ("-ffreestanding", "-fno-builtin-memset", "-fdata-sections", "-ffunction-sections")
_SUFFIXES = (".c", ".S")

ZIG_HINT = "pip install 'edgetrain[riscv]'"


@dataclass(frozen=True)
class Compiler:
    """A compiler that was found.

    Attributes:
        name: "gcc", "clang" or "zig".
        command: how to call it.
    """

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class FirmwareImage:
    """A linked firmware.

    Attributes:
        sizes: bytes of text, rodata, data, bss, params, arena, stack (reserved).
        symbols: name -> address.
    """

    elf: Path
    map: Path
    sizes: dict[str, int]
    symbols: dict[str, int]

    @property
    def text_bytes(self) -> int:
        """Code and its constant tables, without the weights: see `sizes`."""
        return self.sizes["text"]


@cache
def find_host_compilers() -> tuple[Compiler, ...]:
    """Compilers for this PC, best first. $CC comes before all others."""
    found = []
    if os.environ.get("CC") and shutil.which(os.environ["CC"].split()[0]):
        name = "clang" if "clang" in os.environ["CC"] else "gcc"
        found.append(Compiler(name, tuple(os.environ["CC"].split())))
    for name, candidates in (("gcc", ("gcc",)), ("clang", ("clang", *_versioned("clang"))), ("cc", ("cc",))):
        path = next((p for c in candidates if (p := shutil.which(c))), None)
        if path:
            found.append(Compiler("gcc" if name == "cc" else name, (path,)))
    return (*found, *_zig())


@cache
def find_riscv_compilers() -> tuple[Compiler, ...]:
    """Compilers for bare RISC-V, in no order of preference."""
    gcc = shutil.which("riscv64-unknown-elf-gcc")
    return (*((Compiler("gcc", (gcc,)),) if gcc else ()), *_zig())


def _versioned(name: str) -> tuple[str, ...]:
    return tuple(f"{name}-{version}" for version in range(24, 12, -1))


def _zig() -> tuple[Compiler, ...]:
    return (Compiler("zig", (sys.executable, "-m", "ziglang", "cc")),) if find_spec("ziglang") else ()


def choose(compilers: Sequence[Compiler], wanted: str | None, preferred: Sequence[str], hint: str) -> Compiler:
    """The compiler asked for, or the first of the preferred ones.

    Raises:
        BackendError: it was not found.
    """
    names = [wanted] if wanted else list(preferred)
    for name in names:
        for compiler in compilers:
            if compiler.name == name:
                return compiler
    raise BackendError(f"no compiler found (looked for {', '.join(names)})", where="--compiler", hint=hint)


def host_flags(optimize: str) -> tuple[str, ...]:
    """Flags for this PC, warnings included."""
    return (*NUMERICS, optimize, *WARNINGS)


def build_shared_library(
    folder: Path,
    out: Path,
    compiler: str | None = None,
    optimize: str = "-O3",
    extra: Sequence[str] = (),
    native: bool = True,
) -> Path:
    """Compiles the C files of a generated folder to a shared library for this PC.

    Objects of unchanged runtime files are kept for the life of this process.

    Args:
        compiler: "gcc", "clang" or "zig"; the best found where None.
        native: use all instructions of this machine.

    Raises:
        BackendError: no compiler, or it refuses the code.
    """
    chosen = choose(
        find_host_compilers(), compiler, ("gcc", "clang", "zig"), "apt-get install gcc, or pip install ziglang"
    )
    flags = (*host_flags(optimize), "-fPIC", *(_native(chosen) if native else ()), *extra)
    objects = _compile_all(chosen, folder, flags)
    _run([*chosen.command, "-shared", *extra, "-o", str(out), *objects], folder)
    return out


def firmware_flags(board: Board, compiler: str) -> tuple[str, ...]:
    """ISA flags of a compiler for a board."""
    isa, abi = board.cpu.isa, board.cpu.abi
    if compiler == "zig":
        bits = "64" if isa.startswith("rv64") else "32"
        features = "".join(f"+{name}" for name in extensions(isa) if name != "i")
        # rocket's scheduling model: the generic one spills. Never -nostdlib: it drops compiler-rt.
        cpu = f"rocket_rv{bits}{features}" if bits == "32" else f"baseline_rv64{features}"
        return ("-target", f"riscv{bits}-freestanding-none", f"-mcpu={cpu}", f"-mabi={abi}")
    # The older ISA specification has the CSR instructions in I, so that gcc's multilib directories match.
    return (f"-march={isa}", f"-mabi={abi}", "-misa-spec=2.2", "-mcmodel=medany")


def build_firmware(
    folder: Path, board: Board, compiler: str | None = None, optimize: str = "-O2", warnings: bool = True
) -> FirmwareImage:
    """Builds firmware.elf in a folder that `emit` and `write_project` have filled.

    Raises:
        BackendError: no compiler, the code is refused, or it does not fit the board.
    """
    hint = f"{ZIG_HINT}, or apt-get install gcc-riscv64-unknown-elf"
    chosen = choose(find_riscv_compilers(), compiler, board.toolchain.compilers, hint)
    isa = firmware_flags(board, chosen.name)
    flags = (*NUMERICS, optimize, *_FIRMWARE, *isa, *board.toolchain.flags, *(WARNINGS if warnings else ()))
    objects = _compile_all(chosen, folder, flags)
    elf, map_file = folder / "firmware.elf", folder / "firmware.map"
    link = [*chosen.command, *isa, "-ffreestanding", "-nostartfiles", "-static", "-T", "linker.ld"]
    link += ["-Wl,--gc-sections", f"-Wl,-Map={map_file.name}"]
    if chosen.name == "gcc":
        isa_of_library = (f"-march={board.cpu.isa}", f"-mabi={board.cpu.abi}")
        libgcc = _run([*chosen.command, *isa_of_library, "-print-libgcc-file-name"], folder)
        link += ["-nostdlib", "-Wl,--no-warn-rwx-segments", *objects, libgcc.strip()]
    else:
        link += objects
    _run([*link, "-o", elf.name], folder)
    return read_image(elf, map_file)


def read_image(elf: Path, map_file: Path) -> FirmwareImage:
    """Section sizes and symbols of a linked firmware.

    Raises:
        BackendError: pyelftools is missing.
    """
    try:
        from elftools.elf.elffile import ELFFile
    except ImportError:
        raise BackendError("pyelftools is not installed", hint=ZIG_HINT) from None
    names = {".text": "text", ".rodata": "rodata", ".data": "data", ".bss": "bss"}
    sizes = dict.fromkeys((*names.values(), "params", "arena", "stack", "weights"), 0)
    symbols: dict[str, int] = {}
    with elf.open("rb") as stream:
        image = ELFFile(stream)
        for section in image.iter_sections():
            if section.name in names:
                sizes[names[section.name]] += section["sh_size"]
        table = image.get_section_by_name(".symtab")
        assert table is not None, "the firmware was linked with its symbols"
        for symbol in table.iter_symbols():  # type: ignore[attr-defined]
            if symbol.name:
                symbols[symbol.name] = symbol["st_value"]
    sizes["params"] = symbols["et_params_end"] - symbols["et_params_start"]
    sizes["arena"] = symbols["et_arena_end"] - symbols["et_arena_start"]
    sizes["stack"] = symbols["__stack_top"] - symbols["__stack_limit"]
    return FirmwareImage(elf, map_file, sizes, symbols)


def _compile_all(compiler: Compiler, folder: Path, flags: Sequence[str]) -> list[str]:
    """Object files of all sources of a folder, two at a time."""
    sources = sorted(p for p in folder.iterdir() if p.suffix in _SUFFIXES)
    headers = "".join(
        f"{p.name}\n{p.read_text()}" for p in sorted(folder.glob("*.h")) if p.name not in ("model.h", "weights.h")
    )
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:
        return list(pool.map(lambda source: str(_compile(compiler, source, flags, headers)), sources))


def _compile(compiler: Compiler, source: Path, flags: Sequence[str], headers: str) -> Path:
    """One object file; those of runtime files are looked up by the content of all they depend on."""
    shared = source.name.startswith("et_")
    text = source.read_text()
    key = hashlib.sha256(repr((compiler.command, tuple(flags), source.name, text, headers)).encode()).hexdigest()
    out = _cache() / f"{key}.o" if shared else source.with_suffix(".o")
    if shared and out.is_file():
        return out
    partial = out.with_name(f"{out.name}.{os.getpid()}")
    language = [flag for flag in flags if flag != "-Wpedantic"] if source.suffix == ".S" else list(flags)
    try:
        _run([*compiler.command, *language, "-c", str(source), "-o", str(partial)], source.parent)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return out


@cache
def _cache() -> Path:
    import atexit

    place = Path(tempfile.mkdtemp(prefix="edgetrain-objects-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


@cache
def _native(compiler: Compiler) -> tuple[str, ...]:
    """-march=native and what goes with it, where the compiler takes it."""
    if compiler.name == "zig":
        return ()  # zig means this machine where no CPU is named
    flags = ["-march=native"]
    if platform.machine() in ("x86_64", "AMD64"):
        flags.append("-mprefer-vector-width=512")
    for attempt in (tuple(flags), tuple(flags[:1])):
        probe = subprocess.run(
            [*compiler.command, *attempt, "-x", "c", "-E", "-"], input="", capture_output=True, text=True, check=False
        )
        if probe.returncode == 0:
            return attempt
    return ()


def _run(command: Sequence[str], folder: Path) -> str:
    """Runs a compiler in a folder.

    Raises:
        BackendError: it fails; the message is its first errors.
    """
    environment = {**os.environ}
    if "ziglang" in command and not _home_is_writable():
        environment.setdefault("ZIG_GLOBAL_CACHE_DIR", str(Path(tempfile.gettempdir()) / "edgetrain-zig"))
    try:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    except OSError as error:
        raise BackendError(f"{command[0]} cannot be started: {error.strerror}", where="--compiler") from None
    if result.returncode:
        said = result.stderr.splitlines()
        faults = [line for line in said if any(word in line for word in ("error", "undefined", "overflow"))]
        shown = "\n".join((faults or said)[:6])
        raise BackendError(f"{Path(command[0]).name} failed:\n{shown}", where=str(folder))
    return result.stdout


def _home_is_writable() -> bool:
    home = os.environ.get("HOME")
    return bool(home) and os.access(str(home), os.W_OK)
