"""Kernels of layers that end with a ReLU, against those of the layers alone."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def check_rectified(library: ctypes.CDLL, kernel: str, shape: Any, linear: Array, *reads: Array | None) -> None:
    """Bits of a kernel et_<layer>_relu_f32 with and without a ceiling.

    Args:
        linear: what the layer alone gives.
        reads: x, w and bias.
    """
    for ceiling in (np.float32(np.inf), np.float32(0.75)):
        with np.errstate(invalid="ignore"):
            rectified = np.where(linear > 0, linear, np.float32(0))
            expected = np.where(rectified < ceiling, rectified, ceiling)
        guarded = np.full(linear.size + 32, 12345.0, np.float32)
        pointers = [None if array is None else array.ctypes.data_as(ctypes.c_void_p) for array in (*reads, guarded)]
        assert library[kernel](ctypes.byref(shape), ctypes.c_float(ceiling), *pointers) == 0
        assert (guarded[linear.size :] == 12345.0).all(), "wrote past the end"
        same = guarded[: linear.size].view(np.uint32) == expected.view(np.uint32)
        assert same.all(), f"{kernel}, ceiling {ceiling}: {(~same).sum()} of {same.size} differ"
