"""Dense layers on one sample whose weights are stored in binary16: factors are rounded stochastically, not weights."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.board import load_board
from codegen.compilers import find_riscv_compilers
from tests.support import assert_same_bits, floats, floats_with_special, run_in_c
from toolkit.ir import Array
from toolkit.numerics.half import from_half, to_half
from toolkit.ops.base import Run, StepAborted
from toolkit.ops.half_layer import HalfStoredSgd
from toolkit.ops.half_outer_sgd import HalfOuterSgd
from toolkit.pipeline import Options, compile_model
from toolkit.quant import parse_plan
from toolkit.sim.parity import verify_bits
from toolkit.train.step import TrainingOptions

METHOD = "fp16:accumulate=native,master=stored"


def draw(seed: int, step: int) -> tuple[Array, Array]:
    return np.array(seed, np.uint32), np.array(step, np.uint32)


@settings(max_examples=20)
@given(
    rows=st.sampled_from([1, 3, 63, 64, 65, 130]), columns=st.sampled_from([1, 2, 7, 8, 19, 128, 131]),
    seed=st.integers(0, 99), special=st.booleans(), zeros=st.booleans(),
    rate=st.sampled_from([0.0, 1e-38, 1e-5, 0.01, -0.3, 40.0, 3e7, np.inf, np.nan]),
    size=st.sampled_from([0.0, 1e-7, 1e-3, 0.1, 30.0, 6e4]), gradients=st.sampled_from([1e-6, 1.0, 1e4]),
)  # fmt: skip
def test_the_same_in_c(
    rows: int, columns: int, seed: int, special: bool, zeros: bool, rate: float, size: float, gradients: float
) -> None:
    values = floats_with_special if special else floats
    x, dy = values(seed, rows), np.clip(values(seed + 1, columns), -1e30, 1e30) * np.float32(gradients)
    w = to_half(np.clip(floats(seed + 2, rows, columns) * np.float32(size), -65504, 65504), "fp16")
    x = np.maximum(x, np.float32(0)) if zeros else x
    op = HalfOuterSgd(128.0, seed * 977)
    inputs = (to_half(x, "fp16"), to_half(dy, "fp16"), w, np.array(rate, np.float32), *draw(3, seed))
    for fma in (True, False):
        wanted, updated = "ET_OK", (w,)
        try:
            updated = op.run(Run(fma), *inputs)
        except StepAborted as aborted:
            wanted, updated = aborted.status, aborted.updated
        status, (after,) = run_in_c(op, inputs, fma, {2: 0})
        assert status == wanted
        assert_same_bits(after, updated[0])


@pytest.mark.parametrize("rate", [3e-4, 0.03])
def test_weights_move_by_the_sum_of_their_steps(rate: float) -> None:
    """100 steps along one gradient, 12 times: none of the weights is off by more than chance and half a quantum.

    There are weights of which the quantum fits, and larger ones that have to be rounded stochastically.
    """
    random, steps, runs = np.random.default_rng(5), 100, 12
    x, dy = to_half(floats(1, 40) ** 2, "fp16"), to_half(floats(2, 12), "fp16")
    w = to_half((random.standard_normal((40, 12)) * 0.02).astype(np.float32), "fp16")
    w[3:6, 2:5] = to_half(np.full((3, 3), 3.9, np.float32), "fp16")
    assert not np.isin(np.arange(0, w.size, 61), [r * 12 + c for r in range(3, 6) for c in range(2, 5)]).any()
    op, after = HalfOuterSgd(4.0, 7), np.array([w] * runs)
    for run in range(runs):
        for step in range(steps):
            after[run] = op.run(Run(), x, dy, after[run], np.array(rate, np.float32), *draw(run, step))[0]
    moved = from_half(after, "fp16").astype(np.float64) - from_half(w, "fp16")
    wanted = -steps * rate / 4 * np.outer(from_half(x, "fp16").astype(np.float64), from_half(dy, "fp16"))
    largest = np.abs(from_half(np.delete(after, np.s_[3:6], axis=1), "fp16")).max()
    quantum = np.where(np.abs(from_half(w, "fp16")) > 2, 2.0**-9, np.spacing(np.float16(largest)))
    spread = np.maximum(moved.std(axis=0), np.sqrt(np.abs(wanted) * quantum)) / np.sqrt(runs) + quantum / 6
    error = (moved.mean(axis=0) - wanted) / spread
    assert np.abs(error).max() < 5 and abs(error.mean()) < 0.3, (np.abs(error).max(), error.mean())
    assert moved.any(axis=0).mean() > 0.8


def test_factors_that_are_not_finite_leave_their_weights() -> None:
    x, dy = floats(1, 9), floats(2, 6)
    x[4], dy[1] = np.inf, np.nan
    w = to_half(floats(3, 9, 6), "fp16")
    with pytest.raises(StepAborted) as aborted:
        HalfOuterSgd().run(Run(), to_half(x, "fp16"), to_half(dy, "fp16"), w, np.array(0.5, np.float32), *draw(1, 2))
    (after,) = aborted.value.updated
    changed = after != w
    assert not changed[4].any() and not changed[:, 1].any() and changed.mean() > 0.5


def test_where_it_stands_in_a_model() -> None:
    """In layers that see one sample; not where gradients are kept."""

    def updates(batch: int, training: TrainingOptions, method: str = METHOD) -> set[type]:
        compiled = compile_model("mlp", Options("all", training, batch=batch, quant=parse_plan(method)))
        return {type(node.op) for node in compiled.graphs["train_step"].nodes if node.name.endswith("weight.update")}

    assert updates(1, TrainingOptions()) == {HalfOuterSgd}
    assert updates(2, TrainingOptions()) == {HalfStoredSgd}
    others = [TrainingOptions(optimizer="sgd:weight_decay=1e-3"), TrainingOptions(atomic=True)]
    for training in others:
        assert HalfOuterSgd not in updates(1, training)
    assert HalfOuterSgd not in updates(1, TrainingOptions(), "fp16:master=stored")


def test_whole_steps_are_the_same_on_host() -> None:
    report = verify_bits(compile_model("mlp", Options("all", quant=parse_plan(METHOD))), ["reference", "host"], steps=3)
    assert report.differing_bits == 0, report.first_difference


@pytest.mark.emulator
@pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed")
@pytest.mark.parametrize(
    ("profile", "rate"),
    [("rv32imac", 0.01), ("rv32imafc", 0.01), ("rv32imafc_zfh", 0.01), ("rv32imafc_zfh", 300.0)],
)
def test_whole_steps_are_the_same_on_rv32(profile: str, rate: float) -> None:
    """The large rate makes steps beyond the quantum, which are rounded stochastically, and beyond the format."""
    board = load_board("qemu-rv32").with_profile(profile)
    if "zig" not in [compiler.name for compiler in find_riscv_compilers()]:
        pytest.skip("no compiler that knows Zfh")
    compiled = compile_model("mlp", Options("all", fma=board.fma, quant=parse_plan(METHOD)))
    on = ["reference", "qemu-rv32"]
    report = verify_bits(compiled, on, steps=3, profile=profile, compiler="zig", learning_rate=rate)
    assert report.differing_bits == 0, report.first_difference
