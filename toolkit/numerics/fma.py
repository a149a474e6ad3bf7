"""The multiply-add of the contract (numerics N1), and long sums of products at the speed of NumPy (N2).

A float32 product is exact in float64 (48 bits of 53). What can go wrong is the sum: rounded to float64 and then to
float32, it is rounded twice. `madd` rounds to odd in between, which is always right. `Accumulator` looks for the rare
sums where the second rounding could go wrong, and mends only those.
"""

from __future__ import annotations

from types import EllipsisType
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toolkit.numerics.bits import Bool, Float32, Float64, as_float32, quiet
from toolkit.numerics.rounding import add_to_odd, may_round_twice, suspects

Part = SupportsIndex | slice | EllipsisType | None
Index = Part | tuple[Part, ...]

# 256 KiB of float64: the working arrays of one block stay in the second-level cache.
_BLOCK = 32768

# If |a| |b| >= 2^-131, the last bit of a * b weighs 2^-178 or more; a float64 sum below 2^-126 is then exact, and is
# rounded only once. So subnormal results need no look.
_SAFE_PRODUCT = 2.0**-131


def _fused(a: Float64, b: Float64, c: Float64) -> Float32:
    """float64 arrays that hold float32 values -> a * b + c rounded once."""
    with quiet():
        return add_to_odd(np.asarray(a * b), c).astype(np.float32)


def madd(a: ArrayLike, b: ArrayLike, c: ArrayLike, fma: bool) -> Float32:
    """a * b + c in float32, broadcast: et_madd.

    Args:
        a, b, c: float32 [...].
        fma: True rounds once, False rounds the product and then the sum.
    """
    x, y, z = as_float32(a), as_float32(b), as_float32(c)
    with quiet():
        if not fma:
            return np.asarray(np.asarray(x * y) + z)
        x64, y64, z64 = np.broadcast_arrays(x.astype(np.float64), y.astype(np.float64), z.astype(np.float64))
        return _fused(x64, y64, z64)


class Operand:
    """A float32 array made ready for `Accumulator.add_product`: converted once, sliced many times.

    Attributes:
        values: float64 [...] holding float32 values if `fma`, else the float32 array.
        smallest: the smallest magnitude other than zero in the whole array (infinity if there is none); slices keep it,
            as a bound.
    """

    __slots__ = ("fma", "smallest", "values")

    def __init__(self, x: ArrayLike, fma: bool) -> None:
        array = as_float32(x)
        self.fma = fma
        with quiet():  # a signalling NaN raises a flag
            self.values: NDArray[Any] = array.astype(np.float64) if fma else array
        self.smallest = 0.0
        if fma:
            magnitude = np.abs(array)
            self.smallest = float(np.min(magnitude, initial=np.inf, where=magnitude > 0))

    def __getitem__(self, index: Index) -> Operand:
        part = Operand.__new__(Operand)
        part.fma = self.fma
        part.smallest = self.smallest
        part.values = np.asarray(self.values[index])
        return part

    def moved(self, axis: int) -> Operand:
        """A view with `axis` in front: the reduction index, for `Accumulator.add_products`."""
        part = self[...]
        part.values = np.moveaxis(self.values, axis, 0)
        return part

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape


