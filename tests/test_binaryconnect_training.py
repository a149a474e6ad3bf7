"""BinaryConnect as a method: one step against PyTorch, initial weights, masters, inference, statistics, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegen.board import load_board
from codegen.compilers import find_riscv_compilers
from toolkit.cli import main
from toolkit.errors import UserError
from toolkit.ir import Array
from toolkit.ops.batch_normalization import BatchNormalization
from toolkit.pipeline import Compiled, Options, compile_model
from toolkit.quant import parse_plan
from toolkit.quant.binaryconnect import glorot, spread
from toolkit.sim.backend import open_backend
from toolkit.sim.parity import random_samples, verify_bits
from toolkit.sim.recalibrate import normalizations, recalibrate
from toolkit.sim.reference import run_graph
from toolkit.train.rules import rule_of
from toolkit.train.step import TrainingOptions

TRAINED = (
    "det", "stoch", "det,scale=one", "stoch,test=real", "stoch,test=real,master=q1.14", "det,master=q1.14",
    "stoch,scale=glorot", "det,plain-rate", "stoch,activations=int8", "stoch,master=float16",
)  # fmt: skip


def compiled(model: str, options: str, train: str = "all", optimizer: str = "sgd", **more: Any) -> Compiled:
    """A zoo model, quantized."""
    plan = parse_plan(f"binaryconnect:{options}")
    return compile_model(model, Options(train, TrainingOptions(optimizer=optimizer), quant=plan, **more))


def layer_weights(of: Compiled) -> list[str]:
    """Weights of layers, which are all of the parameters with a rule of their own."""
    return [name for name in of.model.parameters() if name in of.model.rules]


# ---- one set of bits


@pytest.mark.parametrize("options", TRAINED)
def test_training_is_the_same_to_the_bit_on_host(options: str) -> None:
    report = verify_bits(compiled("digits-cnn", options, batch=2), ["reference", "host"], steps=3)
    assert report.differing_bits == 0, report.first_difference
    assert report.compared_bits > 80_000


@pytest.mark.parametrize("optimizer", ["adam", "sgd:momentum=0.9,weight_decay=1e-4"])
def test_other_optimizers_are_the_same_to_the_bit_on_host(optimizer: str) -> None:
    for more in ({}, {"train": "last:1"}):
        report = verify_bits(compiled("small-resnet", "stoch", optimizer=optimizer, **more), ["reference", "host"], 2)
        assert report.differing_bits == 0, report.first_difference


@pytest.mark.parametrize(
    "options", ["det", "stoch", "stoch,test=real", "stoch,test=ensemble:3", "det,activations=int8"]
)
def test_inference_is_the_same_to_the_bit_on_host(options: str) -> None:
    report = verify_bits(compiled("small-resnet", options, "none"), ["reference", "host"], steps=2)
    assert report.differing_bits == 0, report.first_difference


@pytest.mark.emulator
@pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed")
@pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed")
@pytest.mark.parametrize("profile", ["rv32imafc", "rv32imac"])
@pytest.mark.parametrize("options", ["det", "stoch", "stoch,master=q1.14", "det,master=float16"])
def test_training_is_the_same_to_the_bit_on_rv32(options: str, profile: str) -> None:
    fma = load_board("qemu-rv32").with_profile(profile).fma
    model = compiled("digits-cnn", options, fma=fma)
    report = verify_bits(model, ["reference", "qemu-rv32"], steps=2, profile=profile)
    assert report.differing_bits == 0, report.first_difference


# ---- what is computed


@pytest.mark.parametrize("optimizer", ["sgd", "sgd:momentum=0.9", "adam"])
def test_a_step_is_that_of_pytorch(optimizer: str) -> None:
    """digits-cnn: sign weights of Glorot's magnitude in both passes; steps scaled, real weights clipped."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install edgetrain[oracle]")
    model = compiled("digits-cnn", "det", optimizer=optimizer, batch=4)
    names = layer_weights(model)
    start = {name: model.model.data[name] for name in model.model.parameters()}
    limits = {name: glorot(w.shape if w.ndim > 2 else (1, 1, *w.shape)) for name, w in start.items() if name in names}
    real = {name: torch.tensor(w, dtype=torch.float64, requires_grad=True) for name, w in start.items()}
    samples = random_samples(model, 0)
    rate = 0.02 if optimizer.startswith("sgd") else 0.005
    groups = list(real.values())
    momentum = 0.9 if "momentum" in optimizer else 0.0
    steps = torch.optim.Adam(groups, rate) if optimizer == "adam" else torch.optim.SGD(groups, rate, momentum)
    with open_backend(model, "reference") as backend:
        backend.learning_rate = rate
        for _ in range(2):
            (x,), label = next(samples)
            assert label is not None
            loss = _torch_loss(torch, real, limits, x, label)
            steps.zero_grad()
            loss.backward()
            before = {name: w.detach().clone() for name, w in real.items()}
            steps.step()
            for name, limit in limits.items():
                scale = limit / limit if optimizer == "adam" else 1.0  # H is Glorot's coefficient here: steps stay
                moved = before[name] + scale * (real[name].detach() - before[name])
                real[name].data = moved.clamp(-limit, limit)
            assert backend.train_step([x], label)[1] == pytest.approx(loss.item(), rel=1e-4)
        state = backend.state()
    for name, w in real.items():
        np.testing.assert_allclose(state[name], w.detach().numpy(), rtol=2e-3, atol=2e-5, err_msg=name)
        if name in limits:
            assert np.abs(state[name]).max() <= np.float32(limits[name])


