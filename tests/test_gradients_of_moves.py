"""Gradients of the ops that move, average or scale values, against PyTorch's, over random shapes and attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import reference_gradients
from toolkit.ir import Array
from toolkit.ops.base import Op, Run
from toolkit.ops.concat import Concat
from toolkit.ops.dropout import DropoutTraining
from toolkit.ops.pad import Pad
from toolkit.ops.reduce_mean import ReduceMean
from toolkit.ops.reshape import Reshape
from toolkit.ops.scale import Scale
from toolkit.ops.slice_ import Slice
from toolkit.ops.transpose import Transpose

pytestmark = pytest.mark.oracle
REASON = "PyTorch is not installed: pip install edgetrain[oracle]"
shapes = st.lists(st.integers(2, 5), min_size=3, max_size=3).map(tuple)


def _values(seed: int, shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _compare(op: Op, form: Any, arrays: list[Array]) -> None:
    """`form` computes the op from torch tensors."""
    torch = pytest.importorskip("torch", reason=REASON)
    tensors = [torch.tensor(x.astype(np.float64), requires_grad=True) for x in arrays]
    expected = form(torch, *tensors)
    dy = _values(99, tuple(expected.shape))
    expected.backward(torch.tensor(dy.astype(np.float64)))
    (y,) = op.run(Run(), *arrays)
    assert np.abs(y - expected.detach().numpy()).max(initial=0) <= 1e-5
    for found, tensor in zip(reference_gradients(op, arrays, [dy]), tensors, strict=True):
        wanted = tensor.grad.numpy()
        assert found is not None and found.shape == wanted.shape
        assert np.abs(found - wanted).max(initial=0) <= 1e-4 * max(1.0, np.abs(wanted).max(initial=0))


@given(shapes, st.permutations([0, 1, 2]))
def test_transpose(shape: tuple[int, ...], axes: list[int]) -> None:
    _compare(Transpose(tuple(axes)), lambda _, x: x.permute(*axes), [_values(0, shape)])


@given(shapes)
def test_reshape(shape: tuple[int, ...]) -> None:
    flat = (shape[0], shape[1] * shape[2])
    _compare(Reshape(flat), lambda _, x: x.reshape(flat), [_values(0, shape)])


@given(shapes, st.integers(0, 2), st.integers(1, 4))
def test_concat(shape: tuple[int, ...], axis: int, other: int) -> None:
    second = (*shape[:axis], other, *shape[axis + 1 :])
    _compare(Concat(axis), lambda torch, a, b: torch.cat([a, b], axis), [_values(0, shape), _values(1, second)])


@given(shapes, st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_pad(shape: tuple[int, ...], pads: list[int]) -> None:
    last_axis_first = [n for axis in (2, 1, 0) for n in (pads[axis], pads[axis + 3])]
    op = Pad(tuple(pads[:3]), tuple(pads[3:]), 0.5)
    _compare(op, lambda torch, x: torch.nn.functional.pad(x, last_axis_first, value=0.5), [_values(0, shape)])


@given(shapes, st.data())
def test_slice(shape: tuple[int, ...], data: st.DataObject) -> None:
    starts = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    steps = tuple(data.draw(st.integers(1, 3)) for _ in shape)
    sizes = tuple(data.draw(st.integers(1, -(-(n - a) // s))) for n, a, s in zip(shape, starts, steps, strict=True))
    taken = tuple(slice(a, a + (n - 1) * s + 1, s) for a, n, s in zip(starts, sizes, steps, strict=True))
    _compare(Slice(starts, sizes, steps), lambda _, x: x[taken], [_values(0, shape)])


@given(shapes, st.sampled_from([(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)]), st.booleans())
def test_reduce_mean(shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> None:
    _compare(ReduceMean(axes, keepdims), lambda _, x: x.mean(axes, keepdim=keepdims), [_values(0, shape)])


@given(shapes, st.sampled_from([-1.5, 0.25, 3.0]))
def test_scale(shape: tuple[int, ...], factor: float) -> None:
    _compare(Scale(factor), lambda _, x: x * factor, [_values(0, shape)])


@given(shapes, st.sampled_from([0.1, 0.5]), st.integers(0, 9))
def test_dropout_passes_the_gradient_where_it_passed_the_value(
    shape: tuple[int, ...], ratio: float, step: int
) -> None:
    torch = pytest.importorskip("torch", reason=REASON)
    x, dy = _values(0, shape), _values(1, shape)
    scalars = [np.array(3, np.uint32), np.array(step, np.uint32)]
    op = DropoutTraining(ratio, 7)
    (mask,) = op.run(Run(), np.ones_like(x), *scalars)  # what the counter keeps, scaled
    tensor = torch.tensor(x, requires_grad=True)
    (tensor * torch.tensor(mask)).backward(torch.tensor(dy))
    found = reference_gradients(op, [x, *scalars], [dy])[0]
    assert found is not None and np.abs(found - tensor.grad.numpy()).max() <= 1e-5
