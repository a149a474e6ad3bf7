"""Handwritten digits that come with scikit-learn: 1,797 images of 8x8 pixels."""

from __future__ import annotations

import numpy as np

from toolkit.data.dataset import Dataset
from toolkit.errors import UserError


def load_digits() -> Dataset:
    """Images as float32 [1797, 1, 8, 8] from 0 to 1, and their digits.

    Raises:
        UserError: scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits as load
    except ImportError:
        raise UserError("the digits come with scikit-learn", hint="pip install scikit-learn") from None
    images, digits = load(return_X_y=True)
    x = (np.asarray(images, np.float32) / np.float32(16)).reshape(-1, 1, 8, 8)
    return Dataset(np.ascontiguousarray(x), np.asarray(digits, np.int32))


def turned(data: Dataset) -> Dataset:
    """The same images, turned by 90 degrees: as from a camera that was mounted the wrong way."""
    return Dataset(np.ascontiguousarray(np.rot90(data.x, axes=(2, 3))), data.y)
