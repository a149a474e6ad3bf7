"""The numerics contract N1-N5, N8: C and NumPy give the same bits, and those bits are right."""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.resources import folder
from toolkit import numerics
from toolkit.numerics import Accumulator, accumulate_matmul, from_bits, madd, same_bits, to_bits
from toolkit.numerics.bits import Float32, Float64, UInt32
from toolkit.numerics.fixed import random_halves

GLUE = """
#include "et_math.h"
#include "et_random.h"
#define EACH1(name) void each_##name(size_t n, const float *x, float *y) \\
    { for (size_t i = 0; i < n; ++i) y[i] = et_##name##_f32(x[i]); }
EACH1(exp) EACH1(log) EACH1(tanh) EACH1(sigmoid) EACH1(erf) EACH1(sqrt) EACH1(rsqrt) EACH1(rint) EACH1(sign)
EACH1(sqrt_portable) EACH1(rint_portable)
void each_madd(size_t n, const float *a, const float *b, const float *c, float *y)
    { for (size_t i = 0; i < n; ++i) y[i] = et_madd(a[i], b[i], c[i]); }
void each_fma_exact(size_t n, const float *a, const float *b, const float *c, float *y)
    { for (size_t i = 0; i < n; ++i) y[i] = et_fma_exact(a[i], b[i], c[i]); }
void each_random(uint32_t seed, uint32_t step, uint32_t stream, size_t n, const uint32_t *at, uint32_t *y, float *unit)
    { for (size_t i = 0; i < n; ++i) { y[i] = et_random_u32(seed, step, stream, at[i]);
        unit[i] = et_random_unit_f32(seed, step, stream, at[i]); } }
void each_exp_all(size_t n, const float *x, float *y) { et_exp_all_f32(n, x, y); }
void each_log_all(size_t n, const float *x, float *y) { et_log_all_f32(n, x, y); }
int check_finite(size_t n, const float *x) { return (int)et_check_finite_f32(n, x, ET_NONFINITE_GRADIENT); }
"""
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-ffp-contract=off"]
COMPILERS = [name for name in ("gcc", "clang", "clang-19") if shutil.which(name)]


@dataclass(frozen=True)
class Library:
    """The C, compiled; arrays in, arrays out."""

    handle: ctypes.CDLL

    def __call__(self, name: str, *arguments: Float32) -> Float32:
        inputs = [np.ascontiguousarray(argument, np.float32) for argument in arguments]
        out = np.empty_like(inputs[0])
        function = getattr(self.handle, f"each_{name}")
        function(ctypes.c_size_t(out.size), *(ctypes.c_void_p(array.ctypes.data) for array in (*inputs, out)))
        return out

    def random(self, seed: int, step: int, stream: int, index: UInt32) -> tuple[UInt32, Float32]:
        words, unit = np.empty(index.size, np.uint32), np.empty(index.size, np.float32)
        pointers = (ctypes.c_void_p(array.ctypes.data) for array in (index, words, unit))
        first = (ctypes.c_uint32(seed), ctypes.c_uint32(step), ctypes.c_uint32(stream), ctypes.c_size_t(index.size))
        self.handle.each_random(*first, *pointers)
        return words, unit

    def check_finite(self, x: Float32) -> int:
        return int(self.handle.check_finite(ctypes.c_size_t(x.size), ctypes.c_void_p(x.ctypes.data)))


def write_sources(place: Path, fma: int) -> list[str]:
    (place / "et_config.h").write_text(f"#define ET_FMA {fma}\n")
    (place / "glue.c").write_text(GLUE)
    runtime = folder("runtime_c")
    return [
        f"-I{place}",
        f"-I{runtime}",
        str(runtime / "et_math.c"),
        str(runtime / "et_random.c"),
        str(place / "glue.c"),
    ]


