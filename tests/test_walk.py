"""A walk over the batch, part by part, gives the bits of the whole batch at once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from codegen.compilers import find_riscv_compilers
from codegen.emit import generate
from codegen.program import Function
from tests.op_cases import CASES, models
from toolkit.errors import UserError
from toolkit.pipeline import Compiled, Options, compile_model
from toolkit.sim.backend import open_backend
from toolkit.sim.parity import differing_bits, random_samples, verify_bits
from toolkit.train.step import TrainingOptions
from toolkit.walk import choose


def _walking(model: str, batch: int, samples: int, training: TrainingOptions | None = None) -> Compiled:
    compiled = compile_model(model, Options("all", training or TrainingOptions(), batch=batch, walk=samples))
    assert compiled.walks["train_step"].parts == compiled.program.functions["train_step"].parts == batch // samples
    return compiled


def _check(compiled: Compiled, on: str = "host", steps: int = 2) -> None:
    report = verify_bits(compiled, ["reference", on], steps=steps)
    assert report.differing_bits == 0, report.first_difference
    assert report.compared_bits > 0


@pytest.mark.parametrize(("batch", "samples"), [(4, 2), pytest.param(2, 1, marks=pytest.mark.slow), (5, 1)])
def test_bits_are_those_of_the_reference(batch: int, samples: int) -> None:
    _check(_walking("digits-cnn", batch, samples))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "batch", "samples", "training"),
    [
        ("mlp", 4, 1, TrainingOptions(optimizer="adam")),
        ("mlp", 4, 2, TrainingOptions("mse")),
        ("cnn", 3, 1, TrainingOptions(optimizer="sgd:momentum=0.9", accumulate=2)),
        ("ds-cnn", 4, 2, TrainingOptions(optimizer="adam")),
        ("ds-cnn", 2, 1, TrainingOptions(atomic=True)),
        ("resnet8", 4, 1, TrainingOptions(optimizer="sgd:weight_decay=0.01")),
        ("mobilenetv1-0.25", 2, 1, TrainingOptions()),
    ],
)
def test_bits_of_every_optimizer_are_those_of_the_reference(
    model: str, batch: int, samples: int, training: TrainingOptions
) -> None:
    _check(_walking(model, batch, samples, training), steps=1)


@pytest.mark.emulator
@pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed")
@pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed")
@pytest.mark.parametrize("model", [
    "digits-cnn", *(pytest.param(model, marks=pytest.mark.slow) for model in ("lenet", "mobilenetv1-0.25"))
])  # fmt: skip
def test_bits_are_the_same_on_rv32(model: str) -> None:
    _check(_walking(model, 2, 1), "qemu-rv32", steps=1)


@pytest.mark.slow
@pytest.mark.parametrize("op", sorted(CASES))
def test_every_op_that_can_be_walked_gives_the_same_bits(op: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    @settings(max_examples=1)
    @given(model=models(op))
    def check(model: Any) -> None:
        path = tmp_path_factory.mktemp("walk") / "case.onnx"
        path.write_bytes(model.SerializeToString())
        options = Options("all", batch=4)
        try:
            compile_model(str(path), options)
        except UserError:
            return  # the case takes no batch of 4
        try:
            compiled = compile_model(str(path), replace(options, walk=2))
        except UserError:
            assert op not in ("Conv", "Relu", "Gemm", "MaxPool", "AveragePool")
            return
        _check(compiled, steps=1)

    check()


def test_a_status_ends_the_step_as_it_does_without_a_walk() -> None:
    found = []
    for walk in (None, 2):
        compiled = compile_model("digits-cnn", Options("all", batch=4, walk=walk))
        inputs, label = next(random_samples(compiled, 0))
        assert label is not None
        bad, lost = label.copy(), inputs[0].copy()
        bad[3], lost[3] = 10, np.nan
        with open_backend(compiled, "host") as backend:
            first = backend.state()
            statuses = [backend.train_step(inputs, bad)[0], backend.train_step([lost], label)[0]]
            nodes = compiled.program.functions["train_step"].steps[backend.failed_step].node
            kept = all(np.array_equal(first[name], value) for name, value in backend.state().items())
            found.append((*statuses, nodes, kept))
    assert found[0] == found[1] and found[0][0] == "ET_BAD_LABEL"


def test_the_arena_is_that_of_a_part_and_the_sums() -> None:
    whole = compile_model("digits-cnn", Options("all", batch=8)).program
    walking = _walking("digits-cnn", 8, 1).program
    one = compile_model("digits-cnn", Options("all", batch=1)).program
    sums = sum(buffer.bytes for buffer in walking.params if buffer.trained) + 4  # and the loss
    assert walking.functions["train_step"].peak <= one.functions["train_step"].peak + sums < whole.arena_bytes
    assert walking.functions["infer"].peak == one.functions["infer"].peak
    assert walking.functions["train_step"].macs == whole.functions["train_step"].macs


def test_code_that_does_not_walk_has_no_trace_of_it() -> None:
    plain = generate(compile_model("digits-cnn", Options("all", batch=4)).program, "edgetrain")
    walking = generate(_walking("digits-cnn", 4, 1).program, "edgetrain")
    assert "ET_WALK" not in plain["et_config.h"] and "ET_WALK 1" in walking["et_config.h"]
    assert "part" not in plain["model.c"] and "for (ptrdiff_t part = 0; part < 4; part++)" in walking["model.c"]


def test_the_rule() -> None:
    def parts(peak: int, weights: int, name: str = "infer") -> tuple[int, int]:
        walk = choose(Function(name, (), {}, peak=peak), 32, 1000, weights)
        return walk.samples, walk.parts

    assert parts(1000, 10**6) == (32, 1)  # the arena fits
    assert parts(3200, 0) == (8, 4)  # 100 B a sample
    assert parts(32 * 5000, 100) == (1, 32)  # not even one sample fits, and yet it is better than all
    assert parts(3200, 1500) == (16, 2)  # as many samples as weigh what the weights do
    assert parts(3200, 2000) == (32, 1)
    assert parts(3200, 500, "train_step") == (16, 2)  # and the sums beside them
    assert parts(1600, 0) == (8, 4)  # 16 would fit, but leave two parts


def test_what_cannot_be_walked_is_refused_with_a_reason() -> None:
    with pytest.raises(UserError, match="no multiple of 3"):
        compile_model("digits-cnn", Options("all", batch=4, walk=3))
    with pytest.raises(UserError, match="cannot be walked"):  # statistics of the batch
        compile_model("mobilenetv3-small", Options("all", batch=2, walk=1))
    walks = compile_model("mobilenetv3-small", Options("all", batch=16, cache=1)).walks
    assert walks["train_step"].parts == 1 and "the whole batch at once" in walks["train_step"].text()


def test_threads_that_walk_give_the_same_bits() -> None:
    compiled = _walking("digits-cnn", 5, 1)
    inputs, label = next(random_samples(compiled, 0))
    assert label is not None
    bad = label.copy()
    bad[2] = -1
    seen = []
    for threads in (1, 2, 3):
        with open_backend(compiled, "host", threads=threads) as backend:
            statuses = [backend.train_step(inputs, label)[0] for _ in range(3)]
            statuses.append(backend.train_step(inputs, bad)[0])
            statuses += [str(backend.failed_step), *(backend.train_step(inputs, label)[0] for _ in range(2))]
            seen.append((statuses, [*backend.state().values(), *backend.infer(inputs)]))
    for statuses, values in seen[1:]:
        assert statuses == seen[0][0]
        assert not any(differing_bits(a, b).any() for a, b in zip(values, seen[0][1], strict=True))
