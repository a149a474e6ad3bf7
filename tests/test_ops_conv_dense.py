"""Conv, Dense and MatMul: the stated order of every sum, gradients against PyTorch and finite differences, imports."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.support import reference_gradients
from toolkit.ir import Array
from toolkit.numerics import madd, same_bits
from toolkit.ops.base import Op, Run, ShapeError
from toolkit.ops.conv import Conv, ConvGradInput, ConvGradWeight
from toolkit.ops.dense import Dense
from toolkit.ops.matmul import MatMul

ORACLE = 1e-4  # float32 sums against float64, relative to the largest element

Case = tuple[Conv, Array, Array, Array | None]


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Products and sums of these land on ties of float32, and just beside them where float64 cannot tell.
_EPSILON = 2.0**-23
AWKWARD = np.array(
    [1, 3, -3, 1 + _EPSILON, 1 - _EPSILON, 2.0**-12 * (1 + _EPSILON), 2.0**-12 * (1 - _EPSILON), 2.0**-60, -(2.0**-60),
     2.0**-140, -0.0],
    np.float32,
)  # fmt: skip


def awkward(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).choice(AWKWARD, shape)


def reference_outputs(op: Op, inputs: Sequence[Array | None], fma: bool = True) -> tuple[Array, ...]:
    return op.run(Run(fma), *inputs)


def near(found: Array | None, expected: Array, tolerance: float = ORACLE) -> bool:
    assert found is not None and found.shape == expected.shape
    return bool(np.abs(found - expected).max(initial=0) <= tolerance * max(1e-3, np.abs(expected).max(initial=0)))


@st.composite
def conv_cases(draw: st.DrawFn, tiny: bool = False) -> Case:
    """Any convolution: one or two axes, groups, depthwise, strides, dilations, unequal padding."""
    axes, most = draw(st.integers(1, 2)), 3 if tiny else 5

    def per_axis(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(low, high), min_size=axes, max_size=axes)))

    groups = draw(st.integers(1, 3))
    channels, outputs = draw(st.integers(1, most)), draw(st.integers(1, most if tiny else 20))
    if draw(st.booleans()):
        channels, outputs, groups = 1, 1, draw(st.integers(2, 6))
    sizes, kernel = per_axis(1, 5 if tiny else 9), per_axis(1, 3)
    op = Conv(per_axis(1, 3), per_axis(1, 2), per_axis(0, 2), per_axis(0, 2), groups)
    try:
        op.output_sizes(sizes, kernel)
    except ShapeError:
        assume(False)
    seed, batch = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 3))
    numbers = awkward if tiny and draw(st.booleans()) else normal
    bias = numbers(seed + 2, outputs * groups) if draw(st.booleans()) else None
    x, w = numbers(seed, batch, *sizes, channels * groups), numbers(seed + 1, *kernel, channels, outputs * groups)
    return op, x, w, bias


def planar(op: Conv, x: Array, w: Array) -> tuple[Array, Array, tuple[tuple[int, int], ...]]:
    """Input and weights with two spatial axes, and (stride, dilation, before) of both."""
    attributes = tuple(zip(op.strides, op.dilations, op.before, strict=True))
    if x.ndim == 4:
        return x, w, attributes
    return x[:, None], w[None], ((1, 1, 0), *attributes)


def terms(op: Conv, x: Array, w: Array, outputs: Sequence[int]) -> list[tuple[tuple[int, ...], ...]]:
    """(y, x, w) indices of every product, padding left out, in ascending (n, oh, ow, oc, kh, kw, ic)."""
    (rows, columns) = planar(op, x, w)[2]
    xs, ws, _ = planar(op, x, w)
    channels, per_group = ws.shape[2], ws.shape[3] // op.groups
    batch, height, width, out_channels = outputs
    found = []
    for n, oh, ow, oc, kh, kw, ic in itertools.product(
        *(range(size) for size in (batch, height, width, out_channels, ws.shape[0], ws.shape[1], channels))
    ):
        ih = oh * rows[0] + kh * rows[1] - rows[2]
        iw = ow * columns[0] + kw * columns[1] - columns[2]
        if 0 <= ih < xs.shape[1] and 0 <= iw < xs.shape[2]:
            found.append(((n, oh, ow, oc), (n, ih, iw, oc // per_group * channels + ic), (kh, kw, ic, oc)))
    return found


def fold(start: Array, products: list[tuple[tuple[int, ...], np.float32, np.float32]], fma: bool) -> Array:
    """One accumulator per element, one scalar multiply-add after the other: numerics N2 as it is written."""
    result = start.copy()
    for where, a, b in products:
        result[where] = exact_madd(a, b, result[where], fma)
    return result


def exact_madd(a: np.float32, b: np.float32, c: np.float32, fma: bool) -> np.float32:
    """a * b + c by rational arithmetic, rounded once; or with two roundings."""
    if not fma:
        return np.float32(np.float32(a * b) + c)
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    if exact == 0:
        return np.float32(np.float64(a) * np.float64(b) + np.float64(c))  # for the sign of zero
    middle, infinity = np.float32(float(exact)), np.float32(np.inf)
    candidates = (np.nextafter(middle, -infinity), middle, np.nextafter(middle, infinity))
    distance = [abs(Fraction(float(candidate)) - exact) for candidate in candidates]
    best = [candidate for candidate, d in zip(candidates, distance, strict=True) if d == min(distance)]
    even = [candidate for candidate in best if not candidate.view(np.uint32) & 1]
    return best[0] if len(best) == 1 else even[0]


@settings(max_examples=100)
@given(conv_cases(tiny=True), st.booleans())
def test_conv_and_its_gradients_are_one_multiply_add_after_the_other_in_the_stated_order(case: Case, fma: bool) -> None:
    op, x, w, bias = case
    (y,) = reference_outputs(op, [x, w, bias], fma)
    dy = (awkward if np.isin(x, AWKWARD).all() else normal)(5, *y.shape)
    xs, ws, _ = planar(op, x, w)
    shape = y.shape if y.ndim == 4 else (y.shape[0], 1, *y.shape[1:])
    dys = dy.reshape(shape)
    products = terms(op, x, w, shape)

    start = np.broadcast_to(np.float32(0) if bias is None else bias, shape)
    expected = fold(start, [(o, xs[i], ws[k]) for o, i, k in products], fma)
    assert same_bits(y, expected.reshape(y.shape)).all()

    dx, dw, *_ = reference_gradients(op, [x, w, bias], [dy], fma=fma)
    assert dx is not None and dw is not None
    by_tap = sorted(products, key=lambda t: (t[1], t[2][:2], t[0][3]))  # ascending (kh, kw, oc) for each input element
    expected = fold(np.zeros(xs.shape, np.float32), [(i, dys[o], ws[k]) for o, i, k in by_tap], fma)
    assert same_bits(dx, expected.reshape(x.shape)).all()
    by_pixel = sorted(products, key=lambda t: (t[2], t[0][:3]))  # ascending (n, oh, ow) for each weight
    expected = fold(np.zeros(ws.shape, np.float32), [(k, xs[i], dys[o]) for o, i, k in by_pixel], fma)
    assert same_bits(dw, expected.reshape(w.shape)).all()


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.booleans(), st.booleans())
def test_dense_and_its_gradients_are_one_multiply_add_after_the_other_in_the_stated_order(
    n: int, k: int, m: int, biased: bool, fma: bool
) -> None:
    x, w, dy = normal(1, n, k), normal(2, k, m), normal(4, n, m)
    bias = normal(3, m) if biased else None
    (y,) = reference_outputs(Dense(), [x, w, bias], fma)
    start = np.zeros((n, m), np.float32) + (np.float32(0) if bias is None else bias)
    index = list(itertools.product(range(n), range(k), range(m)))
    assert same_bits(y, fold(start, [((i, j), x[i, c], w[c, j]) for i, c, j in index], fma)).all()
    dx, dw, *_ = reference_gradients(Dense(), [x, w, bias], [dy], fma=fma)
    assert dx is not None and dw is not None
    zero = np.zeros_like
    assert same_bits(dx, fold(zero(x), [((i, c), dy[i, j], w[c, j]) for i, c, j in index], fma)).all()
    assert same_bits(dw, fold(zero(w), [((c, j), x[i, c], dy[i, j]) for i, c, j in index], fma)).all()


def test_a_sum_that_two_roundings_would_spoil_is_rounded_once() -> None:
    # The exact sum, 1 + 2^-23 + 2^-24 - 2^-70, lies just below a tie of float32 that float64 takes it for.
    a, b = np.float32(2.0**-12 * (1 + 2.0**-23)), np.float32(2.0**-12 * (1 - 2.0**-23))
    start = np.float32(1 + 2.0**-23)
    assert np.float32(np.float64(a) * np.float64(b) + np.float64(start)) != exact_madd(a, b, start, True)
    for fma in (True, False):
        x, w = np.full((1, 3, 1), a), np.full((1, 1, 2), b)
        (y,) = reference_outputs(Conv((1,), (1,), (0,), (0,)), [x, w, np.full(2, start)], fma)
        assert (y == exact_madd(a, b, start, fma)).all()
        # The same in a weight gradient, where the accumulator holds the value already.
        dy = np.array([1, b], np.float32).reshape(1, 2, 1)
        op = ConvGradWeight((1,), (1,), (0,), (0,), kernel=(1,))
        (dw,) = reference_outputs(op, [np.array([start, a], np.float32).reshape(1, 2, 1), dy], fma)
        assert dw == exact_madd(a, b, start, fma)


def test_padding_is_left_out_not_multiplied_by_zero() -> None:
    op = Conv((1,), (1,), (1,), (0,))
    x, w = np.ones((1, 2, 1), np.float32), np.array([np.nan, 2], np.float32).reshape(2, 1, 1)
    (y,) = reference_outputs(op, [x, w, None])
    assert y[0, 0, 0] == 2 and np.isnan(y[0, 1, 0])
    negative = np.full((1,), -0.0, np.float32)
    (y,) = reference_outputs(Conv((1,), (1,), (2,), (0,)), [x, np.ones((1, 1, 1), np.float32), negative])
    assert np.signbit(y[0, 0, 0])  # nothing but padding: the bias as it is


def test_tiny_numbers_take_the_slow_path_and_give_the_same_bits() -> None:
    x, w = normal(1, 1, 5, 4, 3) * np.float32(2.0**-75), normal(2, 3, 3, 3, 2) * np.float32(2.0**-72)
    op = Conv((1, 1), (1, 1), (1, 1), (1, 1))
    for fma in (True, False):
        (y,) = reference_outputs(op, [x, w, None], fma)
        products = [(o, x[i], w[k]) for o, i, k in terms(op, x, w, y.shape)]
        expected = np.zeros(y.shape, np.float32)
        for where, a, b in products:
            expected[where] = madd(a, b, expected[where], fma)
        assert same_bits(y, expected).all()


@pytest.mark.oracle
@given(conv_cases())
def test_conv_and_its_gradients_agree_with_pytorch(case: Case) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    op, x, w, bias = case
    axes = len(op.strides)
    xt = torch.tensor(np.moveaxis(x, -1, 1).astype(np.float64), requires_grad=True)
    wt = torch.tensor(np.moveaxis(w, (-1, -2), (0, 1)).astype(np.float64), requires_grad=True)
    bt = None if bias is None else torch.tensor(bias.astype(np.float64), requires_grad=True)
    pads = [n for pair in reversed(list(zip(op.before, op.after, strict=True))) for n in pair]
    convolve = torch.nn.functional.conv1d if axes == 1 else torch.nn.functional.conv2d
    yt = convolve(torch.nn.functional.pad(xt, pads), wt, bt, op.strides, 0, op.dilations, op.groups)
    (y,) = reference_outputs(op, [x, w, bias])
    assert near(np.moveaxis(y, -1, 1), yt.detach().numpy())
    dy = normal(7, *y.shape)
    yt.backward(torch.tensor(np.moveaxis(dy, -1, 1).astype(np.float64)))
    dx, dw, *db = reference_gradients(op, [x, w, bias], [dy])
    assert near(dx, np.moveaxis(xt.grad.numpy(), 1, -1))
    assert near(dw, np.moveaxis(wt.grad.numpy(), (0, 1), (-1, -2)))
    if bias is not None:
        assert near(db[0], bt.grad.numpy())


@st.composite
def matmul_cases(draw: st.DrawFn) -> tuple[MatMul, Array, Array]:
    """Batches that broadcast, either operand transposed."""
    m, k, n, seed = (draw(st.integers(1, 6)) for _ in range(4))
    batch = draw(st.lists(st.integers(1, 3), max_size=2))
    shapes = []
    for _ in range(2):
        kept = batch[draw(st.integers(0, len(batch))) :]
        shapes.append(tuple(size if draw(st.booleans()) else 1 for size in kept))
    op = MatMul(draw(st.booleans()), draw(st.booleans()))
    a = normal(seed, *shapes[0], *((k, m) if op.transpose_a else (m, k)))
    b = normal(seed + 1, *shapes[1], *((n, k) if op.transpose_b else (k, n)))
    return op, a, b


@pytest.mark.oracle
@given(matmul_cases())
def test_matmul_and_its_gradients_agree_with_pytorch(case: tuple[MatMul, Array, Array]) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    op, a, b = case
    at, bt = (torch.tensor(v.astype(np.float64), requires_grad=True) for v in (a, b))
    yt = (at.mT if op.transpose_a else at) @ (bt.mT if op.transpose_b else bt)
    (y,) = reference_outputs(op, [a, b])
    assert near(y, yt.detach().numpy())
    dy = normal(7, *y.shape)
    yt.backward(torch.tensor(dy.astype(np.float64)))
    for found, expected in zip(reference_gradients(op, [a, b], [dy]), (at, bt), strict=True):
        assert near(found, expected.grad.numpy())


def slope(function: Callable[[Sequence[Array]], float], inputs: Sequence[Array], index: int) -> Array:
    """Central differences in float64."""
    step, result = 1e-4, np.empty(inputs[index].shape)
    for where in np.ndindex(*inputs[index].shape):
        sides = []
        for sign in (1, -1):
            moved = [value.copy() for value in inputs]
            moved[index][where] += sign * step
            sides.append(function(moved))
        result[where] = (sides[0] - sides[1]) / (2 * step)
    return result


def conv64(op: Conv, x: Array, w: Array, bias: Array) -> Array:
    """The convolution in float64, straight from the definition."""
    xs, ws, _ = planar(op, x, w)
    sizes = op.output_sizes(x.shape[1:-1], w.shape[:-2])
    shape = (x.shape[0], *((1, *sizes) if len(sizes) == 1 else sizes), w.shape[-1])
    y = np.zeros(shape) + bias
    for o, i, k in terms(op, x, w, shape):
        y[o] += xs[i] * ws[k]
    return y.reshape(x.shape[0], *sizes, w.shape[-1])


def test_gradients_are_the_slopes_of_the_function() -> None:
    conv = Conv((2, 1), (1, 2), (1, 0), (0, 2), 2)
    cases: list[tuple[Op, list[Array], Callable[..., Any]]] = [
        (conv, [normal(1, 2, 4, 5, 4), normal(2, 3, 2, 2, 6), normal(3, 6)], lambda x, w, b: conv64(conv, x, w, b)),
        (Dense(), [normal(1, 3, 5), normal(2, 5, 4), normal(3, 4)], lambda x, w, b: x @ w + b),
        (MatMul(), [normal(1, 2, 3, 4), normal(2, 4, 5)], np.matmul),
    ]
    for op, inputs, function in cases:
        dy = normal(9, *reference_outputs(op, inputs)[0].shape)
        wide = [value.astype(np.float64) for value in inputs]

        def scalar(values: Sequence[Array], dy: Array = dy, function: Callable[..., Any] = function) -> float:
            return float((function(*values) * dy).sum())

        for index, found in enumerate(reference_gradients(op, inputs, [dy])):
            assert near(found, slope(scalar, wide, index)), (op, index)


@given(conv_cases())
def test_folding_an_affine_map_into_a_convolution_gives_what_both_gave(case: Case) -> None:
    op, x, w, bias = case
    scale, shift = normal(1, w.shape[-1]).astype(np.float64), normal(2, w.shape[-1]).astype(np.float64)
    weight, folded = op.fold_affine(w, bias, scale, shift)
    assert weight.dtype == folded.dtype == np.float32
    expected = reference_outputs(op, [x, w, bias])[0] * scale + shift
    assert near(reference_outputs(op, [x, weight, folded])[0], expected)


def test_folding_an_affine_map_into_a_dense_layer_gives_what_both_gave() -> None:
    x, w, bias = normal(1, 3, 5), normal(2, 5, 4), normal(3, 4)
    scale, shift = normal(4, 4).astype(np.float64), normal(5, 4).astype(np.float64)
    for start in (bias, None):
        expected = reference_outputs(Dense(), [x, w, start])[0] * scale + shift
        assert near(reference_outputs(Dense(), [x, *Dense().fold_affine(w, start, scale, shift)])[0], expected)


def test_multiply_accumulates_count_padding() -> None:
    from toolkit.ir import TensorType

    op = Conv((1, 1), (1, 1), (1, 1), (1, 1))
    x, w, y = TensorType((1, 32, 32, 16)), TensorType((3, 3, 16, 16)), TensorType((1, 32, 32, 16))
    same = ((1, 1), (1, 1), (1, 1), (1, 1), 1)
    assert op.macs(x, w) == 32 * 32 * 9 * 16 * 16
    assert ConvGradInput(*same, sizes=(32, 32)).macs(y, w) == op.macs(x, w)
    assert ConvGradWeight(*same, kernel=(3, 3)).macs(x, y) == op.macs(x, w)
    assert Dense().macs(TensorType((2, 30)), TensorType((30, 10))) == 600


@pytest.mark.parametrize(
    ("op", "shapes"),
    [
        (Conv((1, 1), (1, 1), (0, 0), (0, 0)), [(1, 8, 8, 3), (3, 3, 4, 8)]),
        (Conv((1, 1), (1, 1), (0, 0), (0, 0)), [(1, 2, 8, 3), (3, 3, 3, 8)]),
        (Conv((1, 1), (1, 1), (0, 0), (0, 0)), [(1, 8, 3), (3, 3, 3, 8)]),
        (Conv((1,), (1,), (0,), (0,), 2), [(1, 8, 4), (3, 2, 3)]),
        (Conv((1,), (1,), (0,), (0,)), [(1, 8, 4), (3, 4, 3), (4,)]),
        (Dense(), [(2, 3), (4, 5)]),
        (Dense(), [(2, 3), (3, 5), (4,)]),
        (MatMul(), [(2, 3), (4, 5)]),
        (MatMul(), [(2, 2, 3), (3, 3, 5)]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(op: Op, shapes: list[tuple[int, ...]]) -> None:
    from toolkit.ir import TensorType

    with pytest.raises(ShapeError):
        op.output_types(tuple(TensorType(shape) for shape in shapes))
