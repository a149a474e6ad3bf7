"""Saved-tensor codecs: the same bits everywhere; what is exact is exact; planned bytes fall as they should."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.compilers import find_riscv_compilers
from tests.op_cases import Case
from tests.support import SPECIAL, assert_parity, assert_same_bits, floats, floats_with_special, shapes
from tests.test_parity import compile_case
from toolkit.errors import UserError
from toolkit.ir import Array, Graph
from toolkit.ops.activation_mask import ActivationMask, MaskedGradient, pack_codes, unpack_codes
from toolkit.ops.affine_range import DecodeRange, EncodeRange
from toolkit.ops.base import Run
from toolkit.ops.gelu import GeluGrad
from toolkit.ops.hard_swish import HardSwishGrad
from toolkit.ops.sigmoid import SigmoidGrad
from toolkit.ops.swish import Swish, SwishGrad
from toolkit.ops.tanh import TanhGrad
from toolkit.pipeline import Compiled, Options, compile_model, describe
from toolkit.sim.parity import random_samples, verify_bits
from toolkit.sim.reference import ReferenceBackend
from toolkit.train.codecs import parse_save
from toolkit.train.codecs.approx_bp import TABLES
from toolkit.train.codecs.few_bit import EVEN, FUNCTIONS, RANGE, nearest_pieces
from toolkit.train.codecs.mask import exact_steps, few_steps
from toolkit.train.codecs.saved import Step

SMALL = settings(max_examples=12)
EMULATED = [
    pytest.mark.emulator,
    pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed"),
    pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed"),
]
ALL = ["mask:2", "/relu*=mask:helu", "fp16", "bf16", "int8", "*=recompute"]


def compiled(model: str, save: str = "", train: str = "all") -> Compiled:
    return compile_model(model, Options(train=train, save=parse_save(save)))


def step_of(each: Compiled) -> Graph:
    return each.graphs["train_step"]


def after_one_step(each: Compiled) -> dict[str, Array]:
    """Weights and states after a training step on a random sample."""
    inputs, label = next(random_samples(each, 5))
    assert label is not None
    reference = ReferenceBackend(each)
    assert reference.train_step(inputs, label)[0] == "ET_OK"
    return reference.state()


# ---- masks


@st.composite
def masks(draw: st.DrawFn) -> ActivationMask:
    bits = draw(st.integers(1, 4))
    borders = sorted(draw(st.lists(st.sampled_from([-3.0, -0.5, 0.0, 1e-45, 0.7, 3.0, 6.0]), min_size=1, unique=True)))
    codes = draw(st.lists(st.integers(0, 2**bits - 1), min_size=len(borders) + 1, max_size=len(borders) + 1))
    return ActivationMask(bits, tuple(borders), tuple(codes))


@SMALL
@given(shape=shapes(max_side=7), seed=st.integers(0, 99), mask=masks())
def test_masks_are_the_same_in_c(shape: tuple[int, ...], seed: int, mask: ActivationMask) -> None:
    assert_parity(mask, [floats_with_special(seed, *shape)])


@SMALL
@given(shape=shapes(max_side=7), seed=st.integers(0, 99), bits=st.integers(1, 4))
def test_masked_gradients_are_the_same_in_c(shape: tuple[int, ...], seed: int, bits: int) -> None:
    random = np.random.default_rng(seed)
    codes = random.integers(0, 2**bits, shape)
    assert np.array_equal(unpack_codes(pack_codes(codes, bits), bits, shape), codes)
    factors = tuple(random.choice([0.0, 1.0, -0.5, 0.3], 2**bits).tolist())
    assert_parity(MaskedGradient(factors), [floats_with_special(seed, *shape), pack_codes(codes, bits)])
    assert_parity(MaskedGradient((0.0, 1.0)), [floats(seed, *shape), pack_codes(codes & 1, 1)])


def model_with(op: str, inputs: tuple[float, ...] = (), seed: int = 0, **attributes: Any) -> Any:
    """An activation between a convolution and a mean: nothing else asks for its output."""
    case = Case((1, 3, 5, 4), seed, 24 if op in ("Gelu", "Swish") else 17)
    case.node("Conv", "x", case.weight(5, 3, 1, 1), case.weight(5))
    case.node(op, case.current, *(case.array(value, np.float32) for value in inputs), **attributes)
    case.node("GlobalAveragePool", case.current)
    return case.model()


STRAIGHT = {
    "ReLU": ("Relu", (), {}),
    "LeakyReLU": ("LeakyRelu", (), {"alpha": 0.2}),
    "falling LeakyReLU": ("LeakyRelu", (), {"alpha": -0.2}),
    "ReLU6": ("Clip", (0.0, 6.0), {}),
    "hard tanh": ("Clip", (-1.0, 1.0), {}),
    "ReLU as Clip": ("Clip", (0.0,), {}),
    "hard sigmoid": ("HardSigmoid", (), {"alpha": 0.3}),
}


@pytest.mark.parametrize("name", sorted(STRAIGHT))
def test_masks_of_straight_pieces_leave_every_bit_of_a_gradient(name: str) -> None:
    op, inputs, attributes = STRAIGHT[name]
    for seed in range(3):
        model = model_with(op, inputs, seed, **attributes)
        masked = compile_case(model, Options(train="all"))
        plain = compile_case(model, Options(train="all", save=parse_save("*=fp32")))
        counts = [sum(isinstance(node.op, MaskedGradient) for node in step_of(each).nodes) for each in (masked, plain)]
        assert counts == [1, 0]
        expected = after_one_step(plain)
        for tensor, value in after_one_step(masked).items():
            assert_same_bits(value, expected[tensor], tensor)


@pytest.mark.parametrize("name", sorted(STRAIGHT))
def test_gradients_through_masks_are_those_of_the_activation_for_any_number(name: str) -> None:
    """Infinities, NaN, zeros of both signs and subnormals too."""
    op, inputs, attributes = STRAIGHT[name]
    step = step_of(compile_case(model_with(op, inputs, **attributes), Options(train="all", save=parse_save("*=fp32"))))
    (reader,) = [node for node in step.nodes if exact_steps(node, tuple(node.inputs[1:]))]
    steps = exact_steps(reader, tuple(reader.inputs[1:]))
    assert steps is not None
    x = np.concatenate([SPECIAL, floats(0, 999), np.nextafter(SPECIAL, np.float32(9)), np.nextafter(SPECIAL, -SPECIAL)])
    dy = np.resize(np.concatenate([floats(1, 97), SPECIAL]), x.shape)
    (expected,) = reader.op.run(Run(), dy, x)
    (mask,) = steps.mask.run(Run(), x)
    (found,) = MaskedGradient(steps.factors).run(Run(), dy, mask)
    assert_same_bits(found, expected)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_few_bit_tables_are_the_best(name: str, bits: int) -> None:
    found = nearest_pieces(name, bits)
    f, low = FUNCTIONS[name], 0.0 if name in EVEN else -RANGE

    def gained(borders: Any) -> float:  # the integral of the error is a constant less this
        edges = np.array([low, *borders, RANGE])
        return float((np.diff(f(edges)) ** 2 / np.diff(edges)).sum())

    assert len(found.borders) == 2**bits - 1 and len(found.levels) == 2**bits
    best = gained(found.borders)
    assert all(gained(borders) <= best + 1e-7 for borders in PUBLISHED.get((name, bits), ()))
    for _ in range(200):
        near = np.sort(np.array(found.borders) + np.random.default_rng(bits).normal(0, 0.02, len(found.borders)))
        assert gained(near) <= best + 1e-7
    slope = (f(np.array(found.borders) + 1e-5) - f(np.array(found.borders) - 1e-5)) / 2e-5
    smooth = name != "hard-swish"  # its derivative jumps at -3 and 3
    middle = (np.array(found.levels[1:]) + np.array(found.levels[:-1])) / 2
    assert not smooth or np.abs(slope - middle).max() < 1e-3


# METHODS of the literature, found by dynamic programming on a coarser grid.
PUBLISHED = {
    ("hard-swish", 1): [(0.0,)],
    ("hard-swish", 2): [(-1.08, 0.0, 1.08)],
    ("hard-swish", 3): [(-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)],
    ("gelu", 2): [(-0.46, 0.0, 0.46)],
    ("gelu", 3): [(-2.4, -0.7, -0.32, 0.0, 0.32, 0.7, 2.4)],
    ("silu", 2): [(-0.78, 0.0, 0.78)],
    ("silu", 3): [(-4.48, -1.14, -0.52, 0.0, 0.52, 1.14, 4.48)],
}


def test_levels_of_hard_swish_are_those_of_the_literature() -> None:
    assert nearest_pieces("hard-swish", 1).levels == (0.0, 1.0)
    assert nearest_pieces("hard-swish", 2).levels == pytest.approx((-0.0387, 0.32, 0.68, 1.0387), abs=5e-4)
    expected = (0, -1 / 3, 0, 1 / 3, 2 / 3, 1, 4 / 3, 1)
    assert nearest_pieces("hard-swish", 3).levels == pytest.approx(expected, abs=1e-6)


SMOOTH: dict[str, tuple[str, Any]] = {
    "hard-swish": ("HardSwish", HardSwishGrad()), "sigmoid": ("Sigmoid", SigmoidGrad()), "tanh": ("Tanh", TanhGrad()),
    "gelu": ("Gelu", GeluGrad()), "silu": ("Swish", SwishGrad(1.0)),
}  # fmt: skip


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("name", sorted(SMOOTH))
def test_masks_of_few_bits_give_the_levels_of_their_pieces(name: str, bits: int) -> None:
    op, gradient = SMOOTH[name]
    steps = few_steps(gradient, bits)
    assert steps is not None
    x = np.linspace(-8, 8, 4001, dtype=np.float32)
    read = x if name not in EVEN else FUNCTIONS[name](x.astype(np.float64)).astype(np.float32)
    (mask,) = steps.mask.run(Run(), read)
    (found,) = MaskedGradient(steps.factors).run(Run(), np.ones_like(x), mask)
    pieces = nearest_pieces(name, bits)
    where = np.abs(x) if name in EVEN else x
    expected = np.array(pieces.levels, np.float32)[np.searchsorted(pieces.borders, where.astype(np.float64))]
    at_a_border = np.abs(where[:, None] - np.array(pieces.borders)).min(axis=1) < 1e-3
    assert np.array_equal(found[~at_a_border], expected[~at_a_border])
    each = compile_case(model_with(op), Options(train="all", save=parse_save(f"mask:{bits}")))
    assert sum(isinstance(node.op, MaskedGradient) for node in step_of(each).nodes) == 1
    report = verify_bits(each, ["reference", "host"], steps=2)
    assert report.differing_bits == 0, report.first_difference


@pytest.mark.parametrize("name", sorted(TABLES))
def test_tables_of_approx_bp_are_near_the_function_as_they_promise(name: str) -> None:
    """No sum of three shifted ReLUs nearby is nearer to the activation; and the gradients are made of the levels."""
    borders, levels = TABLES[name]
    x = np.linspace(-12, 12, 24001)
    f = FUNCTIONS[name](x)

    def distance(at: Any, sums: Any) -> float:
        parts = np.diff(sums)[:, None] * np.maximum(x - np.asarray(at)[:, None], 0)
        return float(((f - parts.sum(axis=0)) ** 2).mean())

    best, generator = distance(borders, levels), np.random.default_rng(0)
    assert levels[0] == 0 and levels[3] == 1
    for _ in range(100):
        near = np.array(levels) + np.array([0, *generator.normal(0, 0.002, 2), 0])
        assert distance(np.array(borders) + generator.normal(0, 0.01, 3), near) > 0.999 * best
    each = compile_case(model_with(SMOOTH[name][0]), Options(train="all", save=parse_save("mask:approx")))
    (masked,) = [node for node in step_of(each).nodes if isinstance(node.op, MaskedGradient)]
    assert masked.op == MaskedGradient(levels)
    report = verify_bits(each, ["reference", "host"], steps=2)
    assert report.differing_bits == 0, report.first_difference


def test_a_sigmoid_times_its_input_is_silu(tmp_path: Path) -> None:
    case = Case((2, 3, 5, 5), 7)
    case.node("Conv", "x", case.weight(4, 3, 1, 1))
    before = case.current
    case.node("Mul", before, case.node("Sigmoid", before))
    case.node("GlobalAveragePool", case.current)
    (tmp_path / "silu.onnx").write_bytes(case.model().SerializeToString())
    each = compile_model(tmp_path / "silu.onnx", Options(train="all"))
    assert [node.op for node in each.model.nodes if node.op.name in ("Swish", "Sigmoid", "Mul")] == [Swish()]
    kept = [saved for saved in Step(step_of(each)).saved.values() if saved.activation and saved.type.size == 200]
    assert len(kept) == 1, "x alone, not its sigmoid"


def test_helu_passes_gradients_a_little_below_zero() -> None:
    model = model_with("Relu")
    each = compile_case(model, Options(train="all", save=parse_save("*elu*=mask:helu:0.25")))
    (mask,) = [node for node in step_of(each).nodes if isinstance(node.op, ActivationMask)]
    assert mask.op == ActivationMask(1, (-0.25,), (0, 1)) and mask.inputs[0] is not None
    (bits,) = mask.op.run(Run(), np.array([-0.3, -0.25, -0.2, 0, 1, np.nan], np.float32))
    assert np.unpackbits(bits, bitorder="little").tolist() == [0, 0, 1, 1, 1, 0, 0, 0]
    assert verify_bits(each, ["reference", "host"], steps=2).differing_bits == 0


def test_a_tensor_that_the_next_layer_keeps_gets_no_mask() -> None:
    masked = [node.name for node in step_of(compiled("ds-cnn")).nodes if isinstance(node.op, MaskedGradient)]
    assert masked == ["/relu9.relu_grad"]  # behind it is a mean; behind the others are convolutions


# ---- int8, recompute


@SMALL
@given(shape=shapes(max_side=7), seed=st.integers(0, 99), scale=st.sampled_from([0.0, 1e-40, 1e-3, 2.0, 1e37]))
def test_codes_of_8_bits_are_the_same_in_c(shape: tuple[int, ...], seed: int, scale: float) -> None:
    x = floats(seed, *shape)
    for values in (np.float32(scale) * x, np.abs(x), floats_with_special(seed, *shape)):
        assert_parity(EncodeRange(), [values])
    codes, range = EncodeRange().run(Run(), x)
    assert_parity(DecodeRange(), [codes, range])


@SMALL
@given(shape=shapes(max_side=7), seed=st.integers(0, 99), offset=st.sampled_from([-9.0, 0.0, 9.0]))
def test_codes_of_8_bits_are_near(shape: tuple[int, ...], seed: int, offset: float) -> None:
    x = floats(seed, *shape) + np.float32(offset)
    x.reshape(-1)[0] = 0
    codes, range = EncodeRange().run(Run(), x)
    (y,) = DecodeRange().run(Run(), codes, range)
    assert np.abs(y - x).max() <= 0.501 * range[0] and y.reshape(-1)[0] == 0
    assert range[0] == pytest.approx((max(x.max(), 0) - min(x.min(), 0)) / 255, rel=1e-6)


@pytest.mark.parametrize(
    ("model", "save"),
    [("ds-cnn", "recompute"), ("ds-cnn", "*=recompute"), ("lenet", "/relu3=recompute"), ("lenet", "/pool*=recompute")],
)
def test_recomputing_changes_no_bit(model: str, save: str) -> None:
    plain, again = compiled(model), compiled(model, save)
    assert any(node.name.endswith(".again") for node in step_of(again).nodes)
    expected = after_one_step(plain)
    for tensor, value in after_one_step(again).items():
        assert_same_bits(value, expected[tensor], tensor)


# ---- all codecs


@pytest.mark.parametrize("save", ALL)
def test_training_with_a_codec_is_the_same_to_the_bit_on_host(save: str) -> None:
    for model in ("lenet",) if save == "*=recompute" else ("lenet", "small-resnet"):
        report = verify_bits(compiled(model, save), ["reference", "host"], steps=3)
        assert report.compared_bits > 0 and report.differing_bits == 0, report.first_difference


@pytest.mark.slow
@pytest.mark.parametrize("save", ALL)
def test_training_with_a_codec_is_the_same_to_the_bit_on_rv32(save: str) -> None:
    report = verify_bits(compiled("lenet", save), ["reference", "qemu-rv32"], steps=20)
    assert report.compared_bits > 0 and report.differing_bits == 0, report.first_difference


test_training_with_a_codec_is_the_same_to_the_bit_on_rv32.pytestmark += EMULATED  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["rv32imafc", "rv32imac"])
@pytest.mark.parametrize(
    ("op", "save"),
    [("HardSwish", "mask:1"), ("HardSwish", "mask:3"), ("Tanh", "mask:2"), ("Sigmoid", "mask:4"), ("Relu", "int8"),
     ("LeakyRelu", "mask"), ("Relu", "Relu*=mask:helu")],
)  # fmt: skip
def test_masks_are_the_same_to_the_bit_on_rv32(op: str, save: str, profile: str) -> None:
    fma = profile == "rv32imafc"
    each = compile_case(model_with(op), Options(train="all", fma=fma, save=parse_save(save)))
    report = verify_bits(each, ["reference", "qemu-rv32"], steps=20, profile=profile)
    assert report.compared_bits > 0 and report.differing_bits == 0, report.first_difference


test_masks_are_the_same_to_the_bit_on_rv32.pytestmark += EMULATED  # type: ignore[attr-defined]


# Bytes of the arena for `--train all`. Without any codec ds-cnn needs 320,256, cnn 61,936 and lenet 43,512.
BYTES = {
    ("ds-cnn", ""): 320_000,
    ("ds-cnn", "fp16"): 208_000,
    ("ds-cnn", "bf16"): 208_000,
    ("ds-cnn", "int8"): 152_056,
    ("ds-cnn", "recompute"): 224_000,
    ("ds-cnn", "/relu[2-8]=recompute"): 160_000,
    ("ds-cnn", "/relu1=fp16,/relu[2-8]=recompute"): 144_000,
    ("cnn", ""): 31_752,
    ("lenet", ""): 23_912,
}


@pytest.mark.parametrize(("model", "save"), sorted(BYTES))
def test_planned_bytes(model: str, save: str) -> None:
    program = compiled(model, save).program
    assert program.arena_bytes == program.lower_bound == BYTES[model, save]
    if model == "ds-cnn" and save:
        assert program.arena_bytes <= 256 * 1024
    if model == "cnn":
        assert program.arena_bytes + program.params_bytes <= 76 * 1024


# Weights and arena, in bytes, and the most that they may be.
TOGETHER = {
    ("mlp", "all", ""): (407_080 + 1_064, 407_080 + 10 * 1024),
    ("cnn", "all", ""): (36_392 + 31_752, 76 * 1024),
    ("ds-cnn", "all", ""): (90_416 + 320_000, 90_416 + 350_000),
    ("ds-cnn", "all", "int8"): (90_416 + 152_056, 256 * 1024),
    ("ds-cnn", "all", "/relu[2-8]=recompute"): (90_416 + 160_000, 256 * 1024),
    ("ds-cnn", "all", "/relu1=fp16,/relu[2-8]=recompute"): (90_416 + 144_000, 256 * 1024),
    ("ds-cnn", "last:2", ""): (19_760 + 65_256, 19_760 + 72 * 1024),
}


@pytest.mark.parametrize(("model", "train", "save"), sorted(TOGETHER))
def test_weights_and_arena_together(model: str, train: str, save: str) -> None:
    program = compiled(model, save, train).program
    found, most = TOGETHER[model, train, save]
    assert program.params_bytes + program.arena_bytes == found <= most
    assert program.arena_bytes == program.lower_bound


def test_the_manifest_names_the_codecs() -> None:
    options = Options(train="all", save=parse_save("/relu*=fp16"))
    assert "--save /relu*=fp16 " in describe(options)
    assert "--save" not in describe(Options(train="all"))


# ---- what a user may get wrong


@pytest.mark.parametrize(
    ("save", "what"),
    [
        ("fp17", "there is no codec 'fp17'"),
        ("fp16:2", "fp16 has no options"),
        ("mask:5", "1, 2, 3 or 4 bits"),
        ("mask:helu:-1", "alpha is one positive number"),
        ("fp16,bf16", "two codecs for all activations"),
    ],
)
def test_texts_that_are_not_understood(save: str, what: str) -> None:
    with pytest.raises(UserError, match=what):
        parse_save(save)


@pytest.mark.parametrize(
    ("model", "save", "what"),
    [
        ("lenet", "/rellu1=fp16", "is called '/rellu1'"),
        ("lenet", "/pool1:1.out=fp16", "cannot be kept as fp16: it is uint8"),
        ("lenet", "/pool1=mask:2", "cannot be kept as mask: conv2.weight.update needs more of it than a mask"),
        ("lenet", "/pool1=mask:helu", "cannot be kept as mask:helu: /pool1 is not a ReLU"),
        ("resnet8-bn", "/relu1=recompute", "cannot be kept as recompute: /bn1 collects statistics"),
    ],
)
def test_plans_that_do_not_fit(model: str, save: str, what: str) -> None:
    with pytest.raises(UserError, match=what):
        compiled(model, save)
