"""Compilers: which are installed, and every flag that one is ever given. Makefiles are filled from the same tables."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from codegen.board import Board, extensions
from codegen.errors import BackendError

Family = Literal["gcc", "clang", "zig"]
Purpose = Literal["host", "riscv"]
_FAMILIES = ("gcc", "clang", "zig")

# The numerics contract (N1): a multiply-add is fused where the source says so, and a square root is an instruction.
NUMERICS = ("-std=c99", "-ffp-contract=off", "-fno-math-errno")
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
# Zig instruments code that is not optimized with traps, unless told not to, adds debug information of its own, and
# keeps a register for a frame pointer.
_ZIG = ("-fno-sanitize=undefined", "-g0", "-fomit-frame-pointer")
FREESTANDING = ("-ffreestanding", "-ffunction-sections", "-fdata-sections", "-fno-common")
_RISCV_GCC = ("riscv64-unknown-elf-gcc", "riscv32-unknown-elf-gcc", "riscv-none-elf-gcc", "riscv32-esp-elf-gcc")
# The libraries that every gcc for RISC-V comes with. Any other -march silently takes the one for 64 bits.
_LIBGCC = {
    "ilp32": ("rv32imac", "rv32iac", "rv32im", "rv32i"),
    "ilp32f": ("rv32imafc",),
    "ilp32d": ("rv32imafdc",),
    "lp64": ("rv64imac",),
    "lp64d": ("rv64imafdc",),
}
_INSTALL: dict[Purpose, str] = {
    "riscv": "pip install 'edgetrain[riscv]', or apt-get install gcc-riscv64-unknown-elf",
    "host": "apt-get install gcc, or pip install ziglang",
}


@dataclass(frozen=True)
class Compiler:
    """An installed compiler.

    Attributes:
        name: what a user calls it: gcc, clang, zig, or the command that was given.
        command: how it is started.
    """

    name: str
    family: Family
    command: tuple[str, ...]

    def version(self) -> str:
        """The first line that it says of itself."""
        first = "version" if self.family == "zig" else "--version"
        command = self.command[:-1] if self.family == "zig" else self.command
        run = run_tool([*command, first])
        text = run.stdout.splitlines()[0] if run.returncode == 0 and run.stdout else "unknown"
        return f"zig {text}" if self.family == "zig" else text

    def native_flags(self) -> tuple[str, ...]:
        """Flags for all instructions of this machine, where the compiler takes them."""
        if self.family == "zig":  # which means this machine where no CPU is named
            return _ZIG
        wide = ("-mprefer-vector-width=512",) if platform.machine() in ("x86_64", "AMD64") else ()
        return next((flags for flags in (("-march=native", *wide), ("-march=native",)) if _takes(self, flags)), ())

    def firmware_libraries(self, board: Board) -> tuple[str, ...]:
        """What to link beside the objects: division and float arithmetic that the core lacks.

        Raises:
            BackendError: clang without a gcc to take the library from.
        """
        if self.family == "zig":  # brings its own, as long as -nostdlib is not given
            return ()
        gcc = self if self.family == "gcc" else find("gcc", "riscv")
        run = run_tool([*gcc.command, *libgcc_query(board)])
        return (run.stdout.strip(),)


def host_flags(optimize: str) -> tuple[str, ...]:
    """Flags for this PC that any compiler takes, warnings included."""
    return (*NUMERICS, optimize, *WARNINGS)


def firmware_flags(board: Board, family: str) -> tuple[str, ...]:
    """Flags of a compiler that name the core of a board."""
    isa, abi = board.cpu.isa, board.cpu.abi
    bits = isa[2:4]
    if family == "zig":
        # generic_rv32 spills where rocket_rv32 does not: 4.3 against 2.9 instructions per multiply-add.
        features = "".join(f"+{extension}" for extension in extensions(isa) if extension != "i")
        target = ("-target", f"riscv{bits}-freestanding-none", f"-mcpu=rocket_rv{bits}{features}", f"-mabi={abi}")
        # Code of 64 bits must reach 0x80000000, which the model that zig takes by itself does not.
        return (*target, *(("-mcmodel=medany",) if bits == "64" else ()), *_ZIG)
    core = (f"-march={isa}", f"-mabi={abi}", "-mcmodel=medany")
    if family == "clang":
        return (f"--target=riscv{bits}-unknown-elf", *core)
    # Manual 2.2 has the control registers in the base ISA; later ones want _zicsr named, which libgcc's names lack.
    return (*core, "-misa-spec=2.2")


def require_extensions(compiler: Compiler, board: Board) -> None:
    """Raises BackendError where the compiler does not know a named extension of the core, and would do without.

    A compiler says what it knows in a macro with the version of the extension; gcc 12 gives Zfh the version 0.
    """
    named = [extension for extension in extensions(board.cpu.isa) if len(extension) > 1]
    found = _known(compiler, firmware_flags(board, compiler.family))
    unknown = [extension for extension in named if extension not in found]
    if unknown:
        others = {c.name: _known(c, firmware_flags(board, c.family)) for c in find_riscv_compilers()}
        fitting = [name for name, known in others.items() if known.issuperset(named)]
        hint = f"--compiler {fitting[0]}" if fitting else "pip install ziglang, then --compiler zig"
        what = f"{compiler.name} does not know the extension {', '.join(unknown)} of {board.cpu.isa}"
        raise BackendError(what, where="--compiler", hint=hint)


@cache
def _known(compiler: Compiler, core: tuple[str, ...]) -> frozenset[str]:
    """The extensions that a compiler generates instructions of when given the flags of a core."""
    run = run_tool([*compiler.command, *core, "-dM", "-E", "-x", "c", os.devnull])
    versions = re.findall(r"#define __riscv_(\w+) (\d+)", run.stdout) if run.returncode == 0 else []
    return frozenset(name for name, version in versions if int(version) > 0)


def firmware_link_flags(family: str) -> tuple[str, ...]:
    """Flags for linking a firmware, beyond those of the core; script, map and libraries come on top."""
    if family == "zig":  # -nostdlib would drop its library of what the core lacks
        return ("-Wl,--gc-sections",)
    linker = ("-fuse-ld=lld",) if family == "clang" else ("-Wl,--no-warn-rwx-segments",)
    return ("-nostdlib", "-nostartfiles", "-static", *linker, "-Wl,--gc-sections")


def libgcc_query(board: Board) -> tuple[str, ...]:
    """Arguments for which a gcc prints the path of the library that fits the core."""
    have = set(extensions(board.cpu.isa))
    fitting = [isa for isa in _LIBGCC.get(board.cpu.abi, ()) if set(extensions(isa)) <= have]
    if not fitting:
        raise BackendError(f"no gcc library fits {board.cpu.isa} with {board.cpu.abi}", hint="--compiler zig")
    return (f"-march={fitting[0]}", f"-mabi={board.cpu.abi}", "-print-libgcc-file-name")


def find_host_compilers() -> list[Compiler]:
    """Compilers for this PC, best first; before all others the one that $CC names."""
    return [c for c in (_from_environment(), _find_gcc("host"), _find_clang("host"), _find_zig()) if c]


def find_riscv_compilers() -> list[Compiler]:
    """Compilers for bare-metal RISC-V, best first."""
    return [c for c in (_find_zig(), _find_gcc("riscv"), _find_clang("riscv")) if c]


def find(name: str | None, purpose: Purpose, order: Sequence[str] = ()) -> Compiler:
    """A compiler by name (gcc, clang, zig), by command or by path; the best of `order` for None.

    Raises:
        BackendError: there is none.
    """
    found = find_host_compilers() if purpose == "host" else find_riscv_compilers()
    if order:
        found = sorted((c for c in found if c.name in order), key=lambda c: order.index(c.name))
    if name is None:
        if found:
            return found[0]
        raise BackendError(f"no C compiler for {_TARGET[purpose]}", where="--compiler", hint=_INSTALL[purpose])
    for compiler in found:
        if name == compiler.name:
            return compiler
    if order and name in _FAMILIES and name not in order:
        raise BackendError(f"{name} cannot build for it", where="--compiler", hint=f"its compilers: {', '.join(order)}")
    path = shutil.which(name)
    if path is None:
        known = ", ".join(c.name for c in found) or "none"
        hint = f"found here: {known}. {_INSTALL[purpose]}"
        raise BackendError(f"no compiler '{name}' for {_TARGET[purpose]}", where="--compiler", hint=hint)
    family = _family(name)
    return Compiler(name, family, (path, "cc") if family == "zig" else (path,))


_TARGET: dict[Purpose, str] = {"host": "this PC", "riscv": "RISC-V"}


def run_tool(command: Sequence[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a compiler or linker and returns what it said; messages are in English."""
    environment = {**os.environ, "LC_ALL": "C", **_zig_cache()}
    try:
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BackendError(f"{command[0]} cannot be started: {error.strerror}", where="--compiler") from None


