"""Binary layers on RISC-V: the same bits with and without instructions that help, no multiplication, and their cost."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegen.board import load_board
from codegen.compilers import find_riscv_compilers, firmware_flags
from codegen.resources import folder
from tests.support import run_nodes
from toolkit.cli import main
from toolkit.ir import Array, Graph, Interface, TensorType
from toolkit.ops.base import Op
from toolkit.ops.binary_conv import BinaryConv, PackedBinaryConv, pack_filters
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.stream import StreamSigns
from toolkit.ops.stream_block import StreamBlock
from toolkit.pipeline import Options, compile_graph, compile_model
from toolkit.quant import parse_plan
from toolkit.sim.device import DeviceBackend
from toolkit.sim.parity import verify_bits

PROFILES = ["rv32imac", "rv32imac_zbb", "rv32ic", "rv32imafc"]
OBJDUMP = next((tool for tool in ("riscv64-unknown-elf-objdump", "llvm-objdump") if shutil.which(tool)), None)
MULTIPLIES = re.compile(r"\t(mul|div|rem)\w*\b|<?__(mul|div|udiv|umod|mod)\w*>?")

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed"),
    pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed"),
]
needs_objdump = pytest.mark.skipif(OBJDUMP is None, reason="no objdump for RISC-V is installed")


class Layers:
    """A graph of integer ops; inputs are drawn."""

    def __init__(self, seed: int = 0) -> None:
        self.builder = GraphBuilder("layers")
        self.random = np.random.default_rng(seed)
        self.values: dict[str, Array] = {}

    def bits(self, *shape: int) -> Array:
        """Packed bits of values of this shape; those beyond the last channel are 0."""
        return np.packbits(self.random.random(shape) < 0.5, axis=-1, bitorder="little")

    def input(self, value: Array) -> str:
        """An input of the model."""
        name = self.builder.input(f"in{len(self.values)}", TensorType(value.shape, str(value.dtype)))
        self.values[name] = value
        return self._shown(name)

    def add(self, op: Op, *inputs: str | Array) -> str:
        """A node; arrays become constants."""
        number = len(self.builder.nodes)
        names = [
            x if isinstance(x, str) else self.builder.constant(f"c{number}_{i}", x) for i, x in enumerate(inputs)
        ]
        return self.builder.apply(op, *names)[0]

    def finish(self, *outputs: str) -> Graph:
        """The graph."""
        self.builder.outputs = [self._shown(name) for name in outputs]
        return self.builder.finish()

    def _shown(self, name: str) -> str:
        shape = self.builder.type(name).shape
        self.builder.interface[name] = Interface(name, shape, tuple(range(len(shape))))
        return name


def instructions(layers: Layers, graph: Graph, profile: str, compiler: str | None = None) -> int:
    """Retired instructions of one inference; its outputs are compared with the reference."""
    board = load_board("qemu-rv32").with_profile(profile)
    compiled = compile_graph(graph, Options(fma=board.fma, isa=board.cpu.isa, name="layers"), "layers")
    expected = run_nodes(graph, dict(layers.values))
    with DeviceBackend(compiled, load_board("qemu-rv32"), profile, compiler) as device:
        outputs = device.infer(list(layers.values.values()))
        for name, output in zip(graph.outputs, outputs, strict=True):
            assert np.array_equal(output, expected[name]), (name, profile)
        return device.stats().instructions


def measured_convolution(layers: Layers, **options: Any) -> str:
    """3x3, 16 -> 32 channels at 14 x 14, filters made when compiling."""
    op = BinaryConv((1, 1), (1, 1), (1, 1), (1, 1), kernel=(3, 3), channels=16)
    words, starts = pack_filters(op, (1, 14, 14, 2), layers.bits(32, 9, 16))
    packed = PackedBinaryConv((1, 1), (1, 1), (1, 1), (1, 1), kernel=(3, 3), channels=16)
    return layers.add(packed, layers.input(layers.bits(1, 14, 14, 16)), words, starts)


MACS = 14 * 14 * 32 * 9 * 16


@pytest.mark.parametrize("profile", PROFILES)
def test_binary_convolutions_are_the_same_to_the_bit(profile: str) -> None:
    layers = Layers(3)
    outputs = []
    for kernel, stride, dilation, pad, channels in (
        ((3, 3), 1, 1, 1, 16), ((3, 3), 2, 1, 1, 32), ((5, 2), 1, 2, 2, 9), ((1, 1), 1, 1, 0, 200),
        ((4, 4), 1, 1, 0, 8),
    ):  # fmt: skip
        op = BinaryConv((stride,) * 2, (dilation,) * 2, (pad,) * 2, (pad,) * 2, kernel=kernel, channels=channels)
        signs = layers.input(layers.bits(3, kernel[0] * kernel[1], channels))
        outputs.append(layers.add(op, layers.input(layers.bits(2, 7, 6, channels)), signs))
    instructions(layers, layers.finish(*outputs), profile)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("method", ["ab-bnn", "ab-bnn:strict"])
def test_networks_on_integers_are_the_same_to_the_bit(method: str, profile: str) -> None:
    fma = load_board("qemu-rv32").with_profile(profile).fma
    compiled = compile_model("ab-net", Options(fma=fma, quant=parse_plan(method)))
    report = verify_bits(compiled, ["reference", "qemu-rv32"], steps=1, profile=profile)
    assert report.compared_bits > 0 and report.differing_bits == 0, report.first_difference


@pytest.mark.parametrize(("profile", "most"), [("rv32imac_zbb", 0.185), ("rv32imac", 0.44), ("rv32ic", 0.46)])
def test_instructions_per_multiply_accumulate_of_a_convolution(profile: str, most: float) -> None:
    layers = Layers()
    assert instructions(layers, layers.finish(measured_convolution(layers)), profile) <= most * MACS


@pytest.mark.parametrize(("profile", "most"), [("rv32imac_zbb", 0.38), ("rv32imac", 0.70), ("rv32ic", 0.70)])
def test_instructions_per_multiply_accumulate_of_a_strict_block(profile: str, most: float) -> None:
    """The convolution, its block with a shortcut, and the signs for the next layer."""
    layers = Layers()
    sums = measured_convolution(layers)
    shortcut = layers.input(layers.random.integers(-2000, 2000, (1, 14, 14, 32)).astype(np.int16))
    columns = [layers.random.integers(low, high, 32) for low, high in ((2, 4), (-50, 50), (2, 4), (-50, 50))]
    codes = layers.add(StreamBlock(strict=True), sums, np.stack(columns, axis=-1).astype(np.int16), shortcut)
    signs = layers.add(StreamSigns(), codes, layers.random.integers(-50, 50, 32).astype(np.int16))
    assert instructions(layers, layers.finish(codes, signs), profile) <= most * MACS


def multiplying_functions(listing: str) -> tuple[set[str], list[str]]:
    """(functions with b1 in their name, their lines that multiply, divide or call for it) of a disassembly."""
    name, seen, found = "", set(), []
    for line in listing.splitlines():
        head = re.match(r"[0-9a-f]+ <(.+)>:", line)
        if head:
            name = head.group(1)
        elif "b1" in name.split("_"):
            seen.add(name)
            if MULTIPLIES.search(line):
                found.append(f"{name}: {line.strip()}")
    return seen, found


def disassembly(path: Path) -> str:
    """What objdump says, relocations included."""
    assert OBJDUMP is not None
    return subprocess.run([OBJDUMP, "-dr", str(path)], check=True, capture_output=True, text=True).stdout


@needs_objdump
@pytest.mark.parametrize("model", ["lenet", "ab-net"])
def test_strict_networks_hold_no_multiplication_on_a_core_without_one(model: str, tmp_path: Path) -> None:
    out = tmp_path / "firmware"
    options = ["--quant", "ab-bnn:strict", "--target", "qemu-rv32", "--profile", "rv32ic", "-o", str(out)]
    assert main(["compile", model, *options]) == 0
    subprocess.run(["make", "-C", str(out)], check=True, capture_output=True)
    seen, found = multiplying_functions(disassembly(next(out.rglob("*.elf"))))
    assert not found
    assert {"et_conv_packed_b1", "et_block_b1", "et_signs_b1"} <= seen


@needs_objdump
@pytest.mark.parametrize("level", ["-O0", "-O1", "-O2", "-O3", "-Os"])
@pytest.mark.parametrize("compiler", find_riscv_compilers(), ids=lambda compiler: str(compiler.name))
def test_no_compiler_makes_a_product_of_anything(compiler: Any, level: str, tmp_path: Path) -> None:
    board = load_board("qemu-rv32").with_profile("rv32ic")
    (tmp_path / "et_config.h").write_text("#define ET_FMA 0\n")
    flags = [*firmware_flags(board, compiler.family), level, "-std=c99", "-ffreestanding", f"-I{tmp_path}"]
    for name in ("et_conv_b1", "et_stream_b1"):
        source, made = folder("runtime_c") / f"{name}.c", tmp_path / f"{name}.o"
        quiet = ["-fno-sanitize=undefined"] if compiler.family == "zig" else []
        command = [*compiler.command, *flags, *quiet, "-c", str(source), "-o", str(made)]
        subprocess.run(command, check=True, capture_output=True)
        listing = disassembly(made)
        assert ">:" in listing and not MULTIPLIES.search(listing)
