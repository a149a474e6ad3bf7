"""The files around a model: start-up code, linker script, main, and build files that work offline."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from codegen.board import Board, Use
from codegen.build import LINKER_SCRIPT
from codegen.compilers import (
    FREESTANDING,
    NUMERICS,
    WARNINGS,
    Family,
    firmware_flags,
    firmware_link_flags,
    libgcc_query,
)
from codegen.emit import environment, manifest, ports
from codegen.errors import BackendError
from codegen.kernels import GENERATED, runtime_for, runtime_text
from codegen.program import Port, Program
from codegen.resources import folder

_GCC = "riscv64-unknown-elf-gcc"
_INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)
_PROGRAMS = re.compile(r"^bool et_flash_program\(", re.MULTILINE)
_FAMILIES: tuple[Family, ...] = ("gcc", "clang", "zig")


def write_project(place: Path, program: Program, board: Board, tool: str) -> None:
    """Adds to a folder of generated C what it needs to be built for a board.

    Args:
        place: the folder that `emit` has written.

    Raises:
        BackendError: target.toml names a source that does not exist.
    """
    for name, text in project_files(program, board, tool).items():
        (place / name).write_text(text, encoding="utf-8", newline="\n")


def project_files(program: Program, board: Board, tool: str) -> dict[str, str]:
    """File name -> text."""
    values = _values(program, board, tool)
    # For `edgetrain flash`: how the firmware gets onto the board.
    facts = {"target": board.id, "isa": board.cpu.isa, "flash": asdict(board.flash) if board.flash else None}
    files = {"target.json": json.dumps(facts, indent=2) + "\n"}
    if not board.is_host:
        files.update((name, runtime_text(name)) for name in device_files())
        for name in board.board.sources:
            files[name] = _board_source(board, name)
        own = [files[name] for name in board.board.sources]
        files.update(_included(board, own, {"board_config.h", *device_files()}))
        files["board_config.h"] = _render("board_config.h.j2", values)
        files["hooks.h"] = _render("hooks.h.j2", values)
        files["hooks.c"] = _render("hooks.c.j2", values)
        files["main.c"] = _render("main.c.j2", values)
        files[LINKER_SCRIPT] = _render("linker.ld.j2", values)
        files["Makefile"] = _render("Makefile.j2", values)
        files["CMakeLists.txt"] = _render("CMakeLists.txt.j2", values)
    else:
        files["Makefile"] = _render("host_Makefile.j2", values)
        files["CMakeLists.txt"] = _render("host_CMakeLists.txt.j2", values)
    return files


def device_files() -> tuple[str, ...]:
    """The runtime files that serve the link and keep states."""
    device = runtime_for(["et_device_run", "et_device_keep"])
    return tuple(name for name in (*device.headers, *device.sources) if name not in GENERATED)


def device_values(program: Program, board: Board, tool: str) -> Mapping[str, Any]:
    """What device.c.j2, which ties a model to the link, and the hooks need to know."""
    return {
        "tool": tool,
        "name": program.name,
        "upper": program.name.upper(),
        "sha256": program.facts["sha256"],
        **ports(program),
        "trainable": "train_step" in program.functions,
        "accumulates": "update" in program.functions,
        "arena_bytes": program.arena_bytes,
        "params_bytes": program.params_bytes,
        "fma": program.fma,
        "classes": program.outputs[0].shape[-1] if program.outputs and _counts(program.outputs[0]) else 0,
        "coded": board.link.codes and bool(program.inputs) and all(p.dtype == "float32" for p in program.inputs),
        "layout": _layout(program, tool),
        "frame_bytes": board.link.frame_bytes,
        "board": board,
    }


def _values(program: Program, board: Board, tool: str) -> Mapping[str, Any]:
    return {
        **device_values(program, board, tool),
        "bare": True,
        "numerics": " ".join(NUMERICS),
        "warnings": " ".join(WARNINGS),
        "optimize": program.optimize,
        **({} if board.is_host else _firmware_values(board)),
    }


def _counts(port: Port) -> bool:
    """Whether an output has numbers of which the largest can be found on the board."""
    return port.dtype == "float32" and len(port.shape) > 0


def _layout(program: Program, tool: str) -> int:
    """A number that changes when the params in a flash would be read as something else."""
    facts = manifest(program, tool)
    return zlib.crc32(json.dumps([facts["params"], facts["options"], facts["fma"]]).encode())


def _firmware_values(board: Board) -> dict[str, Any]:
    """What build files and linker script need to know of a board."""
    return {
        **{use: board.region(use).name for use in get_args(Use) if use != "store"},
        "below_stack": _below_stack(board),
        "script": LINKER_SCRIPT,
        "gcc": _GCC,
        "compilers": board.toolchain.compilers,
        "flags": {name: " ".join((*firmware_flags(board, name), *board.toolchain.flags)) for name in _FAMILIES},
        "link_flags": {name: " ".join(firmware_link_flags(name)) for name in _FAMILIES},
        "libgcc": " ".join(libgcc_query(board)),
        "freestanding": " ".join(FREESTANDING),
    }


def _below_stack(board: Board) -> str | None:
    """The last section in the memory of the stack; None where it has that memory for itself."""
    sections: dict[Use, str] = {
        "text": ".text", "rodata": ".rodata", "data": ".bss", "weights": ".et_params", "arena": ".et_arena"
    }
    shared = [section for use, section in sections.items() if board.region(use) == board.region("stack")]
    return shared[-1] if shared else None


def why_nothing_is_kept(board: Board, params_bytes: int) -> str | None:
    """Why SAVE will be refused; None where it is not. What a user adds to the folder is not seen from here."""
    store = board.store
    if not any(_PROGRAMS.search(_board_source(board, name)) for name in board.board.sources):
        region = "" if store else ', and a [[memory]] with use = ["store"]'
        return f"nobody has written the driver of its flash: it needs et_flash_erase and et_flash_program{region}"
    if store is None:
        return 'target.toml has no [[memory]] with use = ["store"]'
    if params_bytes > store.slot_bytes:
        return f"{store.name} keeps states of {store.slot_bytes:,} B, and this one has {params_bytes:,} B"
    return None


def _included(board: Board, texts: list[str], generated: set[str]) -> dict[str, str]:
    """The board's headers that these texts include, themselves or through one another; main.c takes board.h."""
    files: dict[str, str] = {}
    waiting = {"board.h", *(name for text in texts for name in _INCLUDE.findall(text))} - generated
    while waiting:
        name = waiting.pop()
        files[name] = _board_source(board, name)
        waiting |= set(_INCLUDE.findall(files[name])) - set(files) - generated
    return dict(sorted(files.items()))


def _board_source(board: Board, name: str) -> str:
    for place in (board.folder / name, folder("targets") / "common" / name):
        if place.is_file():
            return place.read_text(encoding="utf-8")
    raise BackendError(f"source {name} is neither beside it nor in targets/common", where=f"target.toml of {board.id}")


def _render(template: str, values: Mapping[str, Any]) -> str:
    return str(environment().get_template(f"board/{template}").render(values))
