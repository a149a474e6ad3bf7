"""What all tests share: hypothesis draws the same examples on every machine.

EDGETRAIN_EXAMPLES=20000 draws so many others, new ones each time: for a long search (tests/fuzz/README.md).
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_MANY = int(os.environ.get("EDGETRAIN_EXAMPLES", "0"))

settings.register_profile("same-everywhere", derandomize=True, deadline=None, max_examples=25, print_blob=True)
settings.register_profile(
    "many", deadline=None, max_examples=max(_MANY, 1), print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("many" if _MANY else "same-everywhere")
