"""Convolutions of int8 codes with packed signs by tables of signed sums: bits, cost, and which form is chosen."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.compilers import find_riscv_compilers
from tests.test_binary_on_rv32 import Layers
from tests.test_integer_convolutions import assert_parity, one_node
from toolkit.ir import Array
from toolkit.lower import Memory, lower_function
from toolkit.ops.base import Op
from toolkit.ops.quantized_conv import QuantizedConv
from toolkit.ops.quantized_conv_codes import QuantizedConvCodes
from toolkit.ops.signs import pack_signs

on_device = [
    pytest.mark.emulator,
    pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed"),
    pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed"),
]


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
        self.pads = draw(st.tuples(*[st.integers(0, 2)] * 4))
        self.sizes = draw(st.tuples(st.integers(4, 9), st.integers(4, 18)))
        self.batch = draw(st.integers(1, 2))
        if draw(st.integers(0, 4)) == 0:  # a dense layer
            self.kernel, self.sizes, self.pads = (1, 1), (1, 1), (0, 0, 0, 0)
            self.channels = draw(st.integers(1, 300))
        self.largest = draw(st.sampled_from([3, 127]))
        self.zero = draw(st.sampled_from([0, 0, 3, -2]))

    @property
    def attributes(self) -> dict[str, Any]:
        before, after = self.pads[:2], self.pads[2:]
        return {
            "strides": (1, 1), "dilations": (1, 1), "before": before, "after": after, "kernel": self.kernel,
            "channels": self.channels, "largest_x": self.largest, "largest_w": 1, "x_zero": self.zero,
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


@settings(max_examples=25)
@given(layer=layers(), levels=st.integers(1, 5))
def test_codes_from_tables_are_the_same(layer: Layer, levels: int) -> None:
    thresholds = np.sort(layer.random.integers(-60, 60, (layer.outputs, levels)), axis=1).astype(np.int32)
    direction = layer.random.choice(np.array([-1, 1], np.int8), layer.outputs)
    assert_parity(QuantizedConvCodes(**layer.attributes), [layer.x(), layer.bits(), thresholds, direction])


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
        assert_parity(op, [x, bits, np.float32([0.5]).reshape(()), np.float32([0.25]).reshape(())])


def one_type(value: Array) -> Any:
    from toolkit.ir import TensorType

    return TensorType(value.shape, str(value.dtype))


def layer_of_measurement(layers: Layers, largest: int, levels: int = 0) -> str:
    """3x3, 16 -> 32 channels at 14 x 14."""
    shared = {"kernel": (3, 3), "channels": 16, "largest_x": largest, "largest_w": 1}
    low = 0 if largest == 3 else -largest
    x = layers.input(layers.random.integers(low, largest + 1, (1, 14, 14, 16)).astype(np.int8))
    bits = layers.bits(32, 9, 16)
    pads = ((1, 1), (1, 1), (1, 1), (1, 1))
    if levels:
        thresholds = np.sort(layers.random.integers(-60, 60, (32, levels)), axis=1).astype(np.int32)
        return layers.add(QuantizedConvCodes(*pads, **shared), x, bits, thresholds, np.ones(32, np.int8))  # type: ignore[arg-type]
    scale = np.float32(0.5).reshape(())
    return layers.add(QuantizedConv(*pads, **shared), x, bits, scale, scale)  # type: ignore[arg-type]


MACS = 14 * 14 * 32 * 9 * 16
