"""Convolutions of int8 codes with packed signs by tables of signed sums: bits, cost, and which form is chosen."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.compilers import find_riscv_compilers
from tests.test_binary_on_rv32 import Layers, instructions
from tests.test_integer_convolutions import assert_parity, one_node
from toolkit.cli import main
from toolkit.ir import Array, TensorType
from toolkit.lower import Memory, lower_function
from toolkit.ops.base import Op
from toolkit.ops.geometry import ConvGeometry
from toolkit.ops.quantized_conv import QuantizedConv, QuantizedConvGradInput
from toolkit.ops.quantized_conv_codes import QuantizedConvCodes
from toolkit.ops.sign_forms import MOST_SCRATCH, choose_form
from toolkit.ops.signs import pack_signs


def on_device(test: Any) -> Any:
    """Marks a test that runs in the emulator."""
    test = pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed")(test)
    test = pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed")(test)
    return pytest.mark.emulator(test)


def kernels(op: Op, inputs: list[Array | None]) -> list[str]:
    """Which kernels run an op."""
    function = lower_function("infer", one_node(op, inputs)[0], Memory(frozenset(), frozenset()), with_outputs=False)
    return [step.kernel for step in function.steps]


class Layer:
    """A drawn layer that tables run."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.channels = draw(st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 20, 33]))
        self.outputs = draw(st.sampled_from([1, 3, 16, 17]))
        self.kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
        self.strides = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2), (2, 1), (3, 3)]))
        self.dilations = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2), (3, 1)]))
        self.pads = draw(st.tuples(*[st.integers(0, 2)] * 4))
        self.sizes = draw(st.tuples(st.integers(4, 9), st.integers(4, 18)))
        self.batch = draw(st.integers(1, 2))
        if draw(st.integers(0, 4)) == 0:  # a dense layer
            self.kernel, self.sizes, self.pads = (1, 1), (1, 1), (0, 0, 0, 0)
            self.channels = draw(st.integers(1, 300))
        reach = [(taps - 1) * step + 1 for taps, step in zip(self.kernel, self.dilations, strict=True)]
        self.sizes = (max(self.sizes[0], reach[0]), max(self.sizes[1], reach[1]))
        self.largest = draw(st.sampled_from([3, 127]))
        self.zero = draw(st.sampled_from([0, 0, 3, -2]))

    @property
    def attributes(self) -> dict[str, Any]:
        before, after = self.pads[:2], self.pads[2:]
        return {
            "strides": self.strides, "dilations": self.dilations, "before": before, "after": after,
            "kernel": self.kernel, "channels": self.channels,
            "largest_x": self.largest, "largest_w": 1, "x_zero": self.zero,
        }  # fmt: skip

    def x(self) -> Array:
        shape = (self.batch, *self.sizes, self.channels)
        return self.random.integers(-self.largest, self.largest + 1, shape).astype(np.int8)

    def bits(self) -> Array:
        return pack_signs(self.random.random((*self.kernel, self.channels, self.outputs)) < 0.5)

    def reals(self, *shape: int) -> Array:
        return self.random.standard_normal(shape).astype(np.float32)


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    return Layer(draw)


@settings(max_examples=40)
@given(layer=layers(), per_channel=st.booleans(), bias=st.booleans(), start=st.booleans())
def test_sums_from_tables_are_the_same_to_the_bit(layer: Layer, per_channel: bool, bias: bool, start: bool) -> None:
    op = QuantizedConv(**layer.attributes)
    inputs = [
        layer.x(), layer.bits(), layer.reals(1).reshape(()), layer.reals(*(layer.outputs,) * per_channel),
        layer.reals(layer.outputs) if bias else None,
        layer.random.integers(-999, 999, layer.outputs).astype(np.int32) if start else None,
    ]  # fmt: skip
    assert_parity(op, inputs)


@settings(max_examples=40)
@given(layer=layers(), levels=st.sampled_from([1, 1, 2, 3, 3, 5]), most=st.sampled_from([60, 60, 520, 2**31 - 1]))
def test_codes_from_tables_are_the_same(layer: Layer, levels: int, most: int) -> None:
    """Thresholds that no sum reaches, or every one, among them."""
    thresholds = np.sort(layer.random.integers(-most, most + 1, (layer.outputs, levels)), axis=1).astype(np.int32)
    direction = layer.random.choice(np.array([-1, 1], np.int8), layer.outputs)
    assert_parity(QuantizedConvCodes(**layer.attributes), [layer.x(), layer.bits(), thresholds, direction])


