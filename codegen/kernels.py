"""Which file of runtime_c defines which kernel: read from the C itself, so that a new kernel needs no list."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from codegen.errors import BackendError
from codegen.resources import folder

_DECLARATION = re.compile(r"^(?:ET_CHECKED )?et_status\s+(et_\w+)\s*\(", re.MULTILINE)
_INCLUDE = re.compile(r'^#include "(et_\w+\.(?:h|inc))"', re.MULTILINE)
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
def _defined() -> dict[str, tuple[str, str]]:
    """Kernel -> (header that declares it, source that defines it)."""
    declared: dict[str, str] = {}
    defined: dict[str, str] = {}
    for name, text in _texts().items():
        for kernel in _DECLARATION.findall(text):
            (declared if name.endswith(".h") else defined)[kernel] = name
    return {kernel: (header, defined.get(kernel, "")) for kernel, header in declared.items()}


def runtime_for(kernels: Iterable[str]) -> Runtime:
    """The files to ship for these kernels.

    Raises:
        BackendError: a kernel is declared nowhere, which is a defect of an op's lowering.
    """
    texts, known = _texts(), _defined()
    wanted = sorted(set(kernels))
    unknown = [kernel for kernel in wanted if kernel not in known]
    if unknown:
        raise BackendError(f"no header of runtime_c declares {', '.join(unknown)}")
    includes = {known[kernel][0] for kernel in wanted}
    needed: set[str] = set(includes) | {known[kernel][1] for kernel in wanted if known[kernel][1]}
    waiting = list(needed)
    while waiting:
        for name in _INCLUDE.findall(texts[waiting.pop()]):
            # What a header declares is defined in the source of its name.
            for file in (name, name[:-2] + ".c"):
                if file in texts and file not in needed:
                    needed.add(file)
                    waiting.append(file)
    return Runtime(
        tuple(sorted(name for name in needed if not name.endswith(".c"))),
        tuple(sorted(name for name in needed if name.endswith(".c"))),
        tuple(sorted(includes)),
    )


def runtime_text(name: str) -> str:
    """The text of a runtime file."""
    return _texts()[name]
