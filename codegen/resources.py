"""Where the packaged C and board files are, wherever the wheel was installed."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from codegen.errors import BackendError

# One file that only our package of that name has: tells our `targets` from somebody else's.
_MARKERS = {"runtime_c": "et_base.h", "targets": "host/target.toml", "codegen": "program.py"}


@cache
def folder(package: str) -> Path:
    """The folder of one of our data packages.

    Args:
        package: "runtime_c", "targets" or "codegen".

    Raises:
        BackendError: another installed package of the same name shadows ours.
    """
    spec = find_spec(package)
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    for place in places:
        if (place / _MARKERS[package]).is_file():
            return place
    found = ", ".join(str(place) for place in places) or "nothing"
    raise BackendError(
        f"the package '{package}' of edgetrain is hidden by another one of that name (found {found})",
        hint="install edgetrain in a virtual environment of its own",
    )