@settings(max_examples=30)
@given(layer=layers(), per_sample=st.booleans())
def test_data_gradients_from_tables_are_the_same_to_the_bit(layer: Layer, per_sample: bool) -> None:
    attributes = {name: value for name, value in layer.attributes.items() if name not in ("largest_x", "x_zero")}
    op = QuantizedConvGradInput(**attributes, largest_g=layer.largest, sizes=layer.sizes)
    outputs = op.output_sizes(layer.sizes, layer.kernel)
    shape = (layer.batch, *outputs, layer.outputs)
    g = layer.random.integers(-layer.largest, layer.largest + 1, shape).astype(np.int8)
    scale = layer.reals(layer.batch) if per_sample else layer.reals(1).reshape(())
    assert_parity(op, [g, layer.bits(), scale, layer.reals(1).reshape(())])


def test_two_sums_share_a_word_up_to_the_last_that_fits() -> None:
    """All products are as large as they may be, of either sign."""
    random = np.random.default_rng(0)
    for channels in (28, 29):
        x = np.full((1, 5, 7, channels), 127, np.int8)
        x[0, 3:] = -127
        bits = pack_signs(random.random((3, 3, channels, 3)) < np.array([-1, 0.5, 2]))
        pads = ((1, 1), (1, 1), (1, 1), (1, 1))
        op = QuantizedConv(*pads, kernel=(3, 3), channels=channels, largest_x=127, largest_w=1)
        choice = op.form(*(one_type(value) for value in (x, bits)))
        assert choice is not None and choice.chosen.lanes == (2 if channels == 28 else 1)
        assert_parity(op, [x, bits, np.array(0.5, np.float32), np.array(0.25, np.float32)])


