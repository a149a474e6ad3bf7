"""--ram and --flash on `plan`, `compile` and `train`: the edge is one byte wide, and what is said beyond it helps."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from codegen.compilers import find_riscv_compilers
from toolkit.cli import main
from toolkit.pipeline import Options, compile_model
from toolkit.report.account import most_saving
from toolkit.report.fitting import CODECS
from toolkit.train.codecs import parse_save

# --optimizer is given, for the default of `train` has a momentum.
PAIRS = [
    ("digits-cnn", "--train all --optimizer sgd"),
    ("mlp", "--train last:1 --optimizer sgd:momentum=0.9"),
    ("lenet", "--train bias --optimizer adam"),
    ("ds-cnn", "--train all --save int8 --optimizer sgd"),
    ("small-resnet", "--train blocks:1 --optimizer sgd --batch-norm running"),
    ("mobilenetv2", "--train mobiletl:2 --optimizer sgd"),
    ("digits-cnn", "--train conv2.weight@0.25+bias --optimizer sgd --accumulate 2"),
]
# The small ones always; the others take a compilation for each plan near them.
SOME = [pytest.param(*pair, marks=[] if number < 2 else [pytest.mark.slow]) for number, pair in enumerate(PAIRS)]
needs_compiler = pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed")


def needs(options: str, model: str, *words: str, capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    """Bytes of RAM and of flash, as `plan` has them."""
    assert main(["plan", model, *options.split(), *words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    return {name: told[name]["total"] for name in ("ram", "flash")}


@pytest.mark.parametrize(("model", "options"), SOME)
@pytest.mark.parametrize("what", ["ram", "flash"])
def test_plan_flips_at_one_byte(model: str, options: str, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    total = needs(options, model, "--no-build", capsys=capsys)[what]
    command = ["plan", model, *options.split(), "--no-build", f"--{what}"]
    assert main([*command, str(total)]) == 0
    capsys.readouterr()
    assert main([*command, str(total - 1)]) == 2
    assert f"needs {total:,} B of {total - 1:,} B: 1 B too much" in capsys.readouterr().out


@pytest.mark.parametrize(("model", "options"), SOME[:4])
def test_compile_flips_at_one_byte_and_writes_nothing_beyond(
    model: str, options: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "out"
    total = needs(options, model, "--target", "host", capsys=capsys)["ram"]
    command = ["compile", model, *options.split(), "--target", "host", "-o", str(place), "--ram"]
    assert main([*command, str(total - 1)]) == 2
    told = capsys.readouterr().err
    assert f"RAM (--ram) needs {total:,} B of {total - 1:,} B: 1 B too much" in told
    assert told.count(" B ·") == 2, "three causes"
    assert not place.exists()
    pasted = re.search("Try:  edgetrain (.*)", told)
    assert pasted is not None and main(shlex.split(pasted[1])) == 0
    assert (place / "model.c").is_file()
    assert main([*command, str(total), "--force"]) == 0


@needs_compiler
@pytest.mark.slow
def test_a_budget_of_a_board_counts_code_stack_and_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    total = needs("--train all", "digits-cnn", capsys=capsys)
    command = ["compile", "digits-cnn", "--train", "all", "-o", str(tmp_path / "out")]
    for what in ("ram", "flash"):
        assert main([*command, f"--{what}", str(total[what] - 1)]) == 2
        assert "1 B too much" in capsys.readouterr().err
    exact = [word for what in ("ram", "flash") for word in (f"--{what}", str(total[what]))]
    assert main([*command, *exact]) == 0


@pytest.mark.parametrize(("model", "options"), [SOME[0], pytest.param(*PAIRS[1], marks=pytest.mark.slow)])
def test_train_flips_at_one_byte(
    model: str, options: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(0)
    shape = compile_model(model, Options()).program.inputs[0].shape[1:]
    data = tmp_path / "data.npz"
    x = generator.normal(size=(30, 1, *shape[:-1]) if len(shape) == 3 else (30, *shape)).astype(np.float32)
    np.savez(data, x=x, y=generator.integers(0, 10, 30))
    total = needs(options, model, "--target", "host", capsys=capsys)["ram"]
    command = ["train", model, *options.split(), "--data", str(data), "--epochs", "1", "--ram"]
    trained = tmp_path / "trained.onnx"
    assert main([*command, str(total), "-o", str(trained)]) == 0
    capsys.readouterr()
    trained.unlink()
    assert main([*command, str(total - 1), "-o", str(trained)]) == 2
    told = capsys.readouterr().err
    assert "1 B too much" in told and not trained.exists()
    pasted = re.search("Try:  edgetrain (train .*)", told)
    assert pasted is not None and main(shlex.split(pasted[1])) == 0
    assert trained.is_file()


def test_training_that_cannot_fit_names_no_command_that_does_not_train(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "lenet", "--data", str(tmp_path / "no.npz"), "--ram", "24000"]) == 2
    told = capsys.readouterr().err
    assert "Fits: --train none" in told and "Try:" not in told


def test_what_saves_most_names_codecs_and_their_bytes() -> None:
    compiled = compile_model("ds-cnn", Options(train="all"))
    saving = most_saving(compiled)
    assert saving is not None
    expected = {"--save int8": 320_000 - 152_056, "--save fp16": 320_000 - 208_000, "--save recompute": 96_000}
    assert dict(saving.codecs) == expected
    assert [size for _, size in saving.codecs] == sorted(expected.values(), reverse=True)
    assert all(words in saving.text() for words in expected)
    chosen = most_saving(compile_model("ds-cnn", Options(train="all", save=parse_save(CODECS[1]))))
    assert chosen is not None and not chosen.codecs, "the user has chosen"
