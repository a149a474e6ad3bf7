"""The files around a model: start-up code, linker script, main, and build files that work offline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codegen.board import Board
from codegen.build import firmware_flags, host_flags
from codegen.emit import environment, ports
from codegen.errors import BackendError
from codegen.kernels import runtime_for, runtime_text
from codegen.program import Program
from codegen.resources import folder

LINKER_SCRIPT = "linker.ld"


def write_project(place: Path, program: Program, board: Board, tool: str) -> None:
    """Adds to a folder of generated C what it needs to be built for a board.

    Args:
        place: the folder that `emit` has written.

    Raises:
        BackendError: target.toml names a source that does not exist.
    """
    for name, text in project_files(program, board, tool).items():
        (place / name).write_text(text)


def project_files(program: Program, board: Board, tool: str) -> dict[str, str]:
    """File name -> text."""
    values = _values(program, board, tool)
    files: dict[str, str] = {}
    if not board.is_host:
        device = runtime_for(["et_device_run"])
        for name in (*device.headers, *device.sources):
            if name != "et_config.h":
                files[name] = runtime_text(name)
        for name in board.board.sources:
            files[name] = _board_source(board, name)
        for header in sorted((folder("targets") / "common").glob("*.h")):
            files[header.name] = header.read_text()
        files["main.c"] = _render("main.c.j2", values)
        files[LINKER_SCRIPT] = _render("linker.ld.j2", values)
        files["Makefile"] = _render("Makefile.j2", values)
        files["CMakeLists.txt"] = _render("CMakeLists.txt.j2", values)
    else:
        files["Makefile"] = _render("host_Makefile.j2", values)
        files["CMakeLists.txt"] = _render("host_CMakeLists.txt.j2", values)
    return files


def _values(program: Program, board: Board, tool: str) -> Mapping[str, Any]:
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
        "frame_bytes": board.link.frame_bytes,
        "board": board,
        "text": None if board.is_host else board.region("text").name,
        "data": None if board.is_host else board.region("data").name,
        "script": LINKER_SCRIPT,
        "flags": {name: " ".join(firmware_flags(board, name)) for name in ("gcc", "zig")} if not board.is_host else {},
        "host_flags": " ".join(host_flags("-O2")),
    }


def _board_source(board: Board, name: str) -> str:
    for place in (board.folder / name, folder("targets") / "common" / name):
        if place.is_file():
            return place.read_text()
    raise BackendError(f"source {name} is neither beside it nor in targets/common", where=f"target.toml of {board.id}")


def _render(template: str, values: Mapping[str, Any]) -> str:
    return str(environment().get_template(f"board/{template}").render(values))
