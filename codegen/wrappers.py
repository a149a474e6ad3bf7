"""A model with its link as a library of PlatformIO, Arduino, Zephyr or ESP-IDF, and a small program around it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codegen.board import Board, extensions, list_boards, load_board
from codegen.compilers import NUMERICS
from codegen.emit import environment, generate
from codegen.errors import BackendError
from codegen.kernels import runtime_text
from codegen.program import Program
from codegen.project import device_files, device_values

_MANIFEST = "manifest.json"
_EXAMPLE = "example.c.j2"
# Kind -> (folder of the library's sources, {file: template}); {name} is the model's.
_LAYOUTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "platformio": (
        "lib/{name}/src",
        {"platformio.ini": "platformio.ini.j2", "lib/{name}/library.json": "library.json.j2", "src/main.c": _EXAMPLE},
    ),
    "arduino": (
        "src",
        {
            "library.properties": "library.properties.j2",
            "src/{name}.h": "arduino.h.j2",
            "examples/{name}_sensor/{name}_sensor.ino": _EXAMPLE,
        },
    ),
    "zephyr": (
        "src",
        {
            "zephyr/module.yml": "module.yml.j2",
            "zephyr/CMakeLists.txt": "zephyr.cmake.j2",
            "zephyr/Kconfig": "Kconfig.j2",
            "sample/CMakeLists.txt": "zephyr_sample.cmake.j2",
            "sample/prj.conf": "prj.conf.j2",
            "sample/src/main.c": _EXAMPLE,
        },
    ),
    "esp-idf": (
        "components/{name}/src",
        {
            "components/{name}/CMakeLists.txt": "idf_component.cmake.j2",
            "components/{name}/idf_component.yml": "idf_component.yml.j2",
            "CMakeLists.txt": "idf_project.cmake.j2",
            "main/CMakeLists.txt": "idf_main.cmake.j2",
            "main/main.c": _EXAMPLE,
            "sdkconfig.defaults": "sdkconfig.defaults.j2",
            "partitions.csv": "partitions.csv.j2",
        },
    ),
}  # fmt: skip
KINDS = tuple(_LAYOUTS)
# What serves the link, beside the library's model and runtime.
_LINK: Mapping[str, str] = {
    "hooks.h": "board/hooks.h.j2",
    "hooks.c": "board/hooks.c.j2",
    "port.h": "wrapper/port.h.j2",
    "port.c": "wrapper/port.c.j2",
    "serve.h": "wrapper/serve.h.j2",
    "serve.c": "wrapper/serve.c.j2",
}
# Kind -> the table of target.toml without which it cannot be written.
_FACTS = {"platformio": "platformio", "esp-idf": "esp_idf"}


def write_wrapper(place: Path, program: Program, board: Board, tool: str, kind: str) -> None:
    """Fills an empty folder.

    Args:
        tool: name and version, for the banners.
        kind: one of KINDS.

    Raises:
        BackendError: the board is unknown to that build system.
    """
    for name, text in wrapper_files(program, board, tool, kind).items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


def wrapper_files(program: Program, board: Board, tool: str, kind: str) -> dict[str, str]:
    """Path -> text.

    Raises:
        BackendError: the board is unknown to that build system.
    """
    table = _FACTS.get(kind)
    if table and getattr(board, table) is None:
        known = [name for name in list_boards() if getattr(load_board(name), table) is not None]
        hint = f"known there: {', '.join(known)}; or add [{table}] to a target.toml of your own"
        raise BackendError(f"{board.id} has no [{table}] in its target.toml", where=f"--wrapper {kind}", hint=hint)
    folder, templates = _LAYOUTS[kind]
    model = generate(program, tool)
    model.update((name, runtime_text(name)) for name in device_files() if name not in model)
    values = _values(program, board, tool, kind, {**model, **_LINK})
    model.update((name, _render(template, values)) for name, template in _LINK.items())
    files = {_MANIFEST: model.pop(_MANIFEST)}
    before = _render("wrapper/arduino_source.c.j2", values) if kind == "arduino" else ""
    for name, text in model.items():
        files[f"{folder.format(name=program.name)}/{name}"] = (before if name.endswith(".c") else "") + text
    for name, template in templates.items():
        files[name.format(name=program.name)] = _render(f"wrapper/{template}", values)
    return files


def _values(program: Program, board: Board, tool: str, kind: str, model: Mapping[str, str]) -> Mapping[str, Any]:
    return {
        **device_values(program, board, tool),
        "bare": False,
        "version": tool.split()[-1],
        "source": program.facts["source"],
        "sources": sorted(name for name in model if name.endswith(".c")),
        # The C standard is the build system's own choice.
        "flags": " ".join(flag for flag in NUMERICS if not flag.startswith("-std")),
        "hardware_float": "f" in extensions(board.cpu.isa),
        "entry": kind,
        "header": f"{program.name}.h" if kind == "arduino" else "model.h",
    }


def _render(template: str, values: Mapping[str, Any]) -> str:
    return str(environment().get_template(template).render(values))
