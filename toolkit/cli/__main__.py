"""`python -m toolkit.cli`: the same as `edgetrain`."""

from __future__ import annotations

import sys

from toolkit.cli import main

sys.exit(main())
