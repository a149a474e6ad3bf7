"""Kernels that end with a ReLU, an addition or both, or the gradient of a ReLU, against those of the layers alone."""

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
        guarded = np.full(linear.size + 32, 12345.0, np.float32)
        pointers = [None if array is None else array.ctypes.data_as(ctypes.c_void_p) for array in (*reads, guarded)]
        assert library[kernel](ctypes.byref(shape), ctypes.c_float(ceiling), *pointers) == 0
        _check(guarded, _rectified(linear, ceiling), f"{kernel}, ceiling {ceiling}")


def check_sums(
    library: ctypes.CDLL, kernel: str, shape: Any, linear: Array, addend: Array, *reads: Array | None
) -> None:
    """Bits of kernels et_<layer>_add_f32 and et_<layer>_add_relu_f32, also with y in the place of the addend.

    Args:
        kernel: et_<layer>.
        linear: what the layer alone gives.
        reads: x, w and bias.
    """
    with np.errstate(invalid="ignore"):
        sums = linear + addend
    for ceiling in (None, np.float32(np.inf), np.float32(0.75)):
        name, options, expected = f"{kernel}_add_f32", [], sums
        if ceiling is not None:
            name, options, expected = f"{kernel}_add_relu_f32", [ctypes.c_float(ceiling)], _rectified(sums, ceiling)
        for in_place in (False, True):
            guarded = np.full(linear.size + 32, 12345.0, np.float32)
            guarded[: linear.size] = addend
            added = guarded if in_place else guarded.copy()
            arrays = (*reads, added, guarded)
            pointers = [None if array is None else array.ctypes.data_as(ctypes.c_void_p) for array in arrays]
            assert library[name](ctypes.byref(shape), *options, *pointers) == 0
            _check(guarded, expected, f"{name}, ceiling {ceiling}, in place: {in_place}")


def _rectified(linear: Array, ceiling: np.float32) -> Array:
    with np.errstate(invalid="ignore"):
        rectified = np.where(linear > 0, linear, np.float32(0))
        return np.where(rectified < ceiling, rectified, ceiling)


def _check(guarded: Array, expected: Array, what: str) -> None:
    """Whether an output has the expected bits, and the guard behind it is whole."""
    assert (guarded[expected.size :] == 12345.0).all(), "wrote past the end"
    same = guarded[: expected.size].view(np.uint32) == expected.view(np.uint32)
    assert same.all(), f"{what}: {(~same).sum()} of {same.size} differ"


_OFTEN = (0.0, -0.0, 0.25, 1.0, -1.0, 1e-45, -1e-45, np.inf, -np.inf, np.nan, -np.nan)


def check_gated(library: ctypes.CDLL, kernel: str, shape: Any, linear: Array, seed: int, *reads: Array) -> None:
    """Bits of a kernel et_<layer>_gated_f32 for ReLU, ReLU6 and other bounds.

    Args:
        linear: what the layer alone gives.
        reads: dy and w.
    """
    random = np.random.default_rng([seed, linear.size])
    y = np.where(
        random.random(linear.size) < 0.6, random.normal(0.5, 1.0, linear.size), random.choice(_OFTEN, linear.size)
    ).astype(np.float32)
    for least, most in ((1e-45, np.inf), (1e-45, np.nextafter(np.float32(6), np.float32(0))), (0.25, 1.0)):
        passes = (y >= np.float32(least)) & (y <= np.float32(most))
        expected = np.where(passes, linear, np.float32(0))
        guarded = np.full(linear.size + 32, 12345.0, np.float32)
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (*reads, y, guarded)]
        bounds = ctypes.c_float(least), ctypes.c_float(most)
        assert library[kernel](ctypes.byref(shape), *bounds, *pointers) == 0
        assert (guarded[linear.size :] == 12345.0).all(), "wrote past the end"
        actual = guarded[: linear.size]
        same = (actual.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(actual) & np.isnan(expected))
        assert same.all(), f"{kernel}, {least} to {most}: {(~same).sum()} of {same.size} differ"
