"""Where real models and data sets are: $EDGETRAIN_DATA, or shared/data beside the project. Never part of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("EDGETRAIN_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
NEEDS_DATA = [
    pytest.mark.data,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="no data folder: neither $EDGETRAIN_DATA nor ../shared/data"),
]