@pytest.mark.parametrize(("channels", "largest", "lanes"), [(56, 1, 3), (57, 1, 2), (14, 127, 2), (15, 127, 2)])
@pytest.mark.parametrize(("levels", "rows"), [(1, 7), (3, 4)])
def test_sums_become_codes_in_lanes_up_to_the_last_that_fits(
    channels: int, largest: int, lanes: int, levels: int, rows: int
) -> None:
    """Sums, and thresholds around them, as large as they may be; not every lane has a last row."""
    random = np.random.default_rng(0)
    x = np.full((1, rows, 7, channels), largest, np.int8)
    x[0, rows // 2 :] = -largest
    bits = pack_signs(random.random((3, 3, channels, 8)) < np.array([-1, 2, -1, 2, 0.5, 0.5, -1, 2]))
    most = 9 * channels * largest
    thresholds = most + np.array([[-2, 0, 1], [-1, 0, 1], [0, 1, 2**20], [-2 * most] * 3] * 2)
    pads = ((1, 1), (1, 1), (1, 1), (1, 1))
    op = QuantizedConvCodes(*pads, kernel=(3, 3), channels=channels, largest_x=largest, largest_w=1)
    direction = np.array([1, 1, 1, 1, -1, -1, -1, -1], np.int8)
    values = [x, bits, np.sort(thresholds, axis=1)[:, -levels:].astype(np.int32), direction]
    choice = op.form(*(one_type(value) for value in values))
    assert choice is not None and choice.chosen.lanes == lanes
    assert_parity(op, values)


def one_type(value: Array) -> TensorType:
    """The type of a value."""
    return TensorType(value.shape, str(value.dtype))


@pytest.mark.parametrize(
    ("change", "name", "why"),
    [
        ({}, "tables", "fewest instructions"),
        ({"height": 1, "width": 1, "kernel_h": 1, "kernel_w": 1, "pad_top": 0, "pad_left": 0,
          "pad_bottom": 0, "pad_right": 0}, "dense", "fewest"),
        ({"stride_h": 2, "stride_w": 2}, "tables", "fewest instructions"),
        ({"dilation_h": 2, "dilation_w": 2}, "tables", "fewest instructions"),
        ({"groups": 2}, "multiply", "2 groups"),
        ({"channels": 512, "out_channels": 2}, "multiply", "at most"),
        ({"channels": 1024}, "tables", "at most"),
    ],
)  # fmt: skip
def test_the_form_follows_from_shape_and_cost(change: dict[str, int], name: str, why: str) -> None:
    sizes = {
        "batch": 1, "height": 14, "width": 14, "channels": 16, "out_channels": 32, "kernel_h": 3, "kernel_w": 3,
        "pad_top": 1, "pad_left": 1, "pad_bottom": 1, "pad_right": 1,
    }  # fmt: skip
    choice = choose_form(ConvGeometry(**(sizes | change)), 127)
    assert choice.chosen.name == name and why in choice.why
    assert choice.chosen in choice.candidates
    least = min(form.scratch for form in choice.candidates)
    assert choice.chosen.scratch <= max(MOST_SCRATCH, least)


def test_wide_images_are_taken_in_strips() -> None:
    random = np.random.default_rng(0)
    x = random.integers(-127, 128, (1, 5, 300, 16)).astype(np.int8)
    bits = pack_signs(random.random((3, 3, 16, 2)) < 0.5)
    scale = np.array(0.5, np.float32)
    op = QuantizedConv((1, 1), (1, 1), (1, 1), (1, 1), kernel=(3, 3), channels=16, largest_w=1)
    choice = op.form(one_type(x), one_type(bits))
    assert choice is not None and choice.chosen.strip < 300
    assert kernels(op, [x, bits, scale, scale]) == ["et_conv_tables_i8"]
    assert_parity(op, [x, bits, scale, scale])


def test_plan_explains_the_forms_of_a_layer(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", "lenet", "--quant", "dorefa:w1a2g6", "--train", "all"]
    assert main([*arguments, "--explain", "/conv2", "--json"]) == 0
    functions = json.loads(capsys.readouterr().out)["functions"]
    assert "train_step" in functions
    for found in functions.values():
        chosen = [form for form in found["candidates"] if form["chosen"]]
        assert len(chosen) == 1 and "tables" in chosen[0]["form"] and found["why"]
        assert chosen[0]["instructions_per_mac"] == min(form["instructions_per_mac"] for form in found["candidates"])
    assert main([*arguments, "--explain", "/conv2"]) == 0
    assert "multiply" in capsys.readouterr().out


def test_tables_take_what_ram_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    """The more there is, the fewer instructions, and plan says why."""
    found = []
    for ram in ("32K", "60K"):
        arguments = ["plan", "mnist-cnn", "--quant", "dorefa:w1a2g6,all", "--no-build", "--ram", ram, "--json"]
        assert main(arguments) == 0
        assert json.loads(capsys.readouterr().out)["fits"]
        assert main([*arguments, "--explain", "/conv2"]) == 0
        form = json.loads(capsys.readouterr().out)["functions"]["infer"]
        assert "the memory that there is allows" in form["why"]
        found.append(next(each["instructions_per_mac"] for each in form["candidates"] if each["chosen"]))
    assert found[0] > found[1]


@pytest.mark.parametrize("node", ["/conv1", "nothing"])
def test_plan_says_which_layers_it_can_explain(node: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "lenet", "--quant", "dorefa:w1a2g6", "--explain", node]) == 2
    said = capsys.readouterr().err
    assert node in said and "hint:" in said and "/conv2" in said


def measured(layers: Layers, largest: int, levels: int) -> str:
    """3x3, 16 -> 32 channels at 14 x 14."""
    shared: dict[str, Any] = {"kernel": (3, 3), "channels": 16, "largest_x": largest, "largest_w": 1}
    low = 0 if largest < 127 else -largest
    x = layers.input(layers.random.integers(low, largest + 1, (1, 14, 14, 16)).astype(np.int8))
    pads = ((1, 1), (1, 1), (1, 1), (1, 1))
    thresholds = np.sort(layers.random.integers(-60, 60, (32, levels)), axis=1).astype(np.int32)
    return layers.add(QuantizedConvCodes(*pads, **shared), x, layers.bits(32, 9, 16), thresholds, np.ones(32, np.int8))


MACS = 14 * 14 * 32 * 9 * 16


@on_device
@pytest.mark.parametrize(("largest", "levels", "most"), [(127, 1, 0.47), (127, 3, 0.49), (3, 3, 0.36), (1, 1, 0.33)])
@pytest.mark.parametrize("compiler", [compiler.name for compiler in find_riscv_compilers()])
def test_instructions_per_multiply_accumulate(compiler: str, largest: int, levels: int, most: float) -> None:
    """Thresholds included; the outputs are compared with the reference too. gcc 12 needs a little more."""
    layers = Layers()
    graph = layers.finish(measured(layers, largest, levels))
    most += 0.015 if compiler == "gcc" else 0.0
    assert instructions(layers, graph, "rv32imac", compiler) <= most * MACS


@on_device
def test_dense_layers_are_the_same_to_the_bit_on_a_device() -> None:
    layers = Layers(1)
    op = QuantizedConv((1, 1), (1, 1), (0, 0), (0, 0), kernel=(1, 1), channels=301, largest_w=1)
    x = layers.input(layers.random.integers(-127, 128, (2, 1, 1, 301)).astype(np.int8))
    scale = np.array(0.5, np.float32)
    y = layers.add(op, x, layers.bits(17, 1, 301), scale, layers.random.random(17).astype(np.float32))
    assert instructions(layers, layers.finish(y), "rv32imac") > 0
