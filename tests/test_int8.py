"""int8 after training: the same bits everywhere, close to float, layers in a row on codes, errors that help."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.board import load_board
from codegen.compilers import find_riscv_compilers
from tests.quantized import samples
from tests.support import assert_parity
from toolkit.errors import UserError
from toolkit.ops.add import Add
from toolkit.ops.add_codes import AddCodes, multipliers
from toolkit.ops.affine_codes import AffineQuantize
from toolkit.ops.base import Run
from toolkit.ops.quantized_conv import QuantizedConv
from toolkit.ops.quantized_conv_codes import QuantizedConvRequantized
from toolkit.ops.rectified_layer import RectifiedLayer
from toolkit.ops.relu import Relu
from toolkit.pipeline import Compiled, Options, compile_model
from toolkit.quant import parse_plan
from toolkit.quant.calibration import CALIBRATIONS
from toolkit.sim.parity import verify_bits
from toolkit.sim.reference import run_graph


def compiled(model: str, method: str = "int8", **options: object) -> Compiled:
    given_options = Options(quant=parse_plan(method), samples=samples)
    return compile_model(model, replace(given_options, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("model", ["mnist-cnn", "lenet", "small-resnet", "mlp"])
@pytest.mark.parametrize("fma", [True, False])
def test_inference_is_the_same_to_the_bit_on_host(model: str, fma: bool) -> None:
    report = verify_bits(compiled(model, fma=fma), ["reference", "host"], steps=2)
    assert report.differing_bits == 0, report.first_difference
    assert report.compared_bits > 0


@pytest.mark.emulator
@pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed")
@pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed")
@pytest.mark.parametrize("profile", ["rv32imac", "rv32imafc"])
def test_inference_is_the_same_to_the_bit_on_rv32(profile: str) -> None:
    fma = load_board("qemu-rv32").with_profile(profile).fma
    report = verify_bits(compiled("mnist-cnn", fma=fma), ["reference", "qemu-rv32"], steps=1, profile=profile)
    assert report.differing_bits == 0, report.first_difference


@pytest.mark.parametrize("calibration", sorted(CALIBRATIONS))
@pytest.mark.parametrize("model", ["mnist-cnn", "small-resnet"])
def test_results_are_close_to_those_of_float(model: str, calibration: str) -> None:
    quantized, real = compiled(model, f"int8:calibration={calibration}"), compile_model(model, Options())
    (name,) = real.model.inputs
    x = samples(real.model.type(name))
    results = []
    for each in (quantized, real):
        batches = np.split(x, len(x) // each.model.type(name).shape[0])
        results.append(np.concatenate([run_graph(each.model, {name: part})[each.model.outputs[0]] for part in batches]))
    error = np.abs(results[0] - results[1]).max() / np.abs(results[1]).max()
    assert error < (0.05 if calibration == "minmax" else 0.15)


def test_layers_in_a_row_stay_in_int8() -> None:
    graph = compiled("mnist-cnn").model
    count = Counter(type(node.op) for node in graph.nodes)
    assert count[AffineQuantize] == 1  # the input of the model
    assert count[QuantizedConvRequantized] == 3
    assert count[QuantizedConv] == 1  # the last one gives float32
    assert count[Relu] == 0


def test_weights_take_a_quarter() -> None:
    def weights(made: Compiled) -> int:
        return sum(buffer.bytes for buffer in made.program.flash)

    assert weights(compiled("mnist-cnn")) < 0.27 * weights(compile_model("mnist-cnn", Options()))


def test_without_samples_the_error_names_the_option() -> None:
    with pytest.raises(UserError) as error:
        compile_model("mlp", Options(quant=parse_plan("int8")))
    assert "--calibrate" in str(error.value.hint)


def test_a_trained_layer_is_refused() -> None:
    with pytest.raises(UserError) as error:
        compiled("mlp", train="all")
    assert "trained" in str(error.value) and "fixed8" in str(error.value.hint)


# Residual additions


@settings(max_examples=25)
@given(st.integers(0, 1000), st.tuples(*[st.floats(1e-3, 50)] * 2), st.tuples(*[st.integers(-128, 127)] * 3))
def test_sums_of_codes_are_exact_and_the_same_to_the_bit(
    seed: int, ratios: tuple[float, float], zeros: tuple[int, int, int]
) -> None:
    factors = multipliers(*ratios)
    assert factors is not None
    a_factor, b_factor, shift = factors
    op = AddCodes(zeros[0], a_factor, zeros[1], b_factor, shift, zeros[2], low=-100)
    a, b = np.random.default_rng(seed).integers(-128, 128, (2, 3, 5, 7)).astype(np.int8)
    assert_parity(op, [a, b])
    exact = ratios[0] * (a.astype(float) - zeros[0]) + ratios[1] * (b.astype(float) - zeros[1]) + zeros[2]
    # Multipliers are off by half at most, of 2^-shift, and rounding adds a half.
    assert np.abs(op.run(Run(), a, b)[0] - np.clip(exact, -100, 127)).max() <= 0.5 + 255 * 2.0**-shift + 1e-9


def test_scales_that_differ_too_much_have_no_multipliers() -> None:
    assert multipliers(2.0**21, 1.0) is None


def test_residual_blocks_stay_in_int8() -> None:
    ops = [node.op for node in compiled("resnet8").model.nodes]
    count = Counter(map(type, ops))
    assert count[AffineQuantize] == 2  # the input, and what the averages give the last layer
    assert (count[AddCodes], count[Add], count[Relu]) == (2, 0, 0)
    # The last block's sum is averaged in float32: one kernel adds, and ends in the ReLU.
    assert [type(op.layer) for op in ops if isinstance(op, RectifiedLayer)] == [Add]


@pytest.mark.emulator
@pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed")
@pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed")
def test_training_above_residual_blocks_in_int8_is_the_same_to_the_bit_on_rv32() -> None:
    each = compiled("small-resnet", "int8:frozen", train="blocks:1", fma=False)
    assert any(isinstance(node.op, AddCodes | QuantizedConv) for node in each.graphs["train_step"].nodes)
    report = verify_bits(each, ["reference", "qemu-rv32"], steps=1, profile="rv32imac")
    assert report.differing_bits == 0, report.first_difference


def test_resnet8_trains_its_head_and_its_last_block_on_a_board_of_128_kib() -> None:
    schemes = ("head", "blocks:1")
    arena = {train: compiled("resnet8", "int8:frozen", train=train).program.arena_bytes for train in schemes}
    assert arena["head"] <= 50_000
    assert arena["blocks:1"] <= 128 * 1024
    assert compile_model("resnet8", Options(train="head")).program.arena_bytes == 128 * 1024


# What is frozen, below what is trained


@pytest.mark.parametrize(("model", "train"), [("small-resnet", "blocks:1"), ("mnist-cnn", "last:1")])
def test_training_above_frozen_int8_is_the_same_to_the_bit(model: str, train: str) -> None:
    each = compiled(model, "int8:frozen", train=train)
    nodes = each.graphs["train_step"].nodes
    assert any(isinstance(node.op, QuantizedConv | QuantizedConvRequantized) for node in nodes)
    report = verify_bits(each, ["reference", "host"], steps=2)
    assert report.differing_bits == 0, report.first_difference


def test_a_frozen_part_in_int8_leaves_what_is_trained_alone_and_takes_less_memory() -> None:
    whole, frozen = compile_model("mobilenetv2", Options(train="mobiletl:3")), compiled(
        "mobilenetv2", "int8:frozen", train="mobiletl:3"
    )
    assert frozen.trained == whole.trained
    assert frozen.program.params_bytes == whole.program.params_bytes
    assert frozen.program.arena_bytes < 0.5 * whole.program.arena_bytes
    assert frozen.program.flash_bytes < whole.program.flash_bytes


def test_frozen_needs_something_below_what_is_trained() -> None:
    with pytest.raises(UserError, match="no layer lies below"):
        compiled("mlp", "int8:frozen", train="all")


def test_an_unknown_calibration_is_refused() -> None:
    with pytest.raises(UserError) as error:
        parse_plan("int8:calibration=middle")
    assert "percentile" in str(error.value.hint)


def test_samples_to_calibrate_on_are_spread_over_all() -> None:
    every = Options(quant=parse_plan("int8"), samples=lambda _: np.concatenate([shown, shown]))
    shown = np.stack([np.full((1, 8, 8), level, np.float32) for level in (1, 2, 3, 4, 5, 6, 7, 8)])
    few = replace(every, quant=parse_plan("int8:samples=4"), samples=lambda _: shown)
    same = replace(every, samples=lambda _: shown[::2])

    found = [compile_model("digits-cnn", options).model for options in (few, same, every)]
    assert found[0].nodes == found[1].nodes != found[2].nodes
    with pytest.raises(UserError, match="less than no samples"):
        parse_plan("int8:samples=-1")


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_the_range_of_least_error_is_no_worse_than_the_widest(seed: int) -> None:
    values = (np.random.default_rng(seed).standard_t(3, 4000)).astype(np.float32)

    def error(low: float, high: float) -> float:
        scale = (high - low) / 255
        codes = np.clip(np.rint(values / scale), np.rint(low / scale), np.rint(high / scale))
        return float(np.sum((codes * scale - values.astype(np.float64)) ** 2))

    wide, narrow = CALIBRATIONS["minmax"](values), CALIBRATIONS["mse"](values)
    assert error(*narrow) <= error(*wide) * (1 + 1e-9)
    assert wide[0] <= CALIBRATIONS["percentile"](values)[0] <= CALIBRATIONS["percentile"](values)[1] <= wide[1]