def _torch_loss(torch: Any, real: dict[str, Any], limits: dict[str, float], x: Array, label: Array) -> Any:
    """Cross-entropy of digits-cnn, channels first inside; identity gradients through the signs."""
    functional = torch.nn.functional

    def binary(name: str) -> Any:
        w = real[name]
        signs = torch.where(w >= 0, 1.0, -1.0).to(w.dtype) * limits[name]
        return w + (signs - w).detach()

    weights = [name for name in real if name in limits]
    biases = [name for name in real if name not in limits]
    y = torch.tensor(x, dtype=torch.float64).permute(0, 3, 1, 2)
    for weight, bias in zip(weights[:2], biases[:2], strict=True):
        y = functional.conv2d(y, binary(weight).permute(3, 2, 0, 1), real[bias], padding=1)
        y = functional.max_pool2d(functional.relu(y), 2)
    y = y.permute(0, 2, 3, 1).flatten(1) @ binary(weights[2]) + real[biases[2]]
    return functional.cross_entropy(y, torch.tensor(label).long())


def test_steps_are_scaled_by_glorots_coefficient() -> None:
    """H is 1 in front of a batch normalization: 1 / G for Adam, its square for SGD. With H = G, steps stay."""
    for options, wanted in (("det", None), ("det,scale=glorot", 1.0), ("det,plain-rate", 1.0)):
        model = compiled("mnist-cnn", options).model
        for name in model.rules:
            rule, shape = model.rules[name], model.data[name].shape
            ratio = rule.limit / glorot(shape if len(shape) > 2 else (1, 1, *shape))
            expected = ratio if wanted is None else wanted
            assert rule.scale == pytest.approx(expected, rel=1e-6)
            assert rule.scale_sgd == pytest.approx(expected**2, rel=1e-6)
    limits = {rule.limit for rule in compiled("mnist-cnn", "det").model.rules.values()}
    assert 1.0 in limits and len(limits) == 2  # the last layer has no batch normalization behind it


def test_initial_weights_have_the_deviation_of_a_uniform_distribution() -> None:
    model, original = compiled("lenet", "det,scale=one"), compile_model("lenet", Options("all")).model
    for name in layer_weights(model):
        w = model.model.data[name]
        assert np.array_equal(w >= 0, original.data[name] >= 0)
        assert np.abs(w).max() <= 1
        assert w.std() == pytest.approx(1 / np.sqrt(3), rel=0.1)  # clipping takes some of it
    trained = np.random.default_rng(0).uniform(-1, 1, (3, 3, 8, 8)).astype(np.float32)
    assert spread(trained, 1.0) is trained


def test_weights_stay_within_their_limits_and_pile_up_there() -> None:
    model = compiled("digits-cnn", "stoch", optimizer="adam", batch=4)
    with open_backend(model, "host") as backend:
        backend.learning_rate = 0.05
        for _, (inputs, label) in zip(range(20), random_samples(model, 0), strict=False):
            assert label is not None and backend.train_step(inputs, label)[0] == "ET_OK"
        state = backend.state()
    for name in layer_weights(model):
        limit = model.model.rules[name].limit
        assert np.abs(state[name]).max() == np.float32(limit)


@pytest.mark.parametrize(("master", "dtype", "resolution"), [("q1.14", "int16", 2.0**-14), ("float16", "uint16", 2e-4)])
def test_masters_of_16_bits(master: str, dtype: str, resolution: float) -> None:
    """Half the RAM; what is exported is what they stand for."""
    full, half = (compiled("digits-cnn", options) for options in ("det", f"det,master={master}"))
    for name in layer_weights(half):
        stored = half.model.data[name]
        assert stored.dtype == dtype
        decoded = rule_of(half.model.rules, name).decode(stored)
        np.testing.assert_allclose(decoded, full.model.data[name], atol=resolution)
        rule = half.model.rules[name]
        assert (rule.low, rule.high) == (-rule.high, full.model.rules[name].limit)


