"""Momentum and Adam in the kernels of weight gradients: the bits of gradient and update apart, and no gradient kept."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.compilers import find_riscv_compilers
from tests.support import assert_parity, assert_same_bits, floats
from toolkit.ir import Array
from toolkit.ops.adam import Adam
from toolkit.ops.base import Run, StepAborted
from toolkit.ops.conv import ConvGradWeight
from toolkit.ops.dense import DenseGradWeight
from toolkit.ops.sgd import Sgd
from toolkit.ops.update_of_gradient import UpdateOfGradient
from toolkit.pipeline import Options, compile_model
from toolkit.sim.parity import verify_bits
from toolkit.train.step import TrainingOptions

UPDATES: list[Sgd | Adam] = [Sgd(0.9), Sgd(0.9, True, 0.01), Adam(), Adam(weight_decay=0.01)]
BY_UPDATE = pytest.mark.parametrize("update", UPDATES, ids=str)


def operands(update: Sgd | Adam, seed: int, x: Array, dy: Array, w: tuple[int, ...]) -> list[Array]:
    """x, dy, w, learning rate, states."""
    rate = np.asarray(np.float32(0.05))
    first, second = floats(seed + 2, *w), np.abs(floats(seed + 3, *w))
    states = [first, second, np.array([0.9, 0.999], np.float32)] if isinstance(update, Adam) else [first]
    return [x, dy, floats(seed + 1, *w), rate, *states]


def in_place(update: Sgd | Adam) -> dict[int, int]:
    """Input -> the output that replaces it."""
    return {2: 0, 4: 1, 5: 2} if isinstance(update, Adam) else {2: 0, 4: 1}


@BY_UPDATE
@settings(max_examples=6)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 20), st.integers(0, 99))
def test_dense_weights(update: Sgd | Adam, batch: int, inputs: int, outputs: int, seed: int) -> None:
    given_now = operands(update, seed, floats(seed, batch, inputs), floats(seed + 9, batch, outputs), (inputs, outputs))
    op = UpdateOfGradient(DenseGradWeight(), update)
    assert_parity(op, given_now, in_place(update))
    (dw,) = DenseGradWeight().run(Run(), *given_now[:2])
    apart = update.run(Run(), given_now[2], dw, *given_now[3:])
    for found, expected in zip(op.run(Run(), *given_now), apart, strict=True):
        assert_same_bits(found, expected)


@BY_UPDATE
@settings(max_examples=6)
@given(st.sampled_from([(3, 5, 1), (6, 20, 1), (4, 8, 2), (5, 5, 5)]), st.sampled_from([1, 3]), st.integers(0, 99))
def test_convolution_weights(update: Sgd | Adam, sizes: tuple[int, int, int], taps: int, seed: int) -> None:
    channels, outputs, groups = sizes
    gradient = ConvGradWeight((1, 1), (1, 1), (0, 0), (0, 0), groups=groups, kernel=(taps, taps))
    x, dy = floats(seed, 1, 6, 7, channels), floats(seed + 9, 1, 7 - taps, 8 - taps, outputs)
    given_now = operands(update, seed, x, dy, (taps, taps, channels // groups, outputs))
    assert_parity(UpdateOfGradient(gradient, update), given_now, in_place(update))


@BY_UPDATE
def test_what_is_not_finite_leaves_its_weight_and_its_states(update: Sgd | Adam) -> None:
    x, dy = floats(0, 1, 3), floats(1, 1, 4)
    x[0, 1] = np.inf
    given_now = operands(update, 5, x, dy, (3, 4))
    with pytest.raises(StepAborted) as aborted:
        UpdateOfGradient(DenseGradWeight(), update).reference(Run(), *given_now)
    results = aborted.value.updated
    before = (given_now[2], *given_now[4:])
    for after, old in zip(results, before, strict=False):
        assert_same_bits(after[1], old[1])
        assert not np.array_equal(after[0], old[0])


@pytest.mark.parametrize("optimizer", ["sgd:momentum=0.9", "adam"])
@pytest.mark.parametrize(("model", "arena"), [("mlp", 1_064), ("cnn", 31_752), ("ds-cnn", 320_000)])
def test_states_need_no_gradient_in_the_arena(model: str, arena: int, optimizer: str) -> None:
    """As many bytes as plain SGD needs."""
    program = compile_model(model, Options(train="all", training=TrainingOptions(optimizer=optimizer))).program
    assert program.arena_bytes == program.lower_bound == arena


@pytest.mark.emulator
@pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed")
@pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed")
@pytest.mark.parametrize("profile", ["rv32imafc", "rv32imac"])
@pytest.mark.parametrize("optimizer", ["sgd:momentum=0.9,nesterov,weight_decay=1e-3", "adam:weight_decay=1e-3"])
def test_the_same_bits_on_rv32(optimizer: str, profile: str) -> None:
    options = Options(train="all", training=TrainingOptions(optimizer=optimizer), fma=profile == "rv32imafc")
    report = verify_bits(compile_model("digits-cnn", options), ["reference", "host", "qemu-rv32"], 2, profile=profile)
    assert report.compared_bits > 0 and report.differing_bits == 0, report.first_difference
