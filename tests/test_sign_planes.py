"""Convolutions of small codes with packed signs by bit planes: bits, cost, and where they are chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.compilers import find_riscv_compilers
from tests.support import StepRunner, assert_same_bits, run_nodes
from tests.test_binary_on_rv32 import Layers, instructions
from tests.test_integer_convolutions import assert_parity, one_node
from tests.test_sign_tables import kernels, on_device
from toolkit.cli import main
from toolkit.ir import Array, TensorType
from toolkit.lower import Memory, lower_function
from toolkit.ops import sign_forms
from toolkit.ops.fixed_sign_conv import FixedSignConv
from toolkit.ops.geometry import ConvGeometry
from toolkit.ops.quantized_conv import QuantizedConv
from toolkit.ops.quantized_conv_codes import QuantizedConvCodes
from toolkit.ops.sign_forms import MOST_SCRATCH, choose_form
from toolkit.ops.sign_planes import LEAST_FILTER_BYTES
from toolkit.ops.signs import pack_signs


@pytest.fixture
def planes_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Planes run whatever they can."""
    with monkeypatch.context() as change:
        change.setattr(sign_forms, "planes_instructions", lambda *_: 0.0)
        yield


class Layer:
    """A drawn layer that planes can run."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.dense = draw(st.booleans())
        self.outputs = draw(st.sampled_from([1, 2, 3, 5, 8, 17]))
        self.largest = draw(st.sampled_from([1, 3, 3, 7, 15, 10]))
        self.batch = draw(st.integers(1, 2))
        if self.dense:
            self.kernel, self.strides, self.dilations, self.pads, self.sizes = (1, 1), (1, 1), (1, 1), (0,) * 4, (1, 1)
            self.channels = draw(st.integers(8 * LEAST_FILTER_BYTES - 7, 900) | st.sampled_from([256, 512, 1568]))
            return
        self.channels = draw(st.sampled_from([1, 3, 8, 9, 16, 20, 24, 32, 33, 64]))
        self.kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
        taps = self.kernel[0] * self.kernel[1]
        if taps * -(-self.channels // 8) < LEAST_FILTER_BYTES:
            self.kernel = (2, 3)
        self.strides = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2), (2, 1), (3, 3)]))
        self.dilations = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2), (3, 1)]))
        self.pads = draw(st.tuples(*[st.integers(0, 2)] * 4))
        reach = [(taps - 1) * step + 1 for taps, step in zip(self.kernel, self.dilations, strict=True)]
        self.sizes = tuple(draw(st.integers(least, least + 5)) for least in reach)

    @property
    def attributes(self) -> dict[str, Any]:
        return {
            "strides": self.strides, "dilations": self.dilations, "before": self.pads[:2], "after": self.pads[2:],
            "kernel": self.kernel, "channels": self.channels,
        }  # fmt: skip

    @property
    def limits(self) -> dict[str, Any]:
        return {"largest_x": self.largest, "largest_w": 1, "unsigned": True}

    def x(self) -> Array:
        return self.random.integers(0, self.largest + 1, (self.batch, *self.sizes, self.channels)).astype(np.int8)

    def bits(self) -> Array:
        return pack_signs(self.random.random((*self.kernel, self.channels, self.outputs)) < 0.5)

    def reals(self, *shape: int) -> Array:
        return self.random.standard_normal(shape).astype(np.float32)


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    return Layer(draw)


def assert_planes(op: Any, inputs: list[Array | None]) -> None:
    """The layer runs by planes, and gives the bits of the reference."""
    assert any("planes" in kernel for kernel in kernels(op, inputs))
    assert_parity(op, inputs)


@pytest.mark.usefixtures("planes_cost_nothing")
class TestParity:
    """Planes run all that they can."""

    @settings(max_examples=40)
    @given(layer=layers(), per_channel=st.booleans(), bias=st.booleans(), start=st.booleans())
    def test_values_are_the_same_to_the_bit(self, layer: Layer, per_channel: bool, bias: bool, start: bool) -> None:
        inputs = [
            layer.x(), layer.bits(), layer.reals(1).reshape(()), layer.reals(*(layer.outputs,) * per_channel),
            layer.reals(layer.outputs) if bias else None,
            layer.random.integers(-999, 999, layer.outputs).astype(np.int32) if start else None,
        ]  # fmt: skip
        assert_planes(QuantizedConv(**layer.attributes, **layer.limits), inputs)

    @settings(max_examples=40)
    @given(layer=layers(), levels=st.sampled_from([1, 2, 3, 15]))
    def test_codes_are_the_same(self, layer: Layer, levels: int) -> None:
        thresholds = np.sort(layer.random.integers(-60, 60, (layer.outputs, levels)), axis=1).astype(np.int32)
        direction = layer.random.choice(np.array([-1, 1], np.int8), layer.outputs)
        inputs = [layer.x(), layer.bits(), thresholds, direction]
        assert_planes(QuantizedConvCodes(**layer.attributes, **layer.limits), inputs)

    @settings(max_examples=20)
    @given(layer=layers())
    def test_sums_are_the_same(self, layer: Layer) -> None:
        attributes = layer.attributes | {"dilations": (1, 1)}
        op = FixedSignConv(**attributes, largest=layer.largest, unsigned=True)
        scales = np.array(0.5, np.float32), np.array(0.25, np.float32)
        assert_planes(op, [layer.x(), layer.bits(), *scales])

    @pytest.mark.parametrize("channels", [5 * 8, 6 * 8 - 1, 7 * 8, 8 * 8 - 3])
    def test_nothing_need_be_aligned(self, channels: int) -> None:
        """Neither codes nor filters; those of the first and the last word are not read beyond the array."""
        random = np.random.default_rng(channels)
        for outputs, shift in product((1, 2, 7), range(4)):
            op = QuantizedConv((1, 1), (1, 1), (0, 0), (0, 0), 1, (1, 1), channels, 3, 1, unsigned=True)
            x = random.integers(0, 4, (2, 1, 2, channels)).astype(np.int8)
            bits = pack_signs(random.random((1, 1, channels, outputs)) < 0.5)
            graph, values = one_node(op, [x, bits, np.array(0.5, np.float32), np.array(2, np.float32)])
            function = lower_function("infer", graph, Memory(frozenset(), frozenset()), with_outputs=False)
            runner = StepRunner(function, values, True, None)
            for name, by in (("in0", 3 - shift), ("in1", shift)):
                runner.memory[name] = moved(runner.memory[name], by)
            assert runner.run() == "ET_OK"
            (y,) = graph.outputs
            assert_same_bits(runner.result(y), run_nodes(graph, dict(values))[y], f"{outputs} {shift}")


def moved(values: Array, by: int) -> Array:
    """The same bytes, at an address that is `by` more than a multiple of 4."""
    place = np.empty(len(values) + 8, values.dtype)
    start = -place.ctypes.data % 4 + by
    place[start : start + len(values)] = values
    return place[start : start + len(values)]


DENSE = ConvGeometry(1, 1, 1, 1568, 64, 1, 1)
NARROW = ConvGeometry(1, 14, 14, 16, 32, 3, 3, pad_top=1, pad_left=1, pad_bottom=1, pad_right=1)
WIDE = ConvGeometry(1, 4, 4, 64, 64, 3, 3, pad_top=1, pad_left=1, pad_bottom=1, pad_right=1)


@pytest.mark.parametrize(
    ("geometry", "largest", "counts_ones", "most", "name"),
    [
        (DENSE, 3, False, MOST_SCRATCH, "planes"),
        (DENSE, 3, True, MOST_SCRATCH, "planes"),
        (DENSE, 31, True, MOST_SCRATCH, "dense"),
        (NARROW, 3, False, MOST_SCRATCH, "tables"),
        (NARROW, 3, True, MOST_SCRATCH, "tables"),
        (NARROW, 3, True, 4096, "planes"),
        (WIDE, 3, False, MOST_SCRATCH, "tables"),
        (WIDE, 3, False, 8192, "planes"),
        (WIDE, 3, True, MOST_SCRATCH, "planes"),
    ],
)
def test_the_form_follows_from_core_and_memory(
    geometry: ConvGeometry, largest: int, counts_ones: bool, most: int, name: str
) -> None:
    choice = choose_form(geometry, largest, most=most, unsigned=True, counts_ones=counts_ones)
    assert choice.chosen.name == name
    assert "planes" not in [form.name for form in choose_form(geometry, largest, most=most).candidates]


def test_padding_that_reads_another_code_has_no_planes() -> None:
    attributes: dict[str, Any] = {"kernel": (1, 1), "channels": 1568, "largest_x": 3, "largest_w": 1, "unsigned": True}
    types = TensorType((1, 1, 1, 1568), "int8"), TensorType((64, 1, 196), "uint8")
    for zero, name in ((0, "planes"), (1, "dense")):
        choice = QuantizedConv((1, 1), (1, 1), (0, 0), (0, 0), x_zero=zero, **attributes).form(*types)
        assert choice is not None and choice.chosen.name == name


@pytest.mark.parametrize(
    ("profile", "how", "master"),
    [("rv32imac", "full adders", "float32"), ("rv32imac_zbb", "an instruction", "float32"),
     ("rv32imac", "full adders", "int16")],
)  # fmt: skip
def test_plan_says_how_ones_are_counted(
    profile: str, how: str, master: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["plan", "mnist-cnn", "--quant", f"dorefa:w1a2g6,master={master}", "--profile", profile, "--no-build"]
    assert main([*arguments, "--explain", "/fc1"]) == 0
    said = capsys.readouterr().out
    assert f"/fc1 in infer: 2 bit planes, ones counted by {how}; fewest instructions" in said
    assert "tables of blocks" in said and "multiply" in said


def dense(layers: Layers, largest: int = 3) -> str:
    """1568 -> 64, thresholds included."""
    op = QuantizedConvCodes((1, 1), (1, 1), (0, 0), (0, 0), 1, (1, 1), 1568, largest, 1, unsigned=True)
    return coded(layers, op, 1, 64)


def wide(layers: Layers) -> str:
    """3x3, 64 -> 64 channels at 4 x 4."""
    op = QuantizedConvCodes(*[(1, 1)] * 4, kernel=(3, 3), channels=64, largest_x=3, largest_w=1, unsigned=True)
    return coded(layers, op, 4, 64)


def coded(layers: Layers, op: QuantizedConvCodes, size: int, outputs: int) -> str:
    codes = layers.random.integers(0, op.largest_x + 1, (1, size, size, op.channels)).astype(np.int8)
    thresholds = np.sort(layers.random.integers(-60, 60, (outputs, op.largest_x)), axis=1).astype(np.int32)
    bits = layers.bits(outputs, op.kernel[0] * op.kernel[1], op.channels)
    return layers.add(op, layers.input(codes), bits, thresholds, np.ones(outputs, np.int8))


@on_device
@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "macs", "profile", "most"),
    [(dense, 1568 * 64, "rv32imac", 0.75), (dense, 1568 * 64, "rv32imac_zbb", 0.39),
     (wide, 16 * 64 * 9 * 64, "rv32imac_zbb", 0.37)],
)  # fmt: skip
@pytest.mark.parametrize("compiler", [compiler.name for compiler in find_riscv_compilers()])
def test_instructions_per_multiply_accumulate(
    compiler: str, layer: Callable[[Layers], str], macs: int, profile: str, most: float
) -> None:
    """The outputs are compared with the reference too. The bars leave compilers a tenth."""
    layers = Layers()
    assert instructions(layers, layers.finish(layer(layers)), profile, compiler) <= most * macs


@on_device
@pytest.mark.usefixtures("planes_cost_nothing")
@pytest.mark.parametrize("profile", ["rv32imac", "rv32imafc", "rv32imac_zbb"])
def test_planes_are_the_same_to_the_bit_on_a_device(profile: str) -> None:
    """Filters that begin in any byte of a word, one to four planes, strides, dilation, padding; passes of all sizes."""
    layers = Layers(1)
    outputs = []
    for kernel, stride, dilation, pad, channels, largest in (
        ((3, 3), 1, 1, 1, 16, 3), ((3, 3), 2, 1, 1, 32, 1), ((5, 2), 1, 2, 2, 9, 7), ((1, 1), 1, 1, 0, 301, 15),
        ((4, 3), 1, 1, 0, 64, 3),
    ):  # fmt: skip
        pads = (stride,) * 2, (dilation,) * 2, (pad,) * 2, (pad,) * 2
        op = QuantizedConvCodes(*pads, 1, kernel, channels, largest, 1, unsigned=True)
        outputs.append(coded(layers, op, 7, 5))
    assert instructions(layers, layers.finish(*outputs), profile) > 0
