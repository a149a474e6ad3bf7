"""Ordered sums over the taps of a convolution: what the references of Conv and its two gradients share.

Each of the three is, for every output element, a sum of products in a stated order (numerics N2) from which the taps
that fall on padding are left out. Here the sums of many outputs advance together, one index of the reduction at a time.
A product that is left out is replaced by -0: adding it changes no value, not even the sign of a zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.ir import Array
from toolkit.numerics import Operand
from toolkit.numerics.rounding import add_to_odd, may_round_twice, suspects

# If |a| |b| >= 2^-101, the last bit of a * b weighs 2^-149 or more, and sums below 2^-126 are exact.
_SAFE_PRODUCT = 2.0**-101

# Accumulators that advance together, and products that are made at once: both stay in the second-level cache.
_TARGET = 8192
_PRODUCTS = 65536
_GATHERED = 1 << 18  # elements of one piece of the unfolded input


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a convolution: input index = output index * stride - before + tap * dilation."""

    size: int
    taps: int
    outputs: int
    stride: int
    dilation: int
    before: int

    def inputs_of_outputs(self) -> tuple[Array, Array]:
        """The input index that tap t of output o reads, int64 [taps, outputs], and whether it is inside, bool."""
        tap, output = np.arange(self.taps)[:, None], np.arange(self.outputs)[None, :]
        index = output * self.stride - self.before + tap * self.dilation
        return np.clip(index, 0, self.size - 1), (index >= 0) & (index < self.size)

    def outputs_of_inputs(self) -> tuple[Array, Array]:
        """The output index that reads input i with tap t, int64 [taps, size], and whether there is one, bool."""
        tap, index = np.arange(self.taps)[:, None], np.arange(self.size)[None, :]
        distance = index + self.before - tap * self.dilation
        output = distance // self.stride
        valid = (distance % self.stride == 0) & (output >= 0) & (output < self.outputs)
        return np.clip(output, 0, max(self.outputs - 1, 0)), valid


@dataclass(frozen=True)
class Taps:
    """Which pixel each tap of each pixel sees, batch included.

    Attributes:
        index: int64 [taps, pixels]; arbitrary where not valid.
        valid: bool [taps, pixels].
    """

    index: Array
    valid: Array

    @staticmethod
    def of_outputs(batch: int, rows: Axis, columns: Axis) -> Taps:
        """For each output pixel, the input pixels that it reads."""
        return _combine(batch, rows.size, columns.size, rows.inputs_of_outputs(), columns.inputs_of_outputs())

    @staticmethod
    def of_inputs(batch: int, rows: Axis, columns: Axis) -> Taps:
        """For each input pixel, the output pixels that read it."""
        return _combine(batch, rows.outputs, columns.outputs, rows.outputs_of_inputs(), columns.outputs_of_inputs())


def _combine(
    batch: int, height: int, width: int, rows: tuple[Array, Array], columns: tuple[Array, Array]
) -> Taps:
    image = np.arange(batch)[:, None, None] * (height * width)
    vertical, horizontal = rows[0] * width, columns[0]
    taps = vertical.shape[0] * horizontal.shape[0]
    shape = (vertical.shape[0], horizontal.shape[0], batch, vertical.shape[1], horizontal.shape[1])
    index = vertical[:, None, None, :, None] + horizontal[None, :, None, None, :] + image[None, None]
    valid = rows[1][:, None, None, :, None] & columns[1][None, :, None, None, :]
    return Taps(
        np.broadcast_to(index, shape).reshape(taps, -1), np.broadcast_to(valid, shape).reshape(taps, -1)
    )


