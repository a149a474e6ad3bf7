"""MobileTL: the accounting of its paper, the same savings in our plans, its gradients, the same bits everywhere."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

from codegen.compilers import find_riscv_compilers
from tests.test_parity import compile_case
from toolkit.errors import UserError
from toolkit.frontend import load_model
from toolkit.ir import Array
from toolkit.pipeline import Compiled, Options, compile_model
from toolkit.quant import parse_plan
from toolkit.sim.backend import open_backend
from toolkit.sim.parity import random_samples, verify_bits
from toolkit.train.accounting import account_of, kept_for_backward
from toolkit.train.blocks import find_inverted_residuals
from toolkit.train.step import TrainingOptions
from toolkit.zoo.layers import Layers
from toolkit.zoo.mobilenets import Block, inverted_residual

ON_RV32 = pytest.mark.skipif(
    shutil.which("qemu-system-riscv32") is None or not find_riscv_compilers(), reason="no QEMU or compiler for RISC-V"
)
EXPANSION = 6


def stack(kind: str, channels: int, side: int, blocks: int, end: bool = False) -> Any:
    """A first convolution, blocks of MobileNetV2 or V3 of one shape, a classifier.

    Args:
        end: widen and activate before the classifier, as the whole networks do. Without that, no gradient of a single
            sample passes the last normalization: the mean of a normalized channel is its shift.
    """
    layers = Layers(kind, (3, side, side), 0)
    layers.conv(channels, 3, bias=False)
    layers.batch_norm()
    wide = EXPANSION * channels
    for _ in range(blocks):
        v2 = Block(wide, channels, 3, 1, 0, Layers.relu6)
        v3 = Block(wide, channels, 5, 1, max(8, wide // 4), Layers.hard_swish)
        inverted_residual(layers, v2 if kind == "v2" else v3)
    if end:
        layers.conv(2 * channels, 1, bias=False)
        layers.batch_norm()
        layers.hard_swish()
    layers.global_average_pool()
    layers.dense(10)
    return layers.finish()


def compiled(model: Any, train: str, **training: Any) -> Compiled:
    return compile_case(model, Options(train=train, training=TrainingOptions(**training)))


# The accounting of the paper


@pytest.mark.parametrize(("kind", "usual", "mobiletl", "percent"), [
    ("v2", 26.75, 14.375, 46.3), ("v3", 44.0, 20.375, 53.7),
])  # fmt: skip
@pytest.mark.parametrize(("channels", "side"), [(8, 16), (24, 7)])
def test_blocks_keep_what_the_paper_says(
    kind: str, usual: float, mobiletl: float, percent: float, channels: int, side: int
) -> None:
    graph = load_model(stack(kind, channels, side, 2))
    blocks = find_inverted_residuals(graph).blocks
    assert len(blocks) == 2
    for block in blocks:
        account = account_of(graph, block)
        floats = 32 * channels * side * side
        assert account.usual(vectors=False) == usual * floats
        assert account.mobiletl(vectors=False) == mobiletl * floats
        assert round(100 * account.saving(vectors=False), 1) == percent
        vectors = account.usual() - account.usual(vectors=False)
        assert vectors == account.mobiletl() - account.mobiletl(vectors=False)
        assert (vectors > 0) == (kind == "v3")


def test_a_block_that_narrows_the_image_is_counted_by_its_own_shapes() -> None:
    graph = load_model("mobilenetv2-96")
    block = next(b for b in find_inverted_residuals(graph).blocks if b.depthwise == "/conv5")
    # 8 channels of 48x48 in, widened to 48; the depthwise convolution halves the sides.
    inside, outside = 48 * 48, 24 * 24
    usual = 8 * inside + 48 * inside * (1 + 2 / 32 + 1) + 48 * outside * (1 + 2 / 32 + 1) + 8 * outside
    assert account_of(graph, block).usual() == 32 * usual


# What our plans keep


@pytest.mark.parametrize(("kind", "paper"), [("v2", 0.46), ("v3", 0.53)])
@pytest.mark.parametrize(("channels", "side", "blocks"), [(8, 16, 1), (16, 12, 3)])
def test_our_plans_save_what_the_paper_says_against_what_pytorch_keeps(
    kind: str, paper: float, channels: int, side: int, blocks: int
) -> None:
    model = stack(kind, channels, side, blocks)
    ways = {"pytorch": ("blocks", "pytorch"), "in place": ("blocks", "least"), "mobiletl": ("mobiletl", "least")}
    kept, peak = {}, {}
    for way, (scheme, save) in ways.items():
        function = compiled(model, f"{scheme}:{blocks}", save=save).program.functions["train_step"]
        kept[way] = sum(kept_for_backward(function).values())
        peak[way] = function.peak
    # PyTorch's ReLU6 keeps its input, unless it works in place, as in torchvision: we save as much even against that.
    assert kept["mobiletl"] <= (1 - paper) * kept["in place"] <= (1 - paper) * kept["pytorch"]
    assert peak["mobiletl"] <= 0.53 * peak["pytorch"]
    assert kept["in place"] == kept["pytorch"] if kind == "v3" else kept["in place"] < 0.7 * kept["pytorch"]


@pytest.mark.parametrize("scheme", ["mobiletl:2", "mobiletl:2:sign"])
def test_only_what_convolutions_and_last_normalizations_read_is_kept_and_masks(scheme: str) -> None:
    each = compiled(stack("v3", 8, 12, 3), scheme)
    graph, function = each.graphs["train_step"], each.program.functions["train_step"]
    blocks = find_inverted_residuals(load_model(stack("v3", 8, 12, 3))).blocks[1:]
    kept = kept_for_backward(function)
    nodes = {node.name: node for node in graph.nodes}
    for block in blocks:
        for activation in block.activations:
            x = nodes[activation].inputs[0]
            assert x is not None and function.storage[x] not in {  # the normalization's output is not kept
                name for name in kept if name.startswith("bn") and not name.startswith("bn1.")
            }
            assert kept[f"{activation}.mask.out"] == -(-graph.type(x).size // 8 // 4) * 4
    assert not any(node.op.name == "HardSwishGrad" for node in graph.nodes)
    assert sum(node.op.name == "BatchNormTraining" for node in graph.nodes) == len(blocks)


def test_saving_as_pytorch_changes_no_bit() -> None:
    model = stack("v2", 8, 6, 1)
    states = []
    for save in ("least", "pytorch"):
        each = compiled(model, "all", save=save)
        inputs, label = next(random_samples(each, 0))
        with open_backend(each, "reference") as backend:
            backend.train_step(inputs, label)
            states.append({name: value.tobytes() for name, value in backend.state().items()})
    assert states[0] == states[1]


def test_what_is_saved_has_two_ways() -> None:
    with pytest.raises(UserError, match="least, pytorch"):
        compiled(stack("v2", 8, 6, 1), "all", save="everything")


# Gradients


def weight_gradients(train: str, save: str = "least") -> dict[str, Array]:
    """Of a network of two V2 blocks with large values, so that ReLU6 clips at both ends: parameter -> its change."""
    each = compiled(stack("v2", 8, 6, 2), train, batch_norm="running", save=save)
    inputs, label = next(random_samples(each, 1))
    with open_backend(each, "reference") as backend:
        before = backend.state()
        assert backend.train_step([4 * x for x in inputs], label)[0] == "ET_OK"
        after = backend.state()
    return {name: after[name] - before[name] for name in each.trained}


def test_the_exact_mask_of_relu6_gives_the_gradients_of_training_as_usual() -> None:
    usual, masked = weight_gradients("blocks:2"), weight_gradients("mobiletl:2")
    assert set(masked) < set(usual)
    for name, change in masked.items():
        assert change.tobytes() == usual[name].tobytes(), name


def test_the_other_reading_lets_gradients_through_where_relu6_ends() -> None:
    exact, sign = weight_gradients("mobiletl:2"), weight_gradients("mobiletl:2:sign")
    assert set(exact) == set(sign)
    assert any(exact[name].tobytes() != sign[name].tobytes() for name in exact)
    assert exact["fc1.weight"].tobytes() == sign["fc1.weight"].tobytes()


def test_statistics_move_only_where_a_block_ends() -> None:
    each = compiled(stack("v3", 8, 6, 2), "mobiletl:1")
    moving = {name for name in each.graphs["train_step"].updates if "running" in name}
    assert moving == {"bn7.running_mean", "bn7.running_var"}
    assert {"bn5.bias", "bn6.bias", "bn7.bias", "bn7.weight"} == {name for name in each.trained if name[:2] == "bn"}


def test_mobiletl_learns() -> None:
    each = compiled(stack("v2", 8, 6, 2, end=True), "mobiletl:2")
    inputs, label = next(random_samples(each, 0))
    with open_backend(each, "host") as backend:
        backend.learning_rate = 0.1
        losses = [backend.train_step(inputs, label)[1] for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]


def test_quantized_blocks_are_refused() -> None:
    with pytest.raises(UserError, match="MobileTL goes with float32 blocks"):
        compile_model("mobilenetv2", Options(train="mobiletl:1", quant=parse_plan("dorefa:w1a2g6")))


# The same bits


@pytest.mark.parametrize("train", ["mobiletl:2", "mobiletl:1:sign"])
@pytest.mark.parametrize("kind", ["v2", "v3"])
def test_training_is_the_same_to_the_bit_on_host(kind: str, train: str) -> None:
    report = verify_bits(compiled(stack(kind, 8, 6, 2, end=True), train), ["reference", "host"], steps=2)
    assert report.differing_bits == 0, report.first_difference
    assert report.compared_bits > 0


@ON_RV32
@pytest.mark.emulator
@pytest.mark.parametrize("profile", ["rv32imafc", "rv32imac"])
def test_training_is_the_same_to_the_bit_on_rv32(profile: str) -> None:
    each = compile_case(stack("v3", 8, 6, 2, end=True), Options(train="mobiletl:2", fma=profile == "rv32imafc"))
    report = verify_bits(each, ["reference", "host", "qemu-rv32"], steps=1, profile=profile)
    assert report.differing_bits == 0, report.first_difference


# Against PyTorch


def torch_step(model: Any, trained: set[str], masked: set[str], x: Array, label: int) -> dict[str, Array]:
    """The gradients that PyTorch gives a model whose nodes are run one by one: parameter -> value, as ONNX has it.

    Args:
        trained: initializers. A normalization whose scale is not among them uses its running statistics.
        masked: hard-swish nodes whose gradient passes where the input is above 0.
    """
    import torch
    from onnx import numpy_helper
    from torch.nn import functional

    class Signed(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Any) -> Any:
            context.save_for_backward(x)
            return functional.hardswish(x)

        @staticmethod
        def backward(context: Any, dy: Any) -> Any:
            return dy * (context.saved_tensors[0] > 0)

    values = {t.name: torch.tensor(numpy_helper.to_array(t)) for t in model.graph.initializer}
    for name in trained:
        values[name].requires_grad_()
    values["input"] = torch.tensor(x)
    for node in model.graph.node:
        attributes = {a.name: a for a in node.attribute}
        first, *others = (values[name] for name in node.input)
        if node.op_type == "Conv":
            bias = others[1] if len(others) > 1 else None
            padding = attributes["pads"].ints[0]
            y = functional.conv2d(first, others[0], bias, padding=padding, groups=attributes["group"].i)
        elif node.op_type == "BatchNormalization":
            gamma, beta, mean, var = others
            of_batch = node.input[1] in trained
            y = functional.batch_norm(first, mean.clone(), var.clone(), gamma, beta, of_batch, 0.1, 1e-5)
        elif node.op_type == "HardSwish":
            y = Signed.apply(first) if node.name in masked else functional.hardswish(first)
        else:
            y = {
                "GlobalAveragePool": lambda a: a.mean((2, 3), keepdim=True), "Relu": torch.relu,
                "HardSigmoid": functional.hardsigmoid, "Mul": torch.mul, "Add": torch.add,
                "Flatten": lambda a: a.flatten(1), "Gemm": lambda a, w, b: functional.linear(a, w, b),
            }[node.op_type](first, *others)  # fmt: skip
        values[node.output[0]] = y
    functional.cross_entropy(values["output"], torch.tensor([label])).backward()
    return {name: values[name].grad.numpy() for name in trained}


@pytest.mark.oracle
def test_one_step_of_mobiletl_is_what_pytorch_gives_for_the_same_rules() -> None:
    pytest.importorskip("torch")
    model = stack("v3", 8, 8, 3, end=True)
    each = compiled(model, "mobiletl:2")
    blocks = find_inverted_residuals(load_model(model)).blocks[1:]
    inputs, label = next(random_samples(each, 5))
    assert label is not None
    with open_backend(each, "reference") as backend:
        before = backend.state()
        backend.learning_rate = 1.0
        assert backend.train_step(inputs, label)[0] == "ET_OK"
        after = backend.state()
    masked = {name for block in blocks for name in block.activations}
    x = each.model.interface[each.model.inputs[0]].outward(inputs[0])
    expected = torch_step(model, set(each.trained), masked, x, int(label.reshape(-1)[0]))
    largest: dict[str, float] = {}
    for name, origin in each.model.origins.items():
        if name in expected:
            wanted = expected[name].reshape(-1)[origin.index].reshape(before[name].shape)
            found = before[name] - after[name]
            assert np.abs(found - wanted).max() <= 2e-4 * np.abs(wanted).max() + 2e-7, name
            largest[name] = float(np.abs(wanted).max())
    assert set(largest) == set(each.trained)
    # The shift before another normalization has no gradient; all others have one worth comparing.
    assert sorted(largest.values())[1] > 5e-4
