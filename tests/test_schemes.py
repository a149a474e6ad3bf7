"""Update schemes: what they select, what they say of what they cannot read, and that their bits are the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.compilers import find_riscv_compilers
from codegen.program import Place
from tests.support import assert_parity, floats
from tests.test_parity import compile_case
from toolkit.errors import UserError
from toolkit.frontend import load_model
from toolkit.frontend.export import export_model
from toolkit.ops.adam import Adam
from toolkit.ops.sgd import Sgd
from toolkit.ops.take_channels import TakeChannels
from toolkit.ops.update_channels import UpdateChannels
from toolkit.pipeline import Compiled, Options, compile_model, load
from toolkit.quant import parse_plan
from toolkit.sim.backend import open_backend
from toolkit.sim.parity import random_samples, verify_bits
from toolkit.train.autodiff import tensors_with_gradient
from toolkit.train.blocks import find_blocks, find_inverted_residuals
from toolkit.train.schemes import read_scheme
from toolkit.train.step import TrainingOptions
from toolkit.zoo import build

WEIGHT_GRADIENTS = ("et_conv_update_f32", "et_conv_grad_weight_f32")
ON_RV32 = pytest.mark.skipif(
    shutil.which("qemu-system-riscv32") is None or not find_riscv_compilers(), reason="no QEMU or compiler for RISC-V"
)


def compiled(model: str, train: str, **training: object) -> Compiled:
    return compile_model(model, Options(train=train, training=TrainingOptions(**training)))  # type: ignore[arg-type]


# What schemes select


@pytest.mark.parametrize(("model", "inverted", "all_blocks"), [
    ("mobilenetv2", 17, 17), ("mobilenetv3-small", 11, 11), ("proxyless", 20, 20),
    ("resnet8-bn", 0, 3), ("resnet8", 0, 3), ("ab-net-cifar", 0, 5), ("ds-cnn-bn", 0, 0), ("mlp", 0, 0),
])  # fmt: skip
def test_blocks_are_found(model: str, inverted: int, all_blocks: int) -> None:
    graph = load_model(model)
    assert len(find_inverted_residuals(graph).blocks) == inverted
    assert len(find_blocks(graph)) == all_blocks


def test_an_inverted_residual_block_is_recognised_in_all_its_parts() -> None:
    last = find_inverted_residuals(load_model("mobilenetv3-small")).blocks[-1]
    assert (last.expand, last.depthwise, last.project) == ("/conv47", "/conv48", "/conv51")
    assert (last.norms, last.last_norm) == (("/bn31", "/bn32"), "/bn33")
    assert last.activations == ("/act16", "/act17")
    assert last.squeeze == ("/pool9", "/conv49", "/relu14", "/conv50", "/gate9", "/scale9")
    assert (last.input, last.add, last.output) == ("add8.out", "/add9", "add9.out")
    first = find_inverted_residuals(load_model("mobilenetv2")).blocks[0]
    assert first.expand is None and first.norms == ("/bn2",) and first.activations == ("/relu2",)


def test_blocks_of_a_scheme_are_the_last_ones_and_all_after_them() -> None:
    chosen = read_scheme(load("resnet8", Options()), "blocks:1").trained
    assert chosen == {f"{name}.{what}" for name in ("conv7", "conv8", "conv9", "fc1") for what in ("weight", "bias")}


def test_mobiletl_trains_all_but_the_scales_inside_blocks() -> None:
    graph = load("mobilenetv2", Options())
    blocks, mobiletl = (read_scheme(graph, f"{scheme}:2") for scheme in ("blocks", "mobiletl"))
    assert blocks.trained - mobiletl.trained == {f"bn{n}.weight" for n in (46, 47, 49, 50)}
    assert not mobiletl.trained - blocks.trained
    assert [block.depthwise for block in mobiletl.mobiletl] == ["/conv47", "/conv50"]


def test_light_leaves_out_the_layers_with_most_parameters() -> None:
    graph = load("lenet", Options())
    everything = read_scheme(graph, "all").trained
    assert everything - read_scheme(graph, "light:1").trained == {"fc1.weight", "fc1.bias"}
    assert everything - read_scheme(graph, "light:2").trained == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}
    assert read_scheme(graph, "light:4").trained == read_scheme(graph, "head").trained


@pytest.mark.parametrize(("scheme", "channels"), [
    ("conv2.weight@0.25", {"conv2.weight": (0, 1, 2, 3)}),
    ("conv2.weight@0.26", {"conv2.weight": (0, 1, 2, 3, 4)}),
    ("fc1.weight@0.1+conv2.weight@1", {"fc1.weight": (0,)}),
    ("layers:/conv2@0.1", {"conv2.weight": (0, 1)}),
    ("conv2.weight@0.1+conv2.weight@0.2", {"conv2.weight": (0, 1, 2, 3)}),
    ("conv2.weight@0.1+all", {}),
    ("layers:conv*.weight@0.125,fc1.weight", {"conv1.weight": (0,), "conv2.weight": (0, 1)}),
])  # fmt: skip
def test_ratios_pick_the_first_channels(scheme: str, channels: dict[str, tuple[int, ...]]) -> None:
    selection = read_scheme(load("cnn", Options()), scheme)
    assert selection.channels == channels
    assert set(channels) <= selection.trained


def test_a_tenth_of_thirty_channels_is_three() -> None:
    graph = load_model(build("mlp", classes=30))
    assert read_scheme(graph, "fc2.weight@0.1").channels == {"fc2.weight": (0, 1, 2)}


def test_ratios_by_norm_pick_the_channels_of_the_largest_weights() -> None:
    graph = load("cnn", Options())
    (picked,) = read_scheme(graph, "conv2.weight@0.25:norm").channels.values()
    norms = np.linalg.norm(graph.data["conv2.weight"].reshape(-1, 16).astype(np.float64), axis=0)
    assert len(picked) == 4
    assert min(norms[list(picked)]) >= max(np.delete(norms, picked))


@pytest.mark.parametrize(("model", "scheme", "says"), [
    ("cnn", "conv2.weight@0", "above 0 and at most 1"),
    ("cnn", "conv2.weight@1.01", "above 0 and at most 1"),
    ("cnn", "conv2.weight@-0.5", "above 0 and at most 1"),
    ("cnn", "conv2.weight@quarter", "not a ratio"),
    ("cnn", "conv2.weight@0.5:largest", "conv2.weight@0.5:norm"),
    ("cnn", "conf2.weight@0.5", "did you mean conv2.weight"),
    ("cnn", "layers:conv2.weights", "did you mean conv2.weight"),
    ("cnn", "conv2.weight", "did you mean layers:conv2.weight"),
    ("cnn", "block:1", "did you mean blocks:K"),
    ("cnn", "blocks:1", "no residual blocks"),
    ("cnn", "light:3", "only 2 layers below the last"),
    ("resnet8", "blocks:4", "only 3 blocks.*blocks:3"),
    ("mobilenetv2", "mobiletl:18", "only 17 blocks.*mobiletl:17"),
    ("mobilenetv2", "mobiletl:0", "unknown update scheme"),
    ("mobilenetv2", "mobiletl", "did you mean mobiletl:K"),
    ("mlp", "mobiletl:1", "no depthwise convolution.*1x1 convolution - normalization - activation"),
    ("ds-cnn-bn", "mobiletl:1", "/conv2: .*separable convolution.*looked for 1x1 convolution"),
])  # fmt: skip
def test_what_a_scheme_cannot_mean_is_said(model: str, scheme: str, says: str) -> None:
    with pytest.raises(UserError, match=f"(?s){says}") as error:
        read_scheme(load(model, Options()), scheme)
    assert error.value.hint


def test_a_ratio_of_a_quantized_weight_is_refused() -> None:
    with pytest.raises(UserError, match=r"conv2\.weight is quantized"):
        compile_model("cnn", Options(train="conv2.weight@0.5", quant=parse_plan("fp16:master=stored")))


# What is not trained costs nothing


@pytest.mark.parametrize(("model", "scheme"), [
    ("mobilenetv2", "head"), ("mobilenetv2", "blocks:1"), ("mobilenetv2", "mobiletl:2"), ("resnet8-bn", "last:2"),
    ("ds-cnn-bn", "layers:conv6.weight"), ("ds-cnn", "conv9.weight@0.25"), ("mobilenetv3-small", "mobiletl:1+head"),
])  # fmt: skip
def test_what_lies_below_the_lowest_trained_tensor_only_infers(model: str, scheme: str) -> None:
    compiled_model = compiled(model, scheme)
    graph = compiled_model.graphs["train_step"]
    reached = tensors_with_gradient(list(graph.nodes), compiled_model.trained)
    names = [node.name for node in graph.nodes]
    lowest = min(names.index(node.name) for node in graph.nodes if compiled_model.trained.intersection(node.inputs))
    entry = {name for node in graph.nodes[lowest:] for name in node.inputs if name is not None}
    below = {name for node in graph.nodes[:lowest] for name in node.outputs}
    assert not below & reached
    assert not any(node.op.name == "BatchNormalization" for node in graph.nodes[:lowest])  # folded
    # A residual way round the lowest layer, and its own input, are all that is read from below.
    assert len(entry & below) <= 2
    function = compiled_model.program.functions["train_step"]
    loss = next(i for i, step in enumerate(function.steps) if step.node == "loss")
    kept = {name for step in function.steps[loss:] for name in step.reads() if name in below}
    trained_below = {name for node in graph.nodes[lowest:] if node.name in {names[lowest]} for name in node.inputs}
    assert kept <= trained_below  # the input of the lowest trained layer, for the gradient of its weight


def test_biases_alone_keep_one_bit_for_each_activation_and_nothing_else() -> None:
    function = compiled("resnet8-bn", "bias").program.functions["train_step"]
    loss = next(i for i, step in enumerate(function.steps) if step.node == "loss")
    before = {name for step in function.steps[:loss] for name in step.writes()}
    kept = {name for step in function.steps[loss:] for name in step.reads() if name in before}
    arena = {name for name in kept if function.buffers[name].place is Place.ARENA}
    assert arena and all(name == "output" or name.endswith(".mask.out") for name in arena), arena


# Channel ratios


def test_the_trained_channels_get_the_bits_of_training_the_whole_weight_and_the_others_none() -> None:
    whole, part = compiled("cnn", "layers:conv2.weight"), compiled("cnn", "conv2.weight@0.3:norm")
    inputs, label = next(random_samples(whole, 3))
    picked = list(read_scheme(load("cnn", Options()), "conv2.weight@0.3:norm").channels["conv2.weight"])
    before = whole.graphs["infer"].data["conv2.weight"]
    after = []
    for each in (whole, part):
        with open_backend(each, "host") as backend:
            assert backend.train_step(inputs, label)[0] == "ET_OK"
            after.append(backend.state()["conv2.weight"])
    rest = [channel for channel in range(before.shape[-1]) if channel not in picked]
    assert after[1][..., picked].tobytes() == after[0][..., picked].tobytes() != before[..., picked].tobytes()
    assert after[1][..., rest].tobytes() == before[..., rest].tobytes()


def test_states_and_gradients_are_of_the_trained_channels_alone() -> None:
    program = compiled("resnet8", "conv7.weight@0.25", optimizer="sgd:momentum=0.9").program
    sizes = {buffer.name: buffer.shape for buffer in program.params}
    assert sizes == {"conv7.weight": (3, 3, 32, 64), "conv7.weight.velocity": (3, 3, 32, 16)}
    gradients = [b for b in program.functions["train_step"].buffers.values() if b.shape[:3] == (3, 3, 32)]
    assert max(b.shape[-1] for b in gradients if b.place is Place.ARENA) == 16
    whole, part = (
        sum(step.macs for step in each.functions["train_step"].steps if step.kernel in WEIGHT_GRADIENTS)
        for each in (compiled("resnet8", "layers:conv7.weight").program, program)
    )
    assert whole == 4 * part > 0


def test_export_gives_the_whole_weight(tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    each = compiled("cnn", "conv2.weight@0.25")
    inputs, label = next(random_samples(each, 0))
    with open_backend(each, "host") as backend:
        backend.train_step(inputs, label)
        state = backend.state()
    export_model("cnn", each.model, {name: state[name] for name in each.trained}, tmp_path / "trained.onnx")
    before, after = (
        {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}["conv2.weight"]
        for model in (build("cnn"), onnx.load(str(tmp_path / "trained.onnx")))
    )
    assert before.shape == after.shape
    changed = np.flatnonzero((before != after).reshape(16, -1).any(axis=1))
    assert changed.tolist() == [0, 1, 2, 3]


@st.composite
def picks(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape [..., C] and some of its channels."""
    shape = draw(st.lists(st.integers(1, 4), max_size=3).map(tuple))
    channels = draw(st.integers(1, 40))
    picked = draw(st.sets(st.integers(0, channels - 1), min_size=1))
    return (*shape, channels), tuple(sorted(picked))


