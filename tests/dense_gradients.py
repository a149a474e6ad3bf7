"""Weight gradients of dense layers against naive loops, whatever the layout of the weights."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tests.test_conv_grad_sparse import assert_same, sparse_values
from tests.test_kernels_conv import Array, check_updates, conv_shape, int32_struct, result
from toolkit.numerics import madd
from toolkit.ops.geometry import ConvGeometry, dense_shape_fields
from toolkit.sim.host import at_cache_line


@dataclass(frozen=True)
class DenseCase:
    """A layer with values for it.

    Attributes:
        order: of weights in memory, as positions in [inputs][outputs].
        zeros: the share of dy.
        plants: (array, value) that lie somewhere.
    """

    batch: int
    inputs: int
    outputs: int
    order: Array
    seed: int
    zeros: float
    plants: Sequence[tuple[str, float]] = ()

    def values(self) -> tuple[Array, Array, Array]:
        """x, dy and w, all flat; x begins at a cache line, w is in row-major order."""
        arrays = {
            "x": sparse_values(self.seed, self.batch * self.inputs, 0.2),
            "dy": sparse_values(self.seed + 1, self.batch * self.outputs, self.zeros),
            "w": sparse_values(self.seed + 2, self.order.size, 0.1),
        }
        random = np.random.default_rng(self.seed)
        for name, value in self.plants:
            arrays[name][random.integers(0, arrays[name].size, random.integers(1, 4))] = value
        return at_cache_line(arrays["x"]), arrays["dy"], arrays["w"]

    def naive(self) -> ctypes.Structure:
        """The shape for naive loops."""
        return conv_shape(ConvGeometry(self.batch, 1, 1, self.inputs, self.outputs, 1, 1))

    def shape(self, batch: int | None = None) -> ctypes.Array[ctypes.c_int32]:
        """The shape for kernels."""
        fields = dense_shape_fields(self.batch if batch is None else batch, self.inputs, self.outputs)
        shape: ctypes.Array[ctypes.c_int32] = int32_struct(fields)
        return shape


def check_weight_gradients(library: ctypes.CDLL, name: str, kernel: str, case: DenseCase) -> None:
    """The gradient, alone, added and in two parts, and the plain update, of et_dense or et_dense_batch."""
    x, dy, w = case.values()
    order, old, half = case.order, sparse_values(case.seed + 3, case.order.size, 0.3), case.batch // 2
    gradient = library[f"{kernel}_grad_weight_f32"]
    for accumulate in (0, 1):
        expected = result(library.naive_conv_grad_weight, case.naive(), old, x, dy, accumulate)[order]
        actual = result(gradient, case.shape(), old[order], x, dy, accumulate)
        assert_same(actual, expected, f"{name}: accumulate={accumulate}")
    sums = result(library.naive_conv_grad_weight, case.naive(), old, x, dy, 0)[order]
    astray = at_cache_line(np.append(np.float32(0), x))[1:]
    assert_same(result(gradient, case.shape(), old[order], astray, dy, 0), sums, f"{name}: x across cache lines")
    if not np.isnan(sums).any():  # what is kept of a NaN is checked where the sinks are
        check_updates(library, name, f"{kernel}_update_f32", case.shape(), sums, w[order], x, dy)
    if half:  # a walk in two parts
        rest = (x[half * case.inputs :], dy[half * case.outputs :])
        actual = result(gradient, case.shape(half), old[order], x, dy, 0)
        actual = result(gradient, case.shape(case.batch - half), actual, *rest, 2)
        assert_same(actual, sums, f"{name}: in two parts")


def check_momentum(library: ctypes.CDLL, name: str, kernel: str, case: DenseCase) -> None:
    """A rule of its own, from the same sums."""
    x, dy, w = case.values()
    fma, rate, velocity = name.endswith("ET_FMA=1"), np.float32(0.1), sparse_values(4, case.order.size, 0.1)
    sums = result(library.naive_conv_grad_weight, case.naive(), w, x, dy, 0)[case.order]
    wanted_velocity = madd(0.5, velocity, sums, fma)
    wanted = madd(-rate, wanted_velocity, w, fma)
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (x, dy, w, velocity)]
    rates = [ctypes.c_float(value) for value in (rate, 0.0, 0.5)]
    status = library[f"{kernel}_momentum_f32"](ctypes.byref(case.shape()), *rates, ctypes.c_bool(False), *pointers)
    assert status == 0
    assert_same(velocity, wanted_velocity, name)
    assert_same(w, wanted, name)