def sum_over_taps(source: Array, weights: Array, start: Array, taps: Taps, fma: bool) -> Array:
    """One sum per pixel and output channel, over taps and then input channels, both ascending.

    Args:
        source: float32 [source pixels, groups, channels].
        weights: float32 [taps, channels, groups, outputs].
        start: float32 [groups, outputs]: the accumulators begin with it.
        taps: which source pixels each pixel sees.

    Returns:
        float32 [pixels, groups, outputs].
    """
    channels, groups, outputs = weights.shape[1:]
    values, factors = Operand(source, fma), Operand(weights, fma)
    safe = values.smallest * factors.smallest >= _SAFE_PRODUCT
    pixels = taps.index.shape[1]
    result = np.empty((pixels, groups, 1, outputs), np.float32)
    together = max(1, _TARGET // (groups * outputs))
    # Pixels that see the same taps side by side: of strided gradients, most taps then drop out of most pieces.
    order = np.arange(pixels) if taps.valid.all() else np.lexsort(taps.valid)
    for begin in range(0, pixels, together):
        piece = order[begin : begin + together]
        valid = taps.valid[:, piece]
        used = np.flatnonzero(valid.any(axis=1))
        accumulator = np.empty((piece.size, groups, 1, outputs), np.float32)
        accumulator[:, :, 0, :] = start
        if used.size:
            gathered = values.values[taps.index[used][:, piece]]  # [used, piece, groups, channels]
            a = gathered.transpose(0, 3, 1, 2).reshape(used.size * channels, piece.size, groups, 1)
            b = factors.values[used].reshape(used.size * channels, groups, outputs)
            mask = None if valid[used].all() else np.repeat(valid[used], channels, axis=0)
            add_outer_products(accumulator, a, b, mask, fma, safe)
        result[piece] = accumulator
    return result[:, :, 0, :]


def sum_over_pixels(source: Array, gradient: Array, taps: Taps, fma: bool) -> Array:
    """One sum per tap, channel and output, over the pixels in ascending order: a weight gradient.

    Args:
        source: float32 [source pixels, groups, channels].
        gradient: float32 [pixels, groups, outputs].

    Returns:
        float32 [taps, channels, groups, outputs].
    """
    count, pixels = taps.index.shape
    groups, channels, outputs = source.shape[1], source.shape[2], gradient.shape[2]
    values, factors = Operand(source, fma), Operand(gradient, fma)
    safe = values.smallest * factors.smallest >= _SAFE_PRODUCT
    accumulator = np.zeros((count, groups, channels, outputs), np.float32)
    together = max(1, _GATHERED // (count * channels * groups))
    for begin in range(0, pixels, together):
        piece = slice(begin, begin + together)
        gathered = values.values[taps.index[:, piece].T]  # [piece, taps, groups, channels]
        valid = taps.valid[:, piece].T
        add_outer_products(accumulator, gathered, factors.values[piece], None if valid.all() else valid, fma, safe)
    return accumulator.transpose(0, 2, 1, 3)


def add_outer_products(
    target: NDArray[np.float32], a: NDArray[Any], b: NDArray[Any], mask: Array | None, fma: bool, safe: bool
) -> None:
    """target[m, g, c, n] = madd(a[k, m, g, c], b[k, g, n], target[m, g, c, n]) for k = 0, 1, ... where mask[k, m].

    Args:
        target: float32 [M, G, C, N], changed in place.
        a, b: [K, M, G, C] and [K, G, N], float64 holding float32 values if `fma`, else float32.
        mask: bool [K, M]; None where every product counts.
        safe: no product but zero is below 2^-101.
    """
    if target.size > _TARGET:
        axis = int(np.argmax(target.shape))
        length = target.shape[axis]
        step = max(1, length * _TARGET // target.size)
        for begin in range(0, length, step):
            cut = [slice(None)] * 4
            cut[axis] = slice(begin, begin + step)
            rows, groups, channels, outputs = cut
            part = None if mask is None else mask[:, rows]
            add_outer_products(target[tuple(cut)], a[:, rows, groups, channels], b[:, groups, outputs], part, fma, safe)
        return
    values = np.ascontiguousarray(target)
    together = max(1, _PRODUCTS // max(1, target.size))
    with np.errstate(all="ignore"):
        for begin in range(0, a.shape[0], together):
            run = slice(begin, begin + together)
            products = np.multiply(a[run, :, :, :, None], b[run, None, :, None, :], order="C")
            if mask is not None:
                np.copyto(products, -0.0, where=~mask[run, :, None, None, None])
            if fma:
                _add_fused(values, products, safe)
            else:
                for product in products:
                    np.add(values, product, out=values)
    target[...] = values


def _add_fused(values: NDArray[np.float32], products: NDArray[np.float64], safe: bool) -> None:
    """Adds exact products one after the other, each sum rounded once. Both arrays are C-contiguous."""
    wide = values.astype(np.float64)
    totals = np.empty_like(products)
    narrow = np.empty_like(values)
    for product, total in zip(products, totals, strict=True):
        np.add(product, wide, out=total)
        narrow[...] = total
        wide[...] = narrow
    if may_round_twice(totals, check_subnormal=not safe):
        # Rare: one of these sums may need more than float64 holds. Go through the run again, looking at each.
        wide[...] = values
        for product, total in zip(products, totals, strict=True):
            np.add(product, wide, out=total)
            if may_round_twice(total, check_subnormal=not safe):
                places = suspects(total, check_subnormal=not safe)
                total.reshape(-1)[places] = add_to_odd(product.reshape(-1)[places], wide.reshape(-1)[places])
            narrow[...] = total
            wide[...] = narrow
    values[...] = narrow