@pytest.fixture(scope="module", params=[(0, "-O2"), (1, "-O2"), (1, "-O1 -march=native")], ids=str)
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Library, bool]]:
    if not COMPILERS:
        pytest.skip("no C compiler")
    fma, flags = request.param
    place = tmp_path_factory.mktemp("numerics")
    target = place / "numerics.so"
    sources = write_sources(place, fma)
    subprocess.run([COMPILERS[0], *STRICT, *flags.split(), "-fPIC", "-shared", "-o", str(target), *sources], check=True)
    yield Library(ctypes.CDLL(str(target))), bool(fma)


def special_values() -> Float32:
    """Zeros, ones, the edges of every range, infinities, NaN, and both neighbours of each."""
    edges = [0.0, 2.0**-149, 2.0**-126, 2.0**-24, 0.25, 0.5, 0.625, 0.9375, 1.0, 1.5, 2.0, 2.5, 3.9375, 9.25, 2.0**22]
    edges += [87.33654, 88.72284, 103.97208, 104.0, 2.0**23, 2.0**24, 2.0**127, 3.4028235e38, math.sqrt(0.5), np.inf]
    bits = to_bits(np.array(edges, np.float32)).astype(np.int64)
    near = np.concatenate([bits + step for step in (-2, -1, 0, 1, 2)])
    positive = from_bits(near[(near >= 0) & (near <= 0x7F800001)].astype(np.uint32))
    return np.concatenate([positive, -positive])


