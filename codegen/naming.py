"""C names for tensors and nodes: readable, unique, the same on every run."""

from __future__ import annotations

import re

# C's own words, and the names that the templates use.
_RESERVED = """
    auto break case char const continue default do double else enum extern float for goto if inline int long register
    restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
    m arena params label loss
"""
_KEYWORDS = frozenset(_RESERVED.split())


def identifier(text: str) -> str:
    """A lower-case C identifier that still reads like the text."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()
    name = re.sub(r"(_out|_output_0)$", "", name) or "t"
    if name[0].isdigit() or name in _KEYWORDS:
        name = f"t_{name}"
    return name


class Names:
    """A name space: each thing asks once and gets a name of its own."""

    def __init__(self, reserved: set[str] | None = None) -> None:
        self._taken = set(reserved or ())
        self._names: dict[str, str] = {}

    def __call__(self, thing: str, wanted: str | None = None) -> str:
        """The C name of `thing`; made from `wanted` (default: the thing itself) when asked first."""
        if thing not in self._names:
            base = identifier(wanted if wanted is not None else thing)
            name, number = base, 2
            while name in self._taken:
                name, number = f"{base}_{number}", number + 1
            self._taken.add(name)
            self._names[thing] = name
        return self._names[thing]