class Accumulator:
    """One float32 accumulator per element, to which products are added in the order of the calls (numerics N2).

    Each `add_product` is acc = madd(a, b, acc), bit for bit. Around 2 ns an element for arrays of some thousands.

    Args:
        start: float32 [...]; copied. Broadcast it to the shape of the result first.
        fma: the Program's constant.
    """

    def __init__(self, start: ArrayLike, fma: bool) -> None:
        self.values: Float32 = np.array(as_float32(start), dtype=np.float32, order="C")
        self.fma = fma
        # Working arrays: memory that is never written costs nothing.
        self._product: NDArray[Any] = np.empty(_BLOCK, np.float64 if fma else np.float32)
        self._total = np.empty(_BLOCK if fma else 0, np.float64)

    def operand(self, x: ArrayLike) -> Operand:
        """`x` made ready for this accumulator; worth it for whatever is used, or sliced, more than once."""
        return Operand(x, self.fma)

    def add_product(
        self, a: ArrayLike | Operand, b: ArrayLike | Operand, where: Index = ..., mask: Bool | None = None
    ) -> None:
        """acc[where] = madd(a, b, acc[where]).

        Args:
            a, b: float32, or made by `operand`; broadcast to the shape of acc[where].
            where: integers and slices only (a view), so that taps on padding can be left out: [:, 2:, :].
            mask: bool, broadcast to acc[where]; where False the accumulator stays as it is.
        """
        first = a if isinstance(a, Operand) else self.operand(a)
        second = b if isinstance(b, Operand) else self.operand(b)
        if first.fma != self.fma or second.fma != self.fma:
            raise ValueError("the operand was made for the other kind of multiply-add")
        target = self._view(where)
        x = np.broadcast_to(first.values, target.shape)
        y = np.broadcast_to(second.values, target.shape)
        keep = None if mask is None else np.broadcast_to(mask, target.shape)
        check_subnormal = not first.smallest * second.smallest >= _SAFE_PRODUCT
        with quiet():
            self._blocks(target, x, y, keep, check_subnormal)

    def _view(self, where: Index) -> Float32:
        target = self.values[where]
        if not isinstance(target, np.ndarray) or (target.size > 0 and not np.may_share_memory(target, self.values)):
            raise IndexError("`where` must leave a view: slices, and integers for some axes; or use `mask`")
        return np.atleast_1d(target)

    def _blocks(
        self, target: Float32, x: NDArray[Any], y: NDArray[Any], keep: Bool | None, check_subnormal: bool
    ) -> None:
        """Cuts along the longest axis until the working arrays hold a block."""
        if target.size == 0:
            return
        if target.size > _BLOCK:
            axis = int(np.argmax(target.shape))
            length = target.shape[axis]
            rows = max(1, length * _BLOCK // target.size)
            for begin in range(0, length, rows):
                cut = (slice(None),) * axis + (slice(begin, begin + rows),)
                self._blocks(target[cut], x[cut], y[cut], None if keep is None else keep[cut], check_subnormal)
            return
        product = self._product[: target.size].reshape(target.shape)
        np.multiply(x, y, out=product)
        if not self.fma:
            np.add(product, target, out=target, where=True if keep is None else keep)
            return
        total = self._total[: target.size].reshape(target.shape)
        np.add(product, target, out=total)
        if may_round_twice(total, check_subnormal):
            places = suspects(total, check_subnormal)
            old = target.ravel()[places].astype(np.float64)
            total.ravel()[places] = add_to_odd(product.ravel()[places], old)
        np.copyto(target, total, casting="same_kind", where=True if keep is None else keep)

    def add_products(self, a: ArrayLike | Operand, b: ArrayLike | Operand, where: Index = ...) -> None:
        """acc[where] = madd(a[k], b[k], acc[where]) for k = 0, 1, ...: the quick way for accumulators of few elements.

        Args:
            a, b: as in `add_product`, with one more axis in front: k. Both need it; their lengths must be equal.
            where: as in `add_product`.
        """
        first = a if isinstance(a, Operand) else self.operand(a)
        second = b if isinstance(b, Operand) else self.operand(b)
        count = first.shape[0]
        if second.shape[0] != count:
            raise ValueError(f"{count} factors on one side, {second.shape[0]} on the other")
        target = self._view(where)
        together = _BLOCK // max(1, target.size)
        no_subnormals = first.smallest * second.smallest >= _SAFE_PRODUCT
        if first.fma == second.fma == self.fma and together >= 2 and (no_subnormals or not self.fma):
            old = np.array(target)
            for begin in range(0, count, together):
                part = slice(begin, begin + together)
                if not self._run(target, first.values[part], second.values[part]):
                    target[...] = old
                    for k in range(begin, min(begin + together, count)):
                        self.add_product(first[k], second[k], where)
                old[...] = target
            return
        for k in range(count):
            self.add_product(first[k], second[k], where)

    def _run(self, target: Float32, x: NDArray[Any], y: NDArray[Any]) -> bool:
        """Adds a run of products and looks once, at the end. False where a sum may have been rounded twice."""
        inner = target.ndim
        x = x.reshape(x.shape[0], *(1,) * (inner + 1 - x.ndim), *x.shape[1:])
        y = y.reshape(y.shape[0], *(1,) * (inner + 1 - y.ndim), *y.shape[1:])
        with quiet():
            shape = (x.shape[0], *target.shape)
            size = x.shape[0] * target.size
            products = self._product[:size].reshape(shape)
            np.multiply(x, y, out=products)
            if not self.fma:
                for product in products:
                    np.add(product, target, out=target)
                return True
            totals = self._total[:size].reshape(shape)
            for product, total in zip(products, totals, strict=True):
                np.add(product, target, out=total)
                target[...] = total
            return not may_round_twice(totals, check_subnormal=False)


def accumulate_matmul(a: ArrayLike, b: ArrayLike, start: ArrayLike, fma: bool) -> Float32:
    """start + a @ b with one accumulator per output and k ascending.

    Args:
        a: float32 [..., M, K].
        b: float32 [K, N] or [..., K, N].
        start: float32, broadcast to [..., M, N]: a bias [N], or 0.

    Returns:
        float32 [..., M, N].
    """
    first, second = Operand(a, fma), Operand(b, fma)
    batch = np.broadcast_shapes(first.shape[:-2], second.shape[:-2])
    shape = (*batch, first.shape[-2], second.shape[-1])
    if first.shape[-1] != second.shape[-2]:
        raise ValueError(f"cannot multiply {first.shape} by {second.shape}")
    accumulator = Accumulator(np.broadcast_to(as_float32(start), shape), fma)
    # [..., M, K] -> [K, ..., M, 1] and [..., K, N] -> [K, ..., 1, N]
    accumulator.add_products(first.moved(-1)[..., None], second.moved(-2)[..., None, :])
    return accumulator.values
