"""Data to train and to evaluate on, from the files that people have."""

from __future__ import annotations

from toolkit.data.arrays import load_named_arrays
from toolkit.data.dataset import Dataset, load_dataset

__all__ = ["Dataset", "load_dataset", "load_named_arrays"]