@cache
def _zig_cache() -> dict[str, str]:
    """Zig refuses to run without a cache folder: where it could not make one at home, give it a temporary one."""
    if "ZIG_GLOBAL_CACHE_DIR" in os.environ:
        return {}
    places = [os.environ.get("XDG_CACHE_HOME"), os.environ.get("HOME"), os.environ.get("LOCALAPPDATA")]
    if any(place and os.access(place, os.W_OK) for place in places):
        return {}
    user = os.getuid() if hasattr(os, "getuid") else 0
    return {"ZIG_GLOBAL_CACHE_DIR": str(Path(tempfile.gettempdir()) / f"edgetrain-zig-{user}")}


def _family(command: str) -> Family:
    words = Path(command.split()[0]).name + " ".join(command.split()[1:])
    return "zig" if "zig" in words else "clang" if "clang" in words else "gcc"


def _from_environment() -> Compiler | None:
    """$CC, which may have arguments."""
    words = os.environ.get("CC", "").split()
    if not words or not shutil.which(words[0]):
        return None
    family = _family(" ".join(words))
    return Compiler(family, family, tuple(words))


@cache
def _find_zig() -> Compiler | None:
    """The ziglang wheel, else a zig on the path."""
    spec = find_spec("ziglang")
    places = spec.submodule_search_locations if spec else None
    for place in places or []:
        binary = Path(place) / ("zig.exe" if sys.platform == "win32" else "zig")
        if binary.is_file():
            return Compiler("zig", "zig", (str(binary), "cc"))
    path = shutil.which("zig")
    return Compiler("zig", "zig", (path, "cc")) if path else None