def many_values(count: int = 1_000_000) -> Float32:
    """Specials, every exponent alike, and the range where the functions change."""
    random = np.random.default_rng(1)
    any_bits = from_bits(random.integers(0, 1 << 32, count // 2, dtype=np.uint32))
    ordinary = (random.standard_normal(count // 2) * 8).astype(np.float32)
    return np.concatenate([special_values(), any_bits, ordinary])


def many_triples(count: int = 1_000_000) -> tuple[Float32, Float32, Float32]:
    """All specials with one another; random bits; sums that cancel, tie, or end among the subnormals."""
    special = np.unique(special_values()[:60:3])
    grid = [part.ravel() for part in np.meshgrid(special, special, special)]
    random = np.random.default_rng(2)
    a, b, c = (random.integers(0, 1 << 32, count, dtype=np.uint32) for _ in range(3))
    quarter = count // 4
    short = slice(quarter, 2 * quarter)  # few bits each: ties are frequent
    a[short] &= np.uint32(0xFFFFF000)
    b[short] &= np.uint32(0xFFFFF000)
    small = slice(2 * quarter, 3 * quarter)  # exponents so that products are subnormal
    a[small] = (a[small] & np.uint32(0x807FFFFF)) | (random.integers(30, 90, quarter, dtype=np.uint32) << np.uint32(23))
    b[small] = (b[small] & np.uint32(0x807FFFFF)) | (random.integers(20, 80, quarter, dtype=np.uint32) << np.uint32(23))
    c[small] &= np.uint32(0x80FFFFFF)
    with np.errstate(all="ignore"):
        product = to_bits(from_bits(a[short]) * from_bits(b[short]))
    shift = random.integers(-30, 30, quarter).astype(np.uint32) << np.uint32(23)
    c[short] = (product + shift) ^ (c[short] & np.uint32(0x80000003))
    close = slice(3 * quarter, count)  # c = -round(a b): only the error of the product is left
    with np.errstate(all="ignore"):
        c[close] = to_bits(-(from_bits(a[close]) * from_bits(b[close])))
    parts = (np.concatenate([first, from_bits(second)]) for first, second in zip(grid, (a, b, c), strict=True))
    first, second, third = parts
    return first, second, third


def exact_fma(a: float, b: float, c: float) -> np.float32:
    """a * b + c for finite arguments in rational numbers, rounded once to float32, ties to even."""
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        return np.float32(a * b + c)  # the signs of zero, as IEEE has them; the product is exact in float64
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if Fraction(2) ** exponent > size:
        exponent -= 1
    unit = Fraction(2) ** (max(exponent, -126) - 23)
    rounded = round(size / unit) * unit  # Python rounds a Fraction half to even
    result = np.inf if rounded >= Fraction(2) ** 128 else float(rounded)
    return np.float32(math.copysign(result, exact))


def assert_same(actual: Float32, expected: Float32, *arguments: Float32) -> None:
    wrong = np.flatnonzero(~same_bits(actual, expected))
    show = [
        (*(float(x.ravel()[i]).hex() for x in arguments), actual.ravel()[i], expected.ravel()[i]) for i in wrong[:5]
    ]
    assert wrong.size == 0, f"{wrong.size} of {actual.size} differ: {show}"


ONE_ARGUMENT: dict[str, Callable[[Any], Float32]] = {
    "exp": numerics.exp, "log": numerics.log, "tanh": numerics.tanh, "sigmoid": numerics.sigmoid, "erf": numerics.erf,
    "sqrt": numerics.sqrt, "rsqrt": numerics.rsqrt, "rint": numerics.rint_half_even, "sign": numerics.sign,
    "sqrt_portable": numerics.sqrt, "rint_portable": numerics.rint_half_even,
}  # fmt: skip


@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_every_function_has_the_same_bits_in_c_and_numpy(name: str, library: tuple[Library, bool]) -> None:
    x = many_values()
    assert_same(library[0](name, x), ONE_ARGUMENT[name](x), x)


@pytest.mark.parametrize("name", ["exp", "log"])
def test_arrays_have_the_bits_of_their_elements(library: tuple[Library, bool], name: str) -> None:
    """Ordinary numbers, computed several at a time, also in place of one another; and with others among them."""
    c, _ = library
    random = np.random.default_rng(3)
    ordinary = random.uniform(-84.9, 84.9, 1003).astype(np.float32)
    positive = np.exp(random.uniform(-87, 88, 1003)).astype(np.float32)
    for x in (ordinary, positive, -positive, many_values(2000), special_values(), ordinary[:3], positive[:1]):
        expected, found = c(name, x), c(f"{name}_all", x)
        both = np.isnan(expected) & np.isnan(found)
        assert np.array_equal(to_bits(expected)[~both], to_bits(found)[~both])


def test_madd_has_the_same_bits_in_c_and_numpy(library: tuple[Library, bool]) -> None:
    a, b, c = many_triples()
    assert_same(library[0]("madd", a, b, c), madd(a, b, c, library[1]), a, b, c)
    assert_same(library[0]("fma_exact", a, b, c), madd(a, b, c, True), a, b, c)


def test_fused_madd_is_the_rational_result_rounded_once() -> None:
    a, b, c = many_triples()
    finite = np.flatnonzero(np.isfinite(a) & np.isfinite(b) & np.isfinite(c))
    chosen = finite[:: finite.size // 8000]
    expected = np.array([exact_fma(float(a[i]), float(b[i]), float(c[i])) for i in chosen], np.float32)
    assert_same(madd(a[chosen], b[chosen], c[chosen], True), expected, a[chosen], b[chosen], c[chosen])


def distance_in_ulp(actual: Float32, truth: Float64) -> Float64:
    nearest = np.abs(truth).astype(np.float32)
    exponent = np.frexp(np.maximum(nearest, np.float32(2.0**-126)))[1]
    return np.asarray(np.abs(actual.astype(np.float64) - truth) / np.exp2(exponent.astype(np.float64) - 24))


# Measured over every float32: docs/numerics.md.
TRUTH: dict[str, tuple[Callable[[Any], Any], float]] = {
    "exp": (np.exp, 0.991), "log": (np.log, 0.861), "tanh": (np.tanh, 1.34),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 1.97),
    "erf": (np.vectorize(math.erf, otypes=[np.float64]), 1.35),
    "sqrt": (np.sqrt, 0.5), "rsqrt": (lambda x: 1 / np.sqrt(x), 1.50),
}  # fmt: skip


@pytest.mark.parametrize("name", TRUTH)
def test_every_function_is_within_its_stated_error(name: str) -> None:
    function, limit = TRUTH[name]
    x = many_values(200_000 if name == "erf" else 1_000_000)
    y = ONE_ARGUMENT[name](x)
    with np.errstate(all="ignore"):
        truth = function(x.astype(np.float64))
        rounded = truth.astype(np.float32)
        ordinary = np.isfinite(rounded) & np.isfinite(y)
        assert_same(y[~ordinary], rounded[~ordinary], x[~ordinary])
        assert np.array_equal(np.signbit(y[ordinary]), np.signbit(rounded[ordinary]))
        assert distance_in_ulp(y[ordinary], truth[ordinary]).max() <= limit


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sigmoid", "erf", "sqrt", "rint", "sign"])
def test_no_function_decreases(name: str) -> None:
    """Neighbouring float32 around every place where a function changes its formula, and a sample of all.

    sigmoid and erf may fall by one unit in the last place between neighbours.
    """
    x = many_values(400_000)
    seams = to_bits(np.array([0.34657, 0.625, 0.9375, 1.0397, 3.9375, 9.25, 0.70710677, 1.4142135], np.float32))
    near = (seams.astype(np.int64)[:, None] + np.arange(-3000, 3000)).ravel().astype(np.uint32)
    x = np.concatenate([x, from_bits(near), -from_bits(near)])
    x = np.sort(x[~np.isnan(x)])
    x = x[x >= 0] if name in ("log", "sqrt") else x
    y = ONE_ARGUMENT[name](x)
    y = y[np.isfinite(y)]
    with np.errstate(under="ignore"):
        allowed = np.spacing(np.abs(y[1:])) if name in ("sigmoid", "erf") else np.zeros_like(y[1:])
    assert np.all(y[1:].astype(np.float64) + allowed >= y[:-1])


def test_edges_are_where_the_header_says() -> None:
    def value(function: Callable[[Any], Float32], x: float) -> float:
        return float(function(np.float32(x)))

    assert value(numerics.exp, 88.72283) < math.inf == value(numerics.exp, 88.72284)
    assert value(numerics.exp, -103.972) > 0 == value(numerics.exp, -103.973)
    assert value(numerics.exp, 0.0) == value(numerics.exp, -0.0) == 1
    assert value(numerics.log, 1.0) == 0 and value(numerics.log, -0.0) == -math.inf
    assert value(numerics.tanh, 9.25) == value(numerics.erf, 3.9375) == value(numerics.sigmoid, 30) == 1
    assert value(numerics.sigmoid, -0.0) == 0.5 and value(numerics.sigmoid, -math.inf) == 0
    assert value(numerics.sign, -0.0) == 1 and value(numerics.sign, math.nan) == -1
    for odd in (numerics.tanh, numerics.erf, numerics.sqrt, numerics.rint_half_even):
        assert to_bits(odd(np.float32(-0.0))) == 0x80000000


def test_check_finite_finds_one_element_anywhere(library: tuple[Library, bool]) -> None:
    x = np.full(37, np.float32(3.4028235e38))
    assert library[0].check_finite(x) == 0 and numerics.all_finite(x)
    for place in (0, 17, 36):
        for bad in (np.inf, -np.inf, np.nan, -np.nan):
            y = x.copy()
            y[place] = bad
            assert library[0].check_finite(y) == 4 and not numerics.all_finite(y)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_c_calls_no_library(compiler: str, tmp_path: Path) -> None:
    sources = write_sources(tmp_path, 1)
    for flags in (
        "-O0",
        "-O2",
        "-O2 -march=native",
        "-O0 -march=native",
        "-O2 -fno-math-errno",
        "-O2 -DET_PORTABLE_MATH=1",
    ):
        command = [compiler, *STRICT, "-ffreestanding", *flags.split(), "-c", *sources[:3]]
        subprocess.run([*command, "-o", str(tmp_path / "math.o")], check=True)
        listed = subprocess.run(["nm", "-u", str(tmp_path / "math.o")], capture_output=True, text=True, check=True)
        assert listed.stdout.split() == [], f"{compiler} {flags}"


# ---- The accumulator ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fma", [False, True])
def test_the_accumulator_is_a_chain_of_madd_on_adversarial_values(fma: bool) -> None:
    a, b, c = many_triples(40_000)
    expected = madd(a, b, c, fma)
    accumulator = Accumulator(c, fma)
    accumulator.add_product(a, b)
    assert_same(accumulator.values, expected, a, b, c)
    accumulator.add_product(accumulator.operand(b), a)
    assert_same(accumulator.values, madd(b, a, expected, fma), a, b, c)


def spoiled_triples() -> tuple[Float32, Float32, Float32]:
    """Sums that float64 rounds to a point half way between two float32: two roundings in a row get half of them wrong.

    a * b is half a unit of the last place of c, less one part in 2^40 or more, which float64 cannot hold beside c.
    The last third has subnormal sums, where the half-way points have other bits.
    """
    random = np.random.default_rng(5)
    count = 3000
    part = random.integers(1, 8, count) * 2.0**-20
    exponent = random.integers(-40, 40, count)
    exponent[2 * count // 3 :] = -75
    significand = random.integers(1 << 23, 1 << 24, count)
    significand[2 * count // 3 :] = random.integers(1 << 22, 1 << 23, count // 3)
    a = ((1 + part) * np.exp2(exponent.astype(np.float64))).astype(np.float32)
    b = ((1 - part) * np.exp2(exponent.astype(np.float64))).astype(np.float32)
    c = significand * np.exp2(2.0 * exponent + 1) * random.choice([-1, 1], count)
    return a, b, c.astype(np.float32)


@pytest.mark.parametrize("which", [slice(0, 2000), slice(2000, 3000)], ids=["normal", "subnormal"])
def test_the_accumulator_mends_what_two_roundings_spoil(which: slice) -> None:
    a, b, c = (part[which] for part in spoiled_triples())
    expected = np.array([exact_fma(float(x), float(y), float(z)) for x, y, z in zip(a, b, c, strict=True)], np.float32)
    twice = (a.astype(np.float64) * b + c).astype(np.float32)
    assert np.count_nonzero(twice != expected) > a.size // 4  # the trap is a trap
    assert_same(madd(a, b, c, True), expected, a, b, c)
    single, run = Accumulator(c, True), Accumulator(c, True)
    single.add_product(a, b)
    run.add_products(a[None], b[None])
    assert_same(single.values, expected, a, b, c)
    assert_same(run.values, expected, a, b, c)


@given(
    st.lists(st.tuples(st.integers(1, 255), st.integers(-4, 4), st.sampled_from([-1, 1])), min_size=8, max_size=24),
    st.integers(-70, 0),
)
def test_the_accumulator_is_exact_where_sums_tie_and_cancel(parts: list[tuple[int, int, int]], scale: int) -> None:
    a = np.array([sign * size * 2.0 ** (12 * power + scale) for size, power, sign in parts], np.float32)
    b = np.array([size * 2.0 ** (scale - power) + 2.0 ** (scale - 20) for size, power, _ in parts], np.float32)
    accumulator = Accumulator(np.zeros(1, np.float32), True)
    total = np.float32(0)
    for x, y in zip(a, b, strict=True):
        total = exact_fma(float(x), float(y), float(total))
        accumulator.add_product(x, y)
    assert_same(accumulator.values, np.array([total]), a)
    together = Accumulator(np.zeros(1, np.float32), True)
    together.add_products(a, b)
    assert_same(together.values, np.array([total]), a)


@pytest.mark.parametrize("fma", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e-19, 1e-22])
@pytest.mark.parametrize("bits", [24, 8])
def test_matmul_adds_in_ascending_order_with_one_accumulator(fma: bool, scale: float, bits: int) -> None:
    random = np.random.default_rng(3)
    clear = np.uint32(0xFFFFFFFF << (24 - bits) & 0xFFFFFFFF)
    for m, k, n in ((1, 50, 9), (7, 20, 300), (300, 3, 200)):
        a = from_bits(to_bits((random.standard_normal((m, k)) * scale).astype(np.float32)) & clear)
        b = from_bits(to_bits((random.standard_normal((k, n)) * scale).astype(np.float32)) & clear)
        bias = random.standard_normal(n).astype(np.float32) * np.float32(scale * scale)
        expected = np.broadcast_to(bias, (m, n))
        for i in range(k):
            expected = madd(a[:, i, None], b[i], expected, fma)
        assert_same(accumulate_matmul(a, b, bias, fma), expected)
    batch = accumulate_matmul(np.stack([a, a]), np.stack([b, -b]), np.float32(0), fma)
    assert_same(batch[1], accumulate_matmul(a, -b, np.float32(0), fma))


@pytest.mark.parametrize("fma", [False, True])
def test_the_accumulator_writes_only_where_it_is_told(fma: bool) -> None:
    random = np.random.default_rng(4)
    x, w = random.standard_normal((2, 5, 5, 3)).astype(np.float32), random.standard_normal((3, 4)).astype(np.float32)
    accumulator = Accumulator(np.zeros((2, 5, 5, 4), np.float32), fma)
    inputs, weights = accumulator.operand(x), accumulator.operand(w)
    expected = np.zeros((2, 5, 5, 4), np.float32)
    for c in range(3):
        accumulator.add_product(inputs[:, :-2, :, c, None], weights[c], where=(slice(None), slice(2, None)))
        expected[:, 2:] = madd(x[:, :-2, :, c, None], w[c], expected[:, 2:], fma)
    mask = random.integers(0, 2, (5, 5, 1)).astype(bool)
    accumulator.add_product(inputs[..., :1], weights[0], mask=mask)
    expected = np.where(mask, madd(x[..., :1], w[0], expected, fma), expected)
    accumulator.add_product(inputs[:, :0, :, :1], weights[0], where=(slice(None), slice(0, 0)))
    assert_same(accumulator.values, expected)
    with pytest.raises(IndexError):
        accumulator.add_product(1.0, 1.0, where=(0, 0, 0, 0))


# ---- Random numbers -------------------------------------------------------------------------------------------------


KNOWN = [
    ["0x6f5f7873", "0x694c215b", "0x3ba3aa43"],
    ["0x4d270392", "0x7ba7e7bc", "0xd07ddca9"],
    ["0xa11eb93", "0x5c04521b", "0x1d20f242"],
]


def test_random_numbers_have_their_known_values() -> None:
    assert [hex(v) for v in numerics.random_u32(0, 0, 0, np.arange(3))] == KNOWN[0]
    assert [hex(v) for v in numerics.random_u32(1, 2, 3, np.array([0, 1, 0xFFFFFFFF], np.uint32))] == KNOWN[1]
    assert [hex(v) for v in numerics.random_u32(0xFFFFFFFF, 7, 0x80000000, np.arange(5, 8))] == KNOWN[2]


def test_random_numbers_have_the_same_bits_in_c_and_numpy(library: tuple[Library, bool]) -> None:
    index = np.concatenate([np.arange(300_000), np.arange(2**32 - 1000, 2**32)]).astype(np.uint32)
    for seed, step, stream in ((0, 0, 0), (1, 2, 3), (0xFFFFFFFF, 0x80000000, 12345)):
        words, unit = library[0].random(seed, step, stream, index)
        assert np.array_equal(words, numerics.random_u32(seed, step, stream, index))
        assert_same(unit, numerics.random_unit(seed, step, stream, index))


def draws() -> Iterator[tuple[str, UInt32]]:
    """2^18 numbers along each of the four arguments: index, seed, step, stream."""
    count = 1 << 18
    yield "index", numerics.random_u32(1, 2, 3, np.arange(count))
    few, many = 64, count // 64
    for name in ("seed", "step", "stream"):
        keys = [{"seed": 5, "step": 6, "stream": 7} | {name: value} for value in range(many)]
        yield name, np.stack([numerics.random_u32(index=np.arange(few), **key) for key in keys], 1).ravel()


DRAWS = dict(draws())


@pytest.mark.parametrize("along", DRAWS)
def test_random_bytes_and_bits_are_uniform(along: str) -> None:
    words = DRAWS[along]
    for shift in (0, 8, 16, 24):
        counts = np.bincount((words >> np.uint32(shift)) & np.uint32(255), minlength=256)
        chi_square = float(np.sum((counts - words.size / 256) ** 2) / (words.size / 256))
        assert 150 < chi_square < 380  # 255 degrees of freedom: 4.6 standard deviations below, 5.5 above
    ones = np.array([np.count_nonzero(words & np.uint32(1 << bit)) for bit in range(32)])
    assert np.all(np.abs(ones - words.size / 2) < 5 * math.sqrt(words.size) / 2)


@pytest.mark.parametrize("along", DRAWS)
def test_random_neighbours_are_not_correlated(along: str) -> None:
    words = DRAWS[along]
    for lag in (1, 2, 16, 64):
        flips = words[lag:] ^ words[:-lag]
        ones = np.array([np.count_nonzero(flips & np.uint32(1 << bit)) for bit in range(32)])
        assert np.all(np.abs(ones - flips.size / 2) < 5 * math.sqrt(flips.size) / 2)
        pair = np.corrcoef(words[lag:].astype(np.float64), words[:-lag].astype(np.float64))[0, 1]
        assert abs(pair) < 5 / math.sqrt(words.size)


def test_random_unit_has_the_moments_of_a_uniform_variable() -> None:
    x = numerics.random_unit(3, 1, 4, np.arange(1 << 20)).astype(np.float64)
    assert x.min() >= 0 and x.max() <= 1 - 2.0**-24
    assert abs(x.mean() - 0.5) < 5 * math.sqrt(1 / 12 / x.size)
    assert abs(x.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / x.size)


@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_every_input_bit_flips_every_output_bit_half_the_time(which: int) -> None:
    """Avalanche of each of seed, step, stream, index."""
    count = 256
    indices = np.arange(64)
    for bit in range(32):
        flips = np.zeros(32)
        for trial in range(count // 64):
            first = (trial * 77, trial * 3, trial + 11)
            flip = [1 << bit if place == which else 0 for place in range(3)]
            second = (first[0] ^ flip[0], first[1] ^ flip[1], first[2] ^ flip[2])
            changed = indices ^ (1 << bit if which == 3 else 0)
            words = numerics.random_at(numerics.random_key(*first), indices)
            words ^= numerics.random_at(numerics.random_key(*second), changed)
            flips += [np.count_nonzero(words & np.uint32(1 << place)) for place in range(32)]
        assert np.all(np.abs(flips - count / 2) < 5.5 * math.sqrt(count) / 2), f"bit {bit}"


def test_random_sequences_of_different_keys_do_not_overlap() -> None:
    """A shifted copy of one sequence inside another would show as equal neighbours."""
    keys = [(seed, step, stream) for seed in range(4) for step in range(16) for stream in range(4)]
    words = np.concatenate([numerics.random_u32(*key, np.arange(4096)) for key in keys]).astype(np.uint64)
    pairs = words[1:] << np.uint64(32) | words[:-1]
    assert np.unique(pairs).size == pairs.size
    expected = words.size**2 / 2**33
    assert words.size - np.unique(words).size < expected + 5 * math.sqrt(expected)


def test_four_halves_of_a_random_number_are_uniform_and_unrelated() -> None:
    count = 400_000
    halves = random_halves(3, 7, 11, 4 * count).reshape(count, 4)
    assert halves.min() >= 0 and halves.max() <= 0xFFFF
    unit = (halves + 0.5) / 65536 - 0.5
    assert np.abs(unit.mean(axis=0)).max() < 4 / np.sqrt(12 * count)
    for bit in range(16):
        assert np.abs((halves >> bit & 1).mean(axis=0) - 0.5).max() < 2.5 / np.sqrt(count)
    for a in range(4):
        for b in range(a):
            assert abs((unit[:, a] * unit[:, b]).mean() * 12) < 4.5 / np.sqrt(count), (a, b)
            cells = np.bincount((halves[:, a] >> 12) * 16 + (halves[:, b] >> 12), minlength=256)
            expected = count / 256
            assert ((cells - expected) ** 2 / expected).sum() < 255 + 5 * np.sqrt(2 * 255), (a, b)
