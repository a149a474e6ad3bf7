"""DoReFa-Net with int16 weights: layers, units and updates on integers, each op in C, whole nets everywhere."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.compilers import find_riscv_compilers
from tests.fixed import NAN, check, mantissas, scale
from toolkit.bench.rv32 import measure
from toolkit.errors import UserError
from toolkit.ir import TensorType
from toolkit.numerics.fixed_unit import Draw, odd_codes
from toolkit.ops.base import Run
from toolkit.ops.dorefa_activations import DorefaActivations
from toolkit.ops.fixed_conv import FixedConvGradWeight
from toolkit.ops.fixed_sign_conv import FixedSignConv, FixedSignConvGradInput
from toolkit.ops.fixed_signs import FixedSigns
from toolkit.ops.fixed_unit import FixedUnit
from toolkit.ops.signs import pack_signs
from toolkit.pipeline import Options, compile_model
from toolkit.quant import parse_plan
from toolkit.sim.parity import verify_bits
from toolkit.train.step import TrainingOptions


@settings(max_examples=40)
@given(
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)), kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 2)), before=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    after=st.tuples(st.integers(0, 2), st.integers(0, 2)), batch=st.integers(1, 3), channels=st.integers(1, 17),
    outputs=st.integers(1, 18), largest=st.sampled_from([1, 3, 63, 127]), zeros=st.sampled_from([0.0, 0.6, 0.9]),
    one_axis=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_convolutions_with_signs_are_the_same_in_c(
    sizes: Any, kernel: Any, strides: Any, before: Any, after: Any, batch: int, channels: int, outputs: int,
    largest: int, zeros: float, one_axis: bool, seed: int,
) -> None:  # fmt: skip
    axes = slice(1, 2) if one_axis else slice(0, 2)
    sizes = tuple(max(n, k) for n, k in zip(sizes, kernel, strict=True))[axes]
    kernel, strides, before, after = kernel[axes], strides[axes], before[axes], after[axes]
    ones = (1,) * len(sizes)
    signs = pack_signs(mantissas(seed + 1, *kernel, channels, outputs) >= 0)
    x, unit = mantissas(seed, batch, *sizes, channels, largest=largest), np.array(0.3, np.float32)
    shared = {"kernel": kernel, "channels": channels, "largest": largest}
    forward = FixedSignConv(strides, ones, before, after, **shared)
    sums = next(iter(check(forward, (x, signs, unit, scale(-9))).values()))
    g = mantissas(seed + 2, *sums.shape, largest=largest, zeros=zeros)
    check(FixedSignConvGradInput(strides, ones, before, after, sizes=sizes, **shared), (g, signs, unit, scale(-20)))
    few = FixedConvGradWeight(strides, ones, before, after, kernel=kernel, largest_x=largest, largest_g=largest)
    check(few, (x, g, unit, scale(-7)))


@settings(max_examples=10)
@given(rows=st.integers(1, 4), inputs=st.integers(1, 70), outputs=st.integers(1, 40), seed=st.integers(0, 99))
def test_dense_layers_with_signs_are_the_same_in_c(rows: int, inputs: int, outputs: int, seed: int) -> None:
    op = ((1, 1), (1, 1), (0, 0), (0, 0))
    signs = pack_signs(mantissas(seed + 1, 1, 1, inputs, outputs) >= 0)
    shared: dict[str, Any] = {"kernel": (1, 1), "channels": inputs, "largest": 63}
    x, g = (mantissas(seed, rows, 1, 1, size, largest=63) for size in (inputs, outputs))
    check(FixedSignConv(*op, **shared), (x, signs, scale(-5), scale(-9)))
    check(FixedSignConvGradInput(*op, sizes=(1, 1), **shared), (g, signs, scale(-20), NAN))


@settings(max_examples=20)
@given(
    taps=st.integers(1, 3), inputs=st.integers(1, 20), outputs=st.integers(1, 9),
    largest=st.sampled_from([0, 1, 32767]),
    exponent=st.integers(-30, 0), seed=st.integers(0, 99),
)  # fmt: skip
def test_signs_are_the_same_in_c(taps: int, inputs: int, outputs: int, largest: int, exponent: int, seed: int) -> None:
    w = np.random.default_rng(seed).integers(-largest, largest + 1, (taps, inputs, outputs)).astype(np.int16)
    check(FixedSigns(exponent), (w,))


def test_scale_of_signs_is_the_mean_magnitude() -> None:
    w = np.random.default_rng(1).integers(-32767, 32768, (3, 3, 8, 16)).astype(np.int16)
    _, mean = FixedSigns(-15).run(Run(), w)
    assert float(mean) == pytest.approx(np.abs(w.astype(float)).mean() * 2.0**-15, abs=2.0**-15)


@pytest.mark.parametrize("levels", [1, 3, 63])
def test_odd_codes_are_unbiased(levels: int) -> None:
    """The mean over many draws is the value, to four standard errors; ends stay where they are."""
    values = np.array([-1000, -999, -340, -1, 0, 1, 17, 500, 1000], np.int64)
    drawn = np.stack([odd_codes(values, levels, Draw(3, step, 9))[0] for step in range(4000)]).astype(float)
    largest = odd_codes(values, levels, Draw(3, 0, 9))[1]
    assert largest == 1000 and set(np.unique(drawn) % 2) == {1.0}
    assert np.abs(drawn).max() == levels
    real = drawn * largest / levels
    assert np.all(np.abs(real.mean(axis=0) - values) <= 4 * 1000 / levels / np.sqrt(4000) + 0.1)
    assert (drawn[:, 0] == -levels).all() and (drawn[:, -1] == levels).all()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_codes_of_units_are_those_of_activations(bits: int) -> None:
    """The same as DoReFa's quantizer on the real values, but for what the rounding of the unit moves over an edge."""
    random = np.random.default_rng(2)
    sums, a, b = random.integers(-3000, 3000, (1, 20, 20, 8)).astype(np.int32), *random.normal(0.5, 0.2, (2, 8))
    a, b = a.astype(np.float32), b.astype(np.float32)
    unit = np.array(0.00037, np.float32)
    codes, unit_of_codes = FixedUnit(levels=2**bits - 1).run(Run(), sums, unit, a, b)
    expected = DorefaActivations(bits).run(Run(), (sums * unit * a + b).astype(np.float32))
    expected = expected[0] if isinstance(expected, tuple) else expected
    assert float(unit_of_codes) == pytest.approx(1 / (2**bits - 1))
    difference = np.abs(codes.astype(int) - expected)
    assert difference.max() <= 1 and (difference != 0).mean() < 0.005


