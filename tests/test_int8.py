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
from toolkit.errors import UserError
from toolkit.ops.affine_codes import AffineQuantize
from toolkit.ops.quantized_conv import QuantizedConv
from toolkit.ops.quantized_conv_codes import QuantizedConvRequantized
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
