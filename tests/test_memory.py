"""Planned bytes are what the linker places and what the firmware touches, to the byte, for every model of the zoo."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from codegen.board import load_board
from codegen.compilers import find_riscv_compilers
from codegen.program import aligned
from toolkit.bench.memory import Case, measure_memory, memory_cases
from toolkit.cli import main
from toolkit.pipeline import Options, compile_model
from toolkit.sim.device import DeviceBackend
from toolkit.sim.parity import random_samples
from toolkit.train.step import TrainingOptions
from toolkit.zoo import zoo_names

# Of the models with 96x96 inputs the schemes are left to `edgetrain bench memory`.
SMALL = [model for model in zoo_names() if not model.endswith("-96")]

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed"),
    pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed"),
]


# Inverted residual blocks as mobilenetv3-small has them too, and the same blocks on more pixels.
LARGE = {"mobilenetv2", "proxyless", *(model for model in zoo_names() if model not in SMALL)}


@pytest.mark.parametrize(
    "model", [pytest.param(model, marks=pytest.mark.slow if model in LARGE else ()) for model in zoo_names()]
)
def test_planned_linked_and_touched_are_the_same_bytes(model: str) -> None:
    loss = "mse" if model == "autoencoder" else "cross-entropy"
    compiled = compile_model(model, Options(train="all", training=TrainingOptions(loss=loss)))
    program = compiled.program
    inputs, label = next(random_samples(compiled, 0))
    assert label is not None
    with DeviceBackend(compiled, load_board("qemu-rv32")) as device:
        device.infer(inputs)
        assert device.train_step(inputs, label)[0] == "ET_OK"
        touched = device.arena_touched()
        # A mask of bits at the top may end before the alignment does.
        assert device.image.sizes["arena"] == aligned(touched.arena_bytes) == program.arena_bytes == program.lower_bound
        assert device.image.sizes["params"] == program.params_bytes
        counted = device.image.sizes["stack_counted"]
        assert touched.stack_bytes <= counted <= device.image.sizes["stack"]
        # Of the longest path not every part is taken: the pointers of the link, and the last tile of a layer. Nor does
        # a kernel's pointer lead to `keep`, which saves a state; that it might is all that machine code tells.
        assert device.image.stack is not None
        path = device.image.stack.path
        keep = [name for name, _ in path].index("keep") if "keep" in dict(path) else None
        taken = counted if keep is None else sum(depth for _, depth in path[: keep + 1])
        assert taken - touched.stack_bytes <= 512
        assert not touched.outside


@pytest.mark.slow
@pytest.mark.parametrize("model", SMALL)
def test_every_scheme_and_codec_of_a_model_is_exact(model: str) -> None:
    rows = [measure_memory(case) for case in memory_cases(model, "rv32imafc")]
    assert not [row for row in rows if not row.exact]
    assert not [row for row in rows if not row.stack_counted]


@pytest.mark.slow
def test_nine_of_ten_plans_are_at_their_bound() -> None:
    cases = [case for model in zoo_names() for case in memory_cases(model, "rv32imafc")]
    programs = [case.compiled().program for case in cases]
    at_bound = sum(program.arena_bytes == program.lower_bound for program in programs)
    assert at_bound >= 0.9 * len(programs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "scheme", "save"),
    [
        ("mlp", "all", ""), ("cnn", "all", ""), ("ds-cnn", "all", "int8"), ("ds-cnn", "all", "/relu[2-8]=recompute"),
        ("ds-cnn", "all", "/relu1=fp16,/relu[2-8]=recompute"), ("ds-cnn", "last:2", ""),
    ],
)  # fmt: skip
def test_the_plans_of_the_page_are_exact_in_the_emulator(model: str, scheme: str, save: str) -> None:
    """Their bytes are those of test_codecs."""
    row = measure_memory(Case(model, scheme, save, "rv32imafc"))
    assert row.exact and row.at_bound, row


def test_the_table_of_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "kept.jsonl"
    command = ["bench", "memory", "digits-cnn", "--train", "none", "--train", "last:1", "--results", str(kept)]
    assert main(command) == 0
    assert "2 of 2 exact, 2 at the lower bound (100 %)" in capsys.readouterr().out
    lines = kept.read_text().splitlines()
    assert [json.loads(line)["scheme"] for line in lines] == ["last:1", "none"]
    changed = json.loads(lines[0]) | {"stack_touched": 1}
    kept.write_text("\n".join([json.dumps(changed), lines[1].replace('"arena": ', '"arena": 1')]))
    assert main([*command, "--by-model"]) == 0
    assert "| digits-cnn | 2 | 2 | 2 | 1.0000 |" in capsys.readouterr().out
    again = kept.read_text().splitlines()
    assert json.loads(again[0])["stack_touched"] == 1, "what is kept is not run again"
    assert again[1] == lines[1], "unless the plan has changed"
    kept.write_text("{}")
    assert main(command) == 2
