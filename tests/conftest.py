"""What all tests share: hypothesis draws the same examples on every machine; objects are compiled once for all of them.

Without the slow tests, models are compiled for this PC with less optimization, which takes half of the time and changes
no bit. CI, which runs the slow ones too, compiles them as users do.

EDGETRAIN_EXAMPLES=20000 draws so many others, new ones each time: for a long search (tests/fuzz/README.md).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from toolkit.sim.host import HostBackend

_MANY = int(os.environ.get("EDGETRAIN_EXAMPLES", "0"))
_OBJECTS = pytest.StashKey[Path]()

settings.register_profile("same-everywhere", derandomize=True, deadline=None, max_examples=25, print_blob=True)
settings.register_profile(
    "many", deadline=None, max_examples=max(_MANY, 1), print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("many" if _MANY else "same-everywhere")


def pytest_configure(config: pytest.Config) -> None:
    """How to compile, and a folder of objects for all processes of this run, those that tests start included."""
    if config.option.markexpr == "not slow":
        HostBackend.optimize = "-O1"
    if "EDGETRAIN_CACHE" not in os.environ:
        config.stash[_OBJECTS] = Path(tempfile.mkdtemp(prefix="edgetrain-objects-"))
        os.environ["EDGETRAIN_CACHE"] = str(config.stash[_OBJECTS])


def pytest_unconfigure(config: pytest.Config) -> None:
    if _OBJECTS in config.stash:
        del os.environ["EDGETRAIN_CACHE"]
        shutil.rmtree(config.stash[_OBJECTS], ignore_errors=True)