@settings(max_examples=15)
@given(case=picks(), seed=st.integers(0, 99))
def test_channel_kernels_are_the_same_to_the_bit(case: tuple[tuple[int, ...], tuple[int, ...]], seed: int) -> None:
    shape, channels = case
    part = (*shape[:-1], len(channels))
    w, gradient, first = floats(seed, *shape), floats(seed + 1, *part), floats(seed + 2, *part)
    second, rate = np.abs(floats(seed + 3, *part)), np.float32(0.1).reshape(())
    assert_parity(TakeChannels(channels), [w])
    assert_parity(UpdateChannels(Sgd(weight_decay=0.01), channels), [w, gradient, rate], {0: 0})
    assert_parity(UpdateChannels(Sgd(0.9, nesterov=True), channels), [w, gradient, rate, first], {0: 0, 3: 1})
    powers = np.array([0.9, 0.99], np.float32)
    assert_parity(UpdateChannels(Adam(), channels), [w, gradient, rate, first, second, powers], {0: 0, 3: 1, 4: 2})


# The same bits everywhere

SCHEMES = [
    ("cnn", "conv2.weight@0.3+fc1.weight@0.5:norm", {"optimizer": "sgd:momentum=0.9"}),
    ("resnet8-bn", "blocks:1", {}),
    ("resnet8-bn", "light:3", {}),
    ("ds-cnn-bn", "bias+conv4.weight@0.25:norm+bn5.weight@0.3", {"optimizer": "adam"}),
    ("mobilenetv2", "mobiletl:2", {}),
    ("mobilenetv3-small", "mobiletl:1+conv40.weight@0.5", {"accumulate": 2}),
]


