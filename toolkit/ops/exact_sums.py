"""Exact integer sums over the taps of a convolution: what the references of all quantized convolutions share.

Integers may be added in any order, so these are matrix products, in float64 while every partial sum stays below 2^53.
"""

from __future__ import annotations

import numpy as np

from toolkit.ir import Array
from toolkit.ops.taps import Taps


def exact_sum_over_taps(source: Array, weights: Array, taps: Taps, outside: int = 0) -> Array:
    """One sum per pixel and output channel, over taps and input channels.

    Args:
        source: integers [source pixels, groups, channels].
        weights: integers [taps, channels, groups, outputs].
        outside: what a tap that falls on padding reads.

    Returns:
        int64 [pixels, groups, outputs].
    """
    count, pixels = taps.index.shape
    groups, outputs = weights.shape[2:]
    wide = np.asarray(source, np.float64)
    total = np.zeros((groups, pixels, outputs))
    for tap in range(count):
        valid = taps.valid[tap]
        if not outside and not valid.any():
            continue
        gathered = wide[taps.index[tap]]
        if not valid.all():
            gathered = np.where(valid[:, None, None], gathered, np.float64(outside))
        total += np.matmul(gathered.transpose(1, 0, 2), weights[tap].transpose(1, 0, 2).astype(np.float64))
    return _as_integers(total).transpose(1, 0, 2)


def exact_sum_over_pixels(source: Array, gradient: Array, taps: Taps) -> Array:
    """One sum per tap, channel and output, over the pixels: a weight gradient; padding counts as 0.

    Args:
        source: integers [source pixels, groups, channels].
        gradient: integers [pixels, groups, outputs].

    Returns:
        int64 [taps, channels, groups, outputs].
    """
    wide, factors = np.asarray(source, np.float64), np.asarray(gradient, np.float64).transpose(1, 0, 2)
    sums = []
    for index, valid in zip(taps.index, taps.valid, strict=True):
        gathered = np.where(valid[:, None, None], wide[index], 0.0)
        sums.append(np.matmul(gathered.transpose(1, 2, 0), factors).transpose(1, 0, 2))
    return _as_integers(np.stack(sums))


def _as_integers(total: Array) -> Array:
    if total.size and np.abs(total).max() >= 2.0**53:
        raise OverflowError("an integer sum of 2^53 or more is no longer exact in float64")
    return total.astype(np.int64)