def test_an_ensemble_is_the_mean_of_its_members() -> None:
    model = compiled("digits-cnn", "stoch,test=ensemble:4", "none")
    inputs, _ = next(random_samples(model, 0))
    values = run_graph(model.model, dict(zip(model.model.inputs, inputs, strict=True)))
    output = model.model.outputs[0]
    members = np.array([values[f"{output}.member{member}"] for member in range(4)])
    np.testing.assert_allclose(values[output], members.mean(axis=0), rtol=1e-5, atol=1e-6)
    assert len({member.tobytes() for member in members}) == 4


@pytest.mark.parametrize("options", ["det", "stoch,test=ensemble:2", "det,activations=int8"])
def test_frozen_sign_weights_are_bits_in_flash(options: str) -> None:
    """No weight of a layer is left as a number."""
    model = compiled("lenet", options, "none")
    weights = [buffer for buffer in model.program.flash if len(buffer.shape) > 1]
    assert weights and all(buffer.dtype == "uint8" for buffer in weights)
    whole = sum(value.size for value in compile_model("lenet", Options()).model.data.values() if value.ndim > 1)
    members = 2 if "ensemble" in options else 1
    assert whole / 8 <= sum(buffer.bytes for buffer in weights) / members < whole / 8 * 1.2


# ---- statistics of batch normalizations


def test_statistics_are_those_of_the_training_samples() -> None:
    model = compiled("small-resnet", "stoch", optimizer="adam", batch=8)
    x = np.random.default_rng(1).standard_normal((40, 3, 16, 16), np.float32)
    found = normalizations(model)
    first = next(node for node in model.model.nodes if isinstance(node.op, BatchNormalization))
    states = []
    for on in ("reference", "host", "host"):
        with open_backend(model, on) as backend:
            assert recalibrate(backend, x, 40, seed=3) == len(found) > 2
            states.append(backend.state())
            side = model.model.interface[model.model.inputs[0]]
            seen = []
            for start in range(0, 40, 8):
                values = run_graph(model.model, {model.model.inputs[0]: side.inward(x[start : start + 8])})
                seen.append(values[str(first.inputs[0])].reshape(-1, values[str(first.inputs[0])].shape[-1]))
    mean, variance = found[first.name]
    rows = np.concatenate(seen).astype(np.float64)
    np.testing.assert_allclose(states[0][mean], rows.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(states[0][variance], rows.var(axis=0), rtol=0.05)
    for other in states[1:]:
        assert all(np.array_equal(states[0][name], value) for name, value in other.items())


def test_train_compares_sign_weights_with_real_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    data, trained = tmp_path / "data.npz", tmp_path / "trained.onnx"
    np.savez(data, x=random.standard_normal((96, 3, 16, 16), np.float32), y=random.integers(0, 10, 96).astype(np.int32))
    arguments = ["train", "small-resnet", "--data", str(data), "--epochs", "1", "--optimizer", "adam", "--batch", "16"]
    quant = ["--quant", "binaryconnect:stoch"]
    assert main([*arguments, *quant, "-o", str(trained), "--json"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["recalibrated_batch_norms"] > 2
    assert set(outcome["accuracy_by_test_weights"]) == {"sign", "real"}
    assert outcome["accuracy_by_test_weights"]["sign"] == outcome["accuracy"]
    assert main([*arguments, *quant, "--recalibrate-batch-norm", "0"]) == 0
    assert "with real weights" in capsys.readouterr().out
    again = compile_model(trained, Options(quant=parse_plan("binaryconnect:stoch,test=real")))
    assert all(np.abs(value).max() <= 1 for name, value in again.model.data.items() if value.ndim == 4)
    assert main([*arguments, "--recalibrate-batch-norm", "32", "--json"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["recalibrated_batch_norms"] > 2 and not outcome["accuracy_by_test_weights"]


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ("det,test=real", "useless"),
        ("det,test=ensemble:4", "useless"),
        ("test=real", "useless"),
        ("det,stoch", "exclude"),
        ("stoch,test=ensemble:1", "no test"),
        ("stoch,test=mean", "no test"),
        ("scale=two", "no scale"),
        ("master=float8", "no master"),
        ("activations=int4", "no type of activations"),
        ("stoch,test=real,activations=int8", "go with sign weights"),
        ("stochastic", "not understood"),
        ("magnitude=1", "no option"),
    ],
)
def test_wrong_options_are_refused(options: str, what: str) -> None:
    with pytest.raises(UserError, match=what):
        parse_plan(f"binaryconnect:{options}")


def test_an_ensemble_is_not_trained() -> None:
    with pytest.raises(UserError, match="cannot be trained"):
        compiled("digits-cnn", "stoch,test=ensemble:2")


def test_masters_of_16_bits_need_plain_sgd() -> None:
    with pytest.raises(UserError, match="16 bits"):
        compiled("digits-cnn", "det,master=q1.14", optimizer="adam")