@pytest.mark.parametrize(("model", "scheme", "training"), SCHEMES)
def test_schemes_are_the_same_to_the_bit_on_host(model: str, scheme: str, training: dict[str, object]) -> None:
    image = (3, 16, 16) if model.startswith("mobilenet") else None
    options = Options(train=scheme, training=TrainingOptions(**training))  # type: ignore[arg-type]
    report = verify_bits(compile_case(build(model, image), options), ["reference", "host"], steps=2)
    assert report.differing_bits == 0, report.first_difference
    assert report.compared_bits > 0


@pytest.mark.parametrize("method", ["dorefa:w2a4g8,all", "fp16"])
def test_ratios_go_with_quantizers_that_keep_float32_weights(method: str) -> None:
    each = compile_model("cnn", Options(train="conv2.weight@0.5", quant=parse_plan(method)))
    assert any(step.kernel == "et_sgd_channels_f32" for step in each.program.functions["train_step"].steps)
    report = verify_bits(each, ["reference", "host"], steps=1)
    assert report.differing_bits == 0, report.first_difference


@ON_RV32
@pytest.mark.emulator
@pytest.mark.parametrize(("model", "scheme", "training"), SCHEMES[:1] + SCHEMES[3:4])
def test_schemes_are_the_same_to_the_bit_on_rv32(model: str, scheme: str, training: dict[str, object]) -> None:
    image = (3, 16, 16) if model.startswith("mobilenet") else None
    options = Options(train=scheme, fma=False, training=TrainingOptions(**training))  # type: ignore[arg-type]
    each = compile_case(build(model, image), options)
    report = verify_bits(each, ["reference", "qemu-rv32"], steps=1, profile="rv32imac")
    assert report.differing_bits == 0, report.first_difference
