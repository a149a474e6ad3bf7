"""SignConv: convolutions with packed signs; the sums that Conv would give, and the reference's bits in C."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.board import load_board
from codegen.compilers import find_riscv_compilers, firmware_flags
from codegen.resources import folder
from tests.support import assert_parity, assert_same_bits, floats, floats_with_special, reference_gradients
from tests.test_binary_on_rv32 import MACS, Layers, instructions
from tests.test_sign_tables import on_device
from toolkit.ir import Array
from toolkit.ops.base import Run, ShapeError
from toolkit.ops.conv import Conv, ConvGradInput, ConvGradWeight
from toolkit.ops.sign_conv import SignConv, SignConvGradInput, TransposeSigns, _Walk
from toolkit.ops.signs import pack_signs, unpack_signs
from toolkit.ops.taps import Axis

OBJDUMP = next((tool for tool in ("riscv64-unknown-elf-objdump", "llvm-objdump") if shutil.which(tool)), None)
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


@pytest.mark.parametrize("walk_of", [_Walk.forward, _Walk.backward], ids=["forward", "backward"])
def test_every_tap_finds_its_source_in_the_ring(walk_of: Callable[[Axis], _Walk]) -> None:
    """All small axes: what an output reads was built before, and nothing has taken its place since."""
    walked = 0
    for size, taps, stride, dilation, before, after in itertools.product(
        range(1, 9), range(1, 5), range(1, 4), range(1, 4), range(3), range(3)
    ):
        outputs = (size + before + after - (taps - 1) * dilation - 1) // stride + 1
        if outputs < 1:
            continue
        walk = walk_of(Axis(size, taps, outputs, stride, dilation, before))
        met, slots, builds = [walk.met(tap) for tap in range(taps)], walk.slots(1), walk.builds(1, 1)
        ring: dict[int, int] = {}
        for output in range(walk.outputs):
            first, slot, count = builds[3 * output : 3 * output + 3]
            assert first >= 0 and first + count <= walk.source
            for source in range(first, first + count):
                ring[slot] = source
                slot = (slot + 1) % walk.spanned
            for tap, (sources, inside) in enumerate(met):
                at = slots[output * taps + tap]
                assert ring[at] == sources[output] if inside[output] else at == -1, (walk, output, tap)
        walked += 1
    assert walked > 1000


@pytest.mark.parametrize("width", [8, 14, 15, 23, 30])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_wide_and_dilated_rows_are_the_same_in_c(width: int, stride: int) -> None:
    """Blocks of 14 outputs and of fewer, rows that are padded by less than they are dilated."""
    for dilation, channels, groups in ((1, 5, 1), (2, 9, 2), (3, 3, 1)):
        case = Case(2, (7, width), (2, 3), (stride, 1), (dilation, dilation), (1, 2), (2, 1), groups, channels, 2)
        x, bits, bias = case.values(width, special=True)
        assert_parity(case.op(), (x, bits, bias))
        (y,) = case.op().run(Run(), x, bits)
        (turned,) = TransposeSigns(groups, channels).run(Run(), bits)
        into = SignConvGradInput(*case.attributes, case.kernel, channels, case.sizes, y.shape[-1])
        assert_parity(into, (floats(width, *y.shape), turned))


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


def one_layer(layers: Layers, width: int) -> str:
    """3x3, 16 -> 32 channels at 14 x width."""
    op = SignConv((1, 1), (1, 1), (1, 1), (1, 1), kernel=(3, 3), channels=16)
    return layers.add(op, layers.input(floats(width, 1, 14, width, 16)), layers.bits(32, 9, 16))


@on_device
@pytest.mark.parametrize("compiler", [compiler.name for compiler in find_riscv_compilers()])
def test_instructions_per_multiply_accumulate(compiler: str) -> None:
    """The outputs are compared with the reference too."""
    layers = Layers()
    assert instructions(layers, layers.finish(one_layer(layers, 14)), "rv32imafc", compiler) <= 0.79 * MACS


@on_device
def test_rows_that_are_cut_into_blocks_are_the_same_on_a_device() -> None:
    layers = Layers()
    assert instructions(layers, layers.finish(*(one_layer(layers, width) for width in (3, 9, 25, 29))), "rv32imafc") > 0


@pytest.mark.skipif(OBJDUMP is None, reason="no objdump for RISC-V is installed")
@pytest.mark.parametrize("level", ["-O2", "-Os"])
@pytest.mark.parametrize("profile", ["rv32imafc", "rv32imac", "rv32ic"])
@pytest.mark.parametrize(
    "kernel", ["et_sign_conv", "et_conv_tables_i8", "et_lane_codes", "et_conv_planes_i8", "et_signs_i8", "et_signs_i16"]
)
@pytest.mark.parametrize("compiler", find_riscv_compilers(), ids=lambda compiler: str(compiler.name))
def test_nothing_is_multiplied(compiler: Any, kernel: str, profile: str, level: str, tmp_path: Path) -> None:
    """No product at all: not of numbers, nor to find an element, nor by a call."""
    board = load_board("qemu-rv32").with_profile(profile)
    (tmp_path / "et_config.h").write_text("#define ET_FMA 0\n")
    quiet = ["-fno-sanitize=undefined"] if compiler.family == "zig" else []
    flags = [*firmware_flags(board, compiler.family), level, "-std=c99", "-ffreestanding", f"-I{tmp_path}", *quiet]
    made = tmp_path / "kernel.o"
    source = folder("runtime_c") / f"{kernel}.c"
    subprocess.run([*compiler.command, *flags, "-c", str(source), "-o", str(made)], check=True, capture_output=True)
    assert OBJDUMP is not None
    listing = subprocess.run([OBJDUMP, "-dr", str(made)], check=True, capture_output=True, text=True).stdout
    added = r"\tfadd\.s\b" if profile == "rv32imafc" else r"__addsf3"
    assert re.search(added if kernel == "et_sign_conv" else r"\tadd\b", listing)
    products = re.compile(r"\t(f?n?mul|fn?m(add|sub)|f?div|rem)\w*\b|<?__(mul|div|udiv|umod|mod)\w*>?")
    assert [line for line in listing.splitlines() if products.search(line)] == []