@cache
def _find_gcc(purpose: Purpose) -> Compiler | None:
    for name in ("gcc",) if purpose == "host" else _RISCV_GCC:
        path = shutil.which(name)
        if path:
            return Compiler("gcc", "gcc", (path,))
    return None


@cache
def _find_clang(purpose: Purpose) -> Compiler | None:
    """clang, or the newest clang-N; for RISC-V only one that has the target and the linker."""
    for name in ("clang", *(f"clang-{version}" for version in range(30, 14, -1))):
        path = shutil.which(name)
        if path is None:
            continue
        compiler = Compiler("clang", "clang", (path,))
        if purpose == "host":
            return compiler
        targets = run_tool([path, "--print-targets"]).stdout
        linker = run_tool([path, "-print-prog-name=ld.lld"]).stdout.strip()
        if re.search(r"\briscv32\b", targets) and shutil.which(linker) and _find_gcc("riscv"):
            return compiler
    return None


@cache
def _takes(compiler: Compiler, flags: tuple[str, ...]) -> bool:
    """Whether a compiler knows flags."""
    with tempfile.TemporaryDirectory(prefix="edgetrain-") as place:
        source = Path(place) / "empty.c"
        source.write_text("int nothing;\n")
        return run_tool([*compiler.command, *flags, "-c", "empty.c", "-o", "empty.o"], source.parent).returncode == 0
