"""SignConv: convolutions with packed signs; the sums that Conv would give, and the reference's bits in C."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.resources import folder
from tests.support import assert_parity, assert_same_bits, floats, floats_with_special, reference_gradients
from toolkit.ir import Array
from toolkit.ops.base import Run, ShapeError
from toolkit.ops.conv import Conv, ConvGradInput, ConvGradWeight
from toolkit.ops.sign_conv import SignConv, SignConvGradInput, TransposeSigns
from toolkit.ops.signs import pack_signs, unpack_signs

COMPILER, OBJDUMP = "riscv64-unknown-elf-gcc", "riscv64-unknown-elf-objdump"
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """A convolution that fits its input."""

    batch: int
    sizes: Shape
    kernel: Shape
    strides: Shape
    dilations: Shape
    before: Shape
    after: Shape
    groups: int
    channels: int
    outputs: int

    @property
    def attributes(self) -> tuple[Shape, Shape, Shape, Shape, int]:
        """Of the ops."""
        return self.strides, self.dilations, self.before, self.after, self.groups

    def op(self) -> SignConv:
        """The convolution."""
        return SignConv(*self.attributes, self.kernel, self.channels)

    def values(self, seed: int, special: bool = False, whole: bool = False) -> tuple[Array, Array, Array]:
        """Input, bits and bias."""
        make = floats_with_special if special else floats
        x = make(seed, self.batch, *self.sizes, self.channels * self.groups)
        bias = make(seed + 1, self.outputs * self.groups)
        if whole:
            x, bias = np.rint(4 * x), np.rint(4 * bias)
        w = floats(seed + 2, *self.kernel, self.channels, self.outputs * self.groups)
        return x, pack_signs(w >= 0), bias


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """One or two axes; strides, dilations, padding, groups, channels that fill no byte."""
    axes = draw(st.integers(1, 2))

    def each(low: int, high: int) -> Shape:
        return tuple(draw(st.integers(low, high)) for _ in range(axes))

    kernel, dilations, before, after = each(1, 3), each(1, 2), each(0, 2), each(0, 2)
    spans = [(taps - 1) * dilation + 1 for taps, dilation in zip(kernel, dilations, strict=True)]
    room = [max(span - b - a, 1) for span, b, a in zip(spans, before, after, strict=True)]
    sizes = tuple(low + draw(st.integers(0, 9 if axes == 1 else 6)) for low in room)
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels = draw(st.sampled_from([1, 2, 3, 4, 5, 8, 11, 17]))
    outputs = draw(st.sampled_from([1, 2, 3, 9]))
    return Case(
        draw(st.integers(1, 2)), sizes, kernel, each(1, 3), dilations, before, after, groups, channels, outputs
    )


@settings(max_examples=40)
@given(case=cases(), seed=st.integers(0, 99), special=st.booleans(), biased=st.booleans())
def test_the_same_in_c(case: Case, seed: int, special: bool, biased: bool) -> None:
    x, bits, bias = case.values(seed, special)
    assert_parity(case.op(), (x, bits, bias) if biased else (x, bits))
    (y,) = case.op().run(Run(), x, bits)
    dy = floats_with_special(seed, *y.shape) if special else floats(seed, *y.shape)
    assert_parity(TransposeSigns(case.groups, case.channels), (bits,))
    (turned,) = TransposeSigns(case.groups, case.channels).run(Run(), bits)
    into = SignConvGradInput(*case.attributes, case.kernel, case.channels, case.sizes, y.shape[-1])
    assert_parity(into, (dy, turned))


@settings(max_examples=40)
@given(case=cases(), seed=st.integers(0, 99))
def test_on_integers_it_is_conv_with_weights_of_one(case: Case, seed: int) -> None:
    """Integer sums are exact in any order: values and all three gradients are those of Conv."""
    x, bits, bias = case.values(seed, whole=True)
    w = unpack_signs(bits, case.kernel, case.channels).astype(np.float32)
    (y,) = case.op().run(Run(), x, bits, bias)
    assert_same_bits(y + 0, Conv(*case.attributes).run(Run(), x, w, bias)[0] + 0)
    dy = np.rint(floats(seed + 5, *y.shape))
    dx, dw, db = reference_gradients(case.op(), (x, bits, bias), [dy], wanted=[True, True, True])[:3]
    assert dx is not None and dw is not None and db is not None
    assert_same_bits(dx + 0, ConvGradInput(*case.attributes, sizes=case.sizes).run(Run(), dy, w)[0] + 0)
    assert_same_bits(dw, ConvGradWeight(*case.attributes, kernel=case.kernel).run(Run(), x, dy)[0])
    assert_same_bits(db + 0, dy.reshape(-1, dy.shape[-1]).sum(axis=0, dtype=np.float32) + 0)


def test_four_channels_are_summed_first() -> None:
    x = np.array([[[1e8, -1e8, 1, 2, 3, 0.5]]], np.float32)
    op = SignConv((1,), (1,), (0,), (0,), 1, (1,), 6)
    bits = pack_signs(np.ones((1, 6, 1)) > 0)
    (y,) = op.run(Run(), x, bits, np.array([1e8], np.float32))
    assert y.item() == np.float32(np.float32(1e8) + np.float32(3)) + np.float32(3.5)


def test_bits_that_do_not_fit_are_refused() -> None:
    op = SignConv((1,), (1,), (0,), (0,), 1, (3,), 5)
    with pytest.raises(ShapeError, match="not packed signs"):
        op.run(Run(), np.zeros((1, 4, 5), np.float32), np.zeros((2, 3, 2), np.uint8))


@pytest.mark.skipif(shutil.which(COMPILER) is None or shutil.which(OBJDUMP) is None, reason="no GNU tools for RISC-V")
def test_no_float_is_multiplied(tmp_path: Path) -> None:
    """The kernel adds and subtracts; what it multiplies are indices."""
    (tmp_path / "et_config.h").write_text("#define ET_FMA 1\n")
    runtime, made = folder("runtime_c"), tmp_path / "kernel.o"
    target = ["-march=rv32imafc", "-mabi=ilp32f", "-O2", "-ffreestanding", "-ffp-contract=off", f"-I{tmp_path}"]
    command = [COMPILER, "-std=c99", *target, f"-I{runtime}", "-c", str(runtime / "et_sign_conv.c"), "-o", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    listing = subprocess.run([OBJDUMP, "-d", str(made)], check=True, capture_output=True, text=True).stdout
    assert re.search(r"\tfadd\.s\b", listing)
    assert not re.search(r"\tf(mul|n?madd|n?msub|div)\.", listing)
