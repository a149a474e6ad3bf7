"""What all tests share: hypothesis draws the same examples on every machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("same-everywhere", derandomize=True, deadline=None, max_examples=25, print_blob=True)
settings.load_profile("same-everywhere")
