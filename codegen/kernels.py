"""Which file of runtime_c defines which kernel: read from the C itself, so that a new kernel needs no list."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from codegen.errors import BackendError
from codegen.resources import folder

# A prototype ends with a semicolon, a definition goes on with a brace; both start a line in our style.
_PROTOTYPE = re.compile(r"^(?!static|typedef)[A-Za-z_][\w *]*?\b(et_\w+)\s*\([^;{]*\)\s*;", re.MULTILINE)
_DEFINITION = re.compile(r"^(?!static|typedef)[A-Za-z_][\w *]*?\b(et_\w+)\s*\([^;{]*\)\s*\{", re.MULTILINE)
_SHARED = re.compile(r"^ET_SHARED\s[\w\s*]*?\b(et_\w+)\s*\(", re.MULTILINE)
_INCLUDE = re.compile(r'^#include "(et_\w+\.(?:h|inc))"', re.MULTILINE)
# What a model's header declares of its own: see templates/model.
_OF_A_MODEL = re.compile(r"\bet_(\w+)_(?:t|params|init|infer|train_step|update)\b")
GENERATED = frozenset({"et_config.h"})


@dataclass(frozen=True)
class Runtime:
    """The runtime files that a set of kernels needs, sorted."""

    headers: tuple[str, ...]
    sources: tuple[str, ...]
    includes: tuple[str, ...]


@cache
def _texts() -> dict[str, str]:
    place = folder("runtime_c")
    return {p.name: p.read_text() for p in sorted(place.iterdir()) if p.suffix in (".c", ".h", ".inc")}


@cache
def _declared() -> dict[str, str]:
    """Function -> header that declares it."""
    return {f: name for name, text in _texts().items() if name.endswith(".h") for f in _PROTOTYPE.findall(text)}


@cache
def _defined() -> dict[str, str]:
    """Function -> source that defines it."""
    return {f: name for name, text in _texts().items() if name.endswith(".c") for f in _DEFINITION.findall(text)}


@cache
def _needs(name: str) -> tuple[str, ...]:
    """The files that a file needs directly: what it includes, and the sources of all that its headers declare."""
    text = _texts()[name]
    sources = [_defined()[f] for f in _PROTOTYPE.findall(text) if f in _defined()] if name.endswith(".h") else []
    return tuple(dict.fromkeys([*_INCLUDE.findall(text), *sources]))


def runtime_for(kernels: Iterable[str]) -> Runtime:
    """The files to ship for these kernels.

    Raises:
        BackendError: a kernel is declared nowhere, which is a defect of an op's lowering.
    """
    declared = _declared()
    wanted = sorted(set(kernels))
    unknown = [kernel for kernel in wanted if kernel not in declared]
    if unknown:
        raise BackendError(f"no header of runtime_c declares {', '.join(unknown)}")
    includes = {declared[kernel] for kernel in wanted}
    needed: set[str] = set()
    waiting = [_defined()[kernel] for kernel in wanted if kernel in _defined()]
    waiting += sorted(includes)
    while waiting:
        name = waiting.pop()
        if name not in needed and name in _texts():
            needed.add(name)
            waiting.extend(_needs(name))
    return Runtime(
        tuple(sorted(name for name in needed if not name.endswith(".c"))),
        tuple(sorted(name for name in needed if name.endswith(".c"))),
        tuple(sorted(includes)),
    )


@cache
def shared_kernels() -> frozenset[str]:
    """The kernels that share their work among threads (runtime_c/et_share.h)."""
    return frozenset(f for name, text in _texts().items() if name.endswith(".h") for f in _SHARED.findall(text))


def runtime_text(name: str) -> str:
    """The text of a runtime file."""
    return _texts()[name]


@cache
def taken_names() -> frozenset[str]:
    """Names that no model can have: et_NAME_init, say, would be the runtime's or a board's."""
    boards = folder("targets") / "common"
    texts = [*_texts().values(), *(p.read_text() for p in sorted(boards.iterdir()) if p.suffix in (".c", ".h"))]
    return frozenset(name for text in texts for name in _OF_A_MODEL.findall(text))
