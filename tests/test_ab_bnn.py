"""A&B BNN: what the rewrite makes of a network, how it trains, what survives in the file; the same bits everywhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.board import load_board
from codegen.compilers import find_riscv_compilers
from tests.op_cases import Case
from toolkit.cli import main
from toolkit.errors import UserError
from toolkit.frontend.export import export_model
from toolkit.frontend.load import load_model
from toolkit.ir import SAVED, Graph
from toolkit.ops.batch_normalization import BatchNormalization
from toolkit.ops.binarize_activations import BinarizeActivations
from toolkit.ops.binary_conv import BinaryConv
from toolkit.ops.clip_by_unit import ClipByUnit
from toolkit.ops.fuse_bias import fuse_bias
from toolkit.ops.nearest_power_of_two import NearestPowerOfTwo
from toolkit.ops.power_prelu import PowerPRelu
from toolkit.ops.relu import Relu
from toolkit.ops.stream_block import StreamBlock, StreamProjection
from toolkit.pipeline import Compiled, Options, compile_graph, compile_model
from toolkit.quant import parse_plan
from toolkit.sim.backend import open_backend
from toolkit.sim.distill import soft_labels
from toolkit.sim.parity import verify_bits
from toolkit.sim.reference import ReferenceBackend
from toolkit.train.step import TrainingOptions


def compiled(model: Any, quant: str, train: str = "all", **options: Any) -> Compiled:
    """A model with a method; `model` is a name of the zoo, a path, or an ONNX model."""
    chosen = Options(train=train, quant=parse_plan(quant), **options)
    if isinstance(model, str | Path):
        return compile_model(model, chosen)
    return compile_graph(fuse_bias(load_model(model)), chosen, "case")


def ops(graph: Graph, kind: type) -> list[Any]:
    """The ops of a kind, in order."""
    return [node.op for node in graph.nodes if isinstance(node.op, kind)]


# ---- what the rewrite makes


def test_a_block_is_signs_sums_scale_shortcut_shift_slope_shift() -> None:
    graph = compiled("ab-net", "ab-bnn").model
    chain = [node for node in graph.nodes if node.name.split(".")[0] == "/conv3"]
    names = [node.op.name for node in chain if not node.name.endswith((".weights", ".magnitude", ".scale"))]
    assert names == ["BinarizeActivations", "BinaryConv", "ToReal", "Mul", "Add", "Add", "PowerPRelu", "Add"]
    assert len(ops(graph, BinaryConv)) == 3 and not ops(graph, Relu)


def test_variance_is_tracked_along_shortcuts_and_starts_anew_behind_a_projection() -> None:
    betas = [op.beta for op in ops(compiled("ab-net", "ab-bnn").model, BinarizeActivations)]
    assert betas == [1.0, pytest.approx(1 / np.sqrt(1.0625)), 1.0]
    deeper = [op.beta for op in ops(compiled("ab-net-cifar", "ab-bnn").model, BinarizeActivations)]
    assert deeper == [1.0, *[pytest.approx(1 / np.sqrt(1.0625)), 1.0] * 2]
    assert {op.beta for op in ops(compiled("lenet", "ab-bnn").model, BinarizeActivations)} == {1.0}


def test_a_relu_in_front_of_signs_is_dropped() -> None:
    graph = compiled("lenet", "ab-bnn").model  # conv1, kept real, is followed by a Relu
    assert not ops(graph, Relu) and len(ops(graph, PowerPRelu)) == 3


def test_batch_normalization_becomes_gain_and_shift() -> None:
    plain = load_model("resnet8-bn")
    graph = compiled("resnet8-bn", "ab-bnn").model
    assert len(ops(plain, BatchNormalization)) == 9 and len(ops(graph, BatchNormalization)) == 1  # the stem's
    assert np.array_equal(graph.data["/conv3.gain"], np.abs(plain.data["bn3.weight"]))
    assert np.array_equal(graph.data["/conv3.b1"], plain.data["bn3.bias"])
    with_projection = plain.data["bn5.bias"] + plain.data["bn6.bias"]
    assert np.array_equal(graph.data["/conv5.b1"], with_projection) and "/conv6.b1" not in graph.data


def test_batch_normalization_elsewhere_is_refused() -> None:
    case = Case((1, 4, 6, 6), 1)
    first = case.node("Conv", "x", case.weight(4, 4, 1, 1))
    second = case.node("Conv", first, case.weight(4, 4, 3, 3), pads=[1, 1, 1, 1])
    case.node("Add", first, second)
    case.node("BatchNormalization", case.current, *(case.weight(4, low=0.5) for _ in range(4)))
    with pytest.raises(UserError, match="does not follow a layer directly"):
        compiled(case.model(), "ab-bnn")


def test_layers_with_groups_stay_real() -> None:
    graph = compiled("ds-cnn-bn", "ab-bnn").model
    assert len(ops(graph, BinaryConv)) == 4
    with pytest.raises(UserError, match="groups"):
        case = Case((1, 4, 6, 6), 1)
        case.node("Conv", "x", case.weight(4, 1, 3, 3), group=4)
        case.node("Conv", case.current, case.weight(4, 1, 3, 3), group=4)
        compiled(case.model(), "ab-bnn")


@pytest.mark.parametrize("text", ["ab-bnn:step=3", "ab-bnn:clip=-1", "ab-bnn:strict=1", "ab-bnn:bits=2"])
def test_wrong_options_are_the_users_errors(text: str) -> None:
    with pytest.raises(UserError):
        parse_plan(text)


def test_strict_scales_are_powers_of_two() -> None:
    graph = compiled("ab-net", "ab-bnn:strict", train="none").model
    scaled = [*ops(graph, StreamBlock), *ops(graph, StreamProjection)]
    assert len(scaled) == 4 and all(op.strict for op in scaled)  # three blocks and a projection
    assert ops(compiled("ab-net", "ab-bnn:strict").graphs["train_step"], NearestPowerOfTwo)


def test_gradients_of_all_weights_but_the_last_are_clipped() -> None:
    assert len(ops(compiled("ab-net", "ab-bnn").graphs["train_step"], ClipByUnit)) == 5
    assert not ops(compiled("ab-net", "ab-bnn:clip=0").graphs["train_step"], ClipByUnit)


# ---- training


def _torch_ab_net(library: Any, p: dict[str, Any], x: Any, binary: bool) -> Any:
    """ab-net as PyTorch computes it; p holds the parameters in the graph's layout, weights HWIO."""
    functional = library.nn.functional

    def signs(z: Any) -> Any:
        smooth = 2 * library.sigmoid(3 * z)
        return smooth + (library.where(z >= 0, 1.0, -1.0) - smooth).detach()

    def weights(name: str, real: bool) -> Any:
        w = p[f"{name.strip('/')}.weight"].permute(3, 2, 0, 1)
        axes = (1, 2, 3)
        ws = (w - w.mean(axes, keepdim=True)) / (w.std(axes, keepdim=True, unbiased=False) + 1e-5)
        gain = p[f"{name}.gain"][:, None, None, None] * (1.7 / np.sqrt(w[0].numel()))
        if real:
            return ws * gain
        passed = library.where(ws.abs() <= 1, ws, ws.detach())
        chosen = passed + (library.where(ws >= 0, 1.0, -1.0) - passed).detach()
        return chosen * gain * ws.abs().mean(axes, keepdim=True).detach()

    def channels(name: str) -> Any:
        return p[name][:, None, None]

    def block(x: Any, name: str, stride: int, beta: float, shortcut: Any) -> Any:
        u = signs(beta * x + channels(f"{name}.b0"))
        padded = functional.pad(u, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        h = 0.25 * functional.conv2d(padded, weights(name, not binary), stride=stride) + shortcut
        h = h + channels(f"{name}.b1")
        exponent = channels(f"{name}.L")
        rounded = exponent + (library.round(exponent) - exponent).detach()
        return library.where(h >= 0, h, h * 2.0**rounded) + channels(f"{name}.b2")

    x = functional.avg_pool2d(functional.conv2d(x, weights("/conv1", True), p["conv1.bias"], padding=1), 2)
    x = block(x, "/conv2", 1, 1.0, x)
    x = block(x, "/conv3", 2, 1 / np.sqrt(1.0625), functional.conv2d(
        functional.avg_pool2d(x, 2), weights("/conv4", not binary)))  # fmt: skip
    x = block(x, "/conv5", 1, 1.0, x)
    return x.permute(0, 2, 3, 1).flatten(1) @ p["fc1.weight"] + p["fc1.bias"]


@pytest.mark.oracle
@pytest.mark.parametrize("step", [1, 2])
def test_a_training_step_is_that_of_pytorch(step: int) -> None:
    library = pytest.importorskip("torch", reason="PyTorch is not installed: pip install edgetrain[oracle]")
    model = compiled("ab-net", f"ab-bnn:step={step},clip=0", batch=4)
    random = np.random.default_rng(5)
    x, label = random.standard_normal((4, 28, 28, 1)).astype(np.float32), np.array([1, 7, 3, 0], np.int32)
    with open_backend(model, "host") as backend:
        backend.learning_rate = 1.0
        before = backend.state()
        for name, value in before.items():  # no zeros and ones, so that every parameter matters
            before[name] = value + (random.standard_normal(value.shape) * 0.1).astype(np.float32)
        backend.set_state(before)
        status, loss = backend.train_step([x], label)
        after = backend.state()
    p = {name: library.tensor(value.astype(np.float64), requires_grad=True) for name, value in before.items()}
    wanted = _torch_ab_net(library, p, library.tensor(x.astype(np.float64)).permute(0, 3, 1, 2), step == 2)
    wanted = library.nn.functional.cross_entropy(wanted, library.tensor(label.astype(np.int64)))
    wanted.backward()
    assert status == "ET_OK" and abs(wanted.item() - loss) < 1e-3 * loss
    for name, tensor in p.items():
        expected, found = tensor.grad.numpy(), before[name] - after[name]
        assert np.max(np.abs(expected - found)) < 2e-3 * np.max(np.abs(expected)) + 1e-5, name


def test_two_steps_of_training_share_their_parameters(tmp_path: Path) -> None:
    first = compiled("ab-net", "ab-bnn:step=1", batch=4, training=TrainingOptions(optimizer="adam"))
    random = np.random.default_rng(1)
    x, label = random.standard_normal((4, 28, 28, 1)).astype(np.float32), np.array([1, 7, 3, 0], np.int32)
    with open_backend(first, "host") as backend:
        for _ in range(3):
            assert backend.train_step([x], label)[0] == "ET_OK"
        state, outputs = backend.state(), backend.infer([x])
    export_model("ab-net", first.model, state, tmp_path / "a.onnx")

    again = compiled(tmp_path / "a.onnx", "ab-bnn:step=1", batch=4)
    second = compiled(tmp_path / "a.onnx", "ab-bnn", batch=4)
    assert set(again.trained) == set(second.trained) == set(first.trained)
    for name in first.trained:
        assert np.array_equal(again.model.data[name], state[name]), name
        assert np.array_equal(second.model.data[name], state[name]), name
    assert np.array_equal(ReferenceBackend(again).infer([x])[0], outputs[0])
    assert not np.array_equal(state["/conv3.L"], np.full(32, -3, np.float32))

    export_model(tmp_path / "a.onnx", second.model, ReferenceBackend(second).state(), tmp_path / "b.onnx")
    saved = [name for name in load_model(tmp_path / "b.onnx").data if name.startswith(SAVED)]
    assert sorted(saved) == sorted(SAVED + name for name in first.trained if name.startswith("/"))
    without = compile_model(tmp_path / "a.onnx", Options())
    assert not any(name.startswith(SAVED) for name in without.model.data)


def test_frozen_binary_layers_are_packed_when_compiling() -> None:
    model = compiled("ab-net", "ab-bnn", train="last:1")
    assert set(model.trained) == {"fc1.weight", "fc1.bias"}
    flash = sum(buffer.bytes for buffer in model.program.flash if buffer.name.startswith(("/conv", "conv")))
    assert flash < 8_000  # of 66,560 in float32; the projection keeps its signs as numbers


def test_a_teacher_gives_probabilities() -> None:
    x = np.random.default_rng(0).standard_normal((5, 1, 8, 8)).astype(np.float32)
    labels = soft_labels("digits-cnn", x, (10,))
    assert labels.shape == (5, 10) and np.allclose(labels.sum(1), 1, atol=1e-6) and np.all(labels > 0)
    assert np.array_equal(labels, soft_labels("digits-cnn", x, (10,)))
    with pytest.raises(UserError, match="the teacher makes 10 of 1x28x28"):
        soft_labels("cnn", x, (10,))


def test_the_command_line_trains_in_two_steps_with_a_teacher(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 10, 320)
    x = random.random((320, 1, 8, 8)).astype(np.float32) * np.float32(0.1)
    x[np.arange(320), 0, 2 + y // 5, 1 + y % 5] = 1
    np.savez(tmp_path / "data.npz", x=x, y=y)

    def train(model: str, output: str, *more: str) -> tuple[int, dict[str, Any]]:
        command = ["train", model, "--data", str(tmp_path / "data.npz"), "-o", str(tmp_path / output)]
        code = main([*command, "--optimizer", "adam", "--epochs", "10", *more, "--json"])
        return code, json.loads(capsys.readouterr().out or "{}")

    assert train("digits-cnn", "teacher.onnx")[0] == 0
    by_teacher = ("--teacher", str(tmp_path / "teacher.onnx"))
    first = train("digits-cnn", "a.onnx", "--quant", "ab-bnn:step=1", *by_teacher)
    second = train(str(tmp_path / "a.onnx"), "b.onnx", "--quant", "ab-bnn:strict", *by_teacher)
    assert first[0] == second[0] == 0 and second[1]["teacher"].endswith("teacher.onnx")
    assert second[1]["accuracy"] > 0.9
    assert train("digits-cnn", "c.onnx", "--loss", "mse", *by_teacher)[0] == 2


# ---- the same bits everywhere


@st.composite
def networks(draw: st.DrawFn) -> Any:
    """A layer that stays real, then binary ones: any window, with a shortcut, pool or bias here and there."""
    n, c = draw(st.integers(1, 2)), draw(st.sampled_from([1, 3, 8, 9, 33]))
    case = Case((n, 2, draw(st.integers(4, 8)), draw(st.integers(4, 8))), draw(st.integers(0, 99)))
    entry = case.node("Conv", "x", case.weight(c, 2, 1, 1))
    if draw(st.booleans()):
        main = case.node("Conv", entry, case.weight(c, c, 3, 3), case.weight(c), pads=[1, 1, 1, 1])
        case.node("Add", *draw(st.permutations([entry, main])))
        case.node("Relu", case.current)
    kernel, strides = draw(st.sampled_from([[1, 1], [3, 3], [2, 3]])), [draw(st.integers(1, 2)), 1]
    outputs = draw(st.sampled_from([1, 5, 17]))
    pads = [draw(st.integers(0, k - 1)) for k in kernel * 2]
    bias = [case.weight(outputs)] if draw(st.booleans()) else []
    case.node("Conv", case.current, case.weight(outputs, c, *kernel), *bias, strides=strides, pads=pads)
    if draw(st.booleans()):
        case.node("Relu", case.current)
        case.node("MaxPool", case.current, kernel_shape=[2, 2], strides=[1, 1])
    return case.model()


METHODS = st.sampled_from(["ab-bnn", "ab-bnn:strict", "ab-bnn:step=1", "ab-bnn:strict,all"])


@settings(max_examples=12)
@given(model=networks(), method=METHODS, fma=st.booleans())
def test_training_is_the_same_to_the_bit_on_host(model: Any, method: str, fma: bool) -> None:
    report = verify_bits(compiled(model, method, fma=fma), ["reference", "host"], steps=2)
    assert report.differing_bits == 0, report.first_difference


@pytest.mark.emulator
@pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed")
@pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed")
@pytest.mark.parametrize("profile", ["rv32imafc", "rv32imac"])
@pytest.mark.parametrize("method", ["ab-bnn", "ab-bnn:strict"])
def test_training_is_the_same_to_the_bit_on_rv32(profile: str, method: str) -> None:
    @settings(max_examples=1)
    @given(model=networks())
    def check(model: Any) -> None:
        fma = load_board("qemu-rv32").with_profile(profile).fma
        report = verify_bits(compiled(model, method, fma=fma), ["reference", "qemu-rv32"], steps=2, profile=profile)
        assert report.differing_bits == 0, report.first_difference

    check()