@pytest.mark.parametrize("method", ["dorefa:w1a2g6,master=int16", "dorefa:w1a1g4,all,master=int16"])
@pytest.mark.parametrize("batch_norm", ["batch", "running"])
def test_training_is_the_same_to_the_bit(method: str, batch_norm: str) -> None:
    training = TrainingOptions(batch_norm=batch_norm)
    compiled = compile_model("mnist-cnn", Options("all", training, quant=parse_plan(method)))
    report = verify_bits(compiled, ["reference", "host"], steps=3)
    assert report.differing_bits == 0, report.first_difference


def test_no_layer_meets_float32() -> None:
    """From the first layer's quantizer to the loss, and back, there is one real tensor: the output."""
    compiled = compile_model("mnist-cnn", Options("all", quant=parse_plan("dorefa:w1a2g6,master=int16")))
    graph = compiled.graphs["train_step"]
    large = [name for node in graph.nodes for name in node.outputs if name and _is_real_image(graph.type(name))]
    assert large == []


def _is_real_image(tensor: TensorType) -> bool:
    return tensor.dtype == "float32" and tensor.size > 64


def test_layers_of_several_groups_are_refused() -> None:
    with pytest.raises(UserError, match="one group"):
        compile_model("ds-cnn", Options("all", quant=parse_plan("dorefa:w1a2g6,master=int16")))


needs_emulator = [
    pytest.mark.emulator,
    pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed"),
    pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed"),
]


class TestOnRv32:
    pytestmark = needs_emulator

    @pytest.mark.parametrize("compiler", find_riscv_compilers(), ids=lambda compiler: str(compiler.name))
    @pytest.mark.parametrize(("method", "batch_norm", "most"), [
        ("dorefa:w1a2g6,master=int16", "running", 4.2),
        pytest.param("fixed8", "batch", 11.0, marks=pytest.mark.slow),
    ])  # fmt: skip
    def test_a_step_without_an_fpu_costs_few_instructions_per_forward_mac(
        self, method: str, batch_norm: str, most: float, compiler: Any
    ) -> None:
        """The whole net. Soft float takes about 400; the slack is for compilers of other versions."""
        _, row = measure("mnist-cnn", method, profile="rv32imac", compiler=compiler.name, batch_norm=batch_norm)
        assert row.instructions_per_forward_mac <= most
