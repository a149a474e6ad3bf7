"""Threads on the PC: any number of them gives the same bits, races for nothing, and boards never see one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from codegen.emit import arena_bytes, emit, generate
from codegen.kernels import shared_kernels
from toolkit.bench.contestants import race
from toolkit.bench.host import time_race
from toolkit.cli import main
from toolkit.ir import Array
from toolkit.pipeline import Compiled, Options, compile_model
from toolkit.sim.backend import open_backend
from toolkit.sim.host import THREADS
from toolkit.sim.parity import differing_bits, random_samples
from toolkit.train.step import TrainingOptions
from toolkit.zoo import build


def _run(compiled: Compiled, threads: int, steps: int = 3) -> list[Array]:
    """All that can be seen of some steps."""
    samples, seen = random_samples(compiled, 0), []
    with open_backend(compiled, "host", threads=threads) as backend:
        for _ in range(steps):
            inputs, label = next(samples)
            seen += backend.infer(inputs)
            assert label is not None
            status, loss = backend.train_step(inputs, label)
            assert status == "ET_OK" and backend.update() == "ET_OK"
            seen.append(np.array([loss]))
        return [*seen, *backend.state().values()]


def _same(compiled: Compiled) -> None:
    alone, *others = (_run(compiled, threads) for threads in (1, 2, 3))
    for other in others:
        assert sum(int(differing_bits(a, b).sum()) for a, b in zip(alone, other, strict=True)) == 0


def test_bits_are_those_of_one_thread() -> None:
    _same(compile_model("digits-cnn", Options("all", batch=5)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "batch", "optimizer", "accumulate"),
    [
        ("mlp", 4, "sgd:momentum=0.9", 1),
        ("mlp", 20, "sgd", 1),
        ("mlp", 1, "adam", 1),
        ("ds-cnn", 4, "adam", 1),
        ("ds-cnn", 1, "sgd", 1),
        ("resnet8", 4, "sgd:weight_decay=0.01", 1),
        ("mnist-cnn", 3, "sgd", 2),
    ],
)
def test_bits_of_every_optimizer_are_those_of_one_thread(
    model: str, batch: int, optimizer: str, accumulate: int
) -> None:
    training = TrainingOptions(optimizer=optimizer, accumulate=accumulate)
    _same(compile_model(model, Options("all", training, batch=batch)))


def test_a_status_ends_the_step_in_all_threads() -> None:
    compiled = compile_model("digits-cnn", Options("all", batch=4))
    inputs, label = next(random_samples(compiled, 0))
    assert label is not None
    found = []
    for threads in (1, 3):
        with open_backend(compiled, "host", threads=threads) as backend:
            bad = backend.train_step(inputs, np.full_like(label, -1))[0]
            lost = backend.train_step([np.full_like(inputs[0], np.nan)], label)[0]
            found.append((bad, lost, backend.failed_step, backend.train_step(inputs, label)[0]))
    assert found[0] == found[1]
    assert found[0][0] == "ET_BAD_LABEL" and found[0][1] == "ET_NONFINITE_GRADIENT" and found[0][3] == "ET_OK"


def test_without_threads_the_code_knows_none() -> None:
    program = compile_model("digits-cnn", Options("all")).program
    plain, threaded = generate(program, "edgetrain"), generate(program, "edgetrain", threads=True)
    assert "et_threads_join" not in plain["model.c"] and "et_threads.c" in threaded
    shared = [line for line in threaded["model.c"].splitlines() if line.lstrip().startswith("SHARED_STEP(")]
    assert shared and all(any(f", {kernel}(" in line for kernel in shared_kernels()) for line in shared)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize(("model", "walk"), [("digits-cnn", None), ("ds-cnn", None), ("digits-cnn", 1)])
def test_threads_do_not_race(model: str, walk: int | None, tmp_path: Path) -> None:
    program = compile_model(model, Options("all", batch=6 if walk else 3, name="model", walk=walk)).program
    emit(program, tmp_path, "edgetrain", threads=True, arenas=3)
    inputs, outputs, label = (sum(port.bytes for port in ports) for ports in (
        program.inputs, program.outputs, [program.label] if program.label else []))  # fmt: skip
    (tmp_path / "main.c").write_text(f"""
#include "model.h"
#include "et_threads.h"
static uint64_t arena[{arena_bytes(program, 3) // 8 + 1}];
static et_model_params params;
static float input[{inputs // 4}], output[{outputs // 4}];
static int32_t label[{label // 4}];
int main(void)
{{
    et_model_t model;
    float loss = 0.0f;
    for (int32_t i = 0; i < {inputs // 4}; i++)
        input[i] = (float)(i % 7) - 3.0f;
    et_threads_set(3);
    int failed = et_model_init(&model, arena, &params) != ET_OK;
    for (int step = 0; step < 3; step++) {{
        failed |= et_model_train_step(&model, input, label, &loss) != ET_OK;
        failed |= et_model_infer(&model, input, output) != ET_OK;
    }}
    et_threads_set(1);
    return failed;
}}
""")
    flags = ["-std=c99", "-O1", "-g", "-march=native", "-fsanitize=thread", "-ffp-contract=off", *THREADS]
    sources = sorted(path.name for path in tmp_path.glob("*.c"))
    built = subprocess.run(["gcc", *flags, *sources, "-o", "race"], cwd=tmp_path, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    run = subprocess.run([str(tmp_path / "race")], capture_output=True, text=True, timeout=300)
    if "unexpected memory mapping" in run.stderr:
        pytest.skip("the kernel's address layout is none that the sanitizer knows")
    assert run.returncode == 0 and "WARNING" not in run.stderr, run.stderr


def test_threads_are_for_this_pc_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits-cnn", "--data", "nowhere.npz", "--on", "reference", "--threads", "2"]) == 2
    assert "--on host" in capsys.readouterr().err


@pytest.mark.slow
def test_bench_host_has_them(tmp_path: Path) -> None:
    path = tmp_path / "digits.onnx"
    path.write_bytes(build("digits-cnn").SerializeToString())
    with race("digits-cnn", path, "train", 4, tmp_path, threads=2) as run:
        rows = {row.contestant: row for row in time_race(run, 1, 1e-4, 2)}
    assert rows["edgetrain"].threads == 2 and "-DET_THREADS=1" in rows["edgetrain"].how
    assert "-DET_THREADS=1" not in rows["edgetrain, one thread"].how
