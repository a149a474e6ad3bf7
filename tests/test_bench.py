"""Measurements by command: counts in the emulator, accuracy on a data set made here in the layout of a real one."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from codegen.board import load_board
from codegen.compilers import find_riscv_compilers
from toolkit.bench.recipes import RECIPES, Recipe, Stage
from toolkit.bench.rv32 import measure
from toolkit.cli import main
from toolkit.pipeline import Options, compile_model
from toolkit.quant import parse_plan
from toolkit.sim.parity import verify_bits
from toolkit.zoo import zoo_names


def _mnist(folder: Path) -> Path:
    """Two kinds of images, told apart by which half is bright, in the files of MNIST."""
    generator = np.random.default_rng(0)
    place = folder / "data_mnist"
    place.mkdir()

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        y = generator.integers(0, 2, count)
        x = generator.integers(0, 40, (count, 28, 28))
        x[y == 0, :14] += 200
        x[y == 1, 14:] += 200
        return x.astype(np.uint8), y.astype(np.uint8)

    x, y = drawn(128)
    np.savez(place / "mnist_train10k.npz", x=x, y=y)
    test_x, test_y = drawn(64)
    (place / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(16) + test_x.tobytes()))
    (place / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(8) + test_y.tobytes()))
    return folder


def test_accuracy_gives_one_row_per_method_and_keeps_outcomes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept.jsonl"
    command = ["bench", "accuracy", "mnist", "--data", str(_mnist(tmp_path)), "--seeds", "1", "--jobs", "1"]
    command += ["--method", "float32", "--method", "int8", "--results", str(kept), "--json"]
    assert main(command) == 0
    rows = {row["method"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert list(rows) == ["float32", "int8"]
    assert rows["float32"]["mean"] == 100 and rows["int8"]["mean"] >= 98
    lines = kept.read_text()
    assert main(command) == 0, "what is kept is not run again"
    assert kept.read_text() == lines and "seed" not in capsys.readouterr().err


def test_a_missing_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "accuracy", "kws", "--data", str(tmp_path), "--jobs", "1", "--seeds", "1"]) == 2
    assert "EDGETRAIN_DATA" in capsys.readouterr().err
    assert main(["bench", "accuracy", "mnist", "--data", str(tmp_path), "--method", "float31"]) == 2
    assert "float32" in capsys.readouterr().err


@pytest.mark.parametrize("data", sorted(RECIPES))
def test_every_recipe_names_methods_and_models_that_exist(data: str) -> None:
    recipes: tuple[Recipe, ...] = RECIPES[data]
    assert recipes[0].method == "float32" and len({recipe.method for recipe in recipes}) == len(recipes)
    for recipe in recipes:
        assert recipe.model in zoo_names()
        stages: tuple[Stage, ...] = recipe.stages
        assert all(parse_plan(stage.quant) or stage.quant == "none" for stage in stages)


@pytest.mark.emulator
@pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed")
@pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed")
def test_rv32_counts_both_phases_of_each_method(capsys: pytest.CaptureFixture[str]) -> None:
    quants = ["--quant", "none", "--quant", "dorefa:w1a2g6,all", "--quant", "int8"]
    command = ["bench", "rv32", "digits-cnn", *quants, "--json"]
    assert main(command) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["quant"], row["phase"]) for row in rows] == [
        ("none", "infer"), ("none", "train"), ("dorefa:w1a2g6,all", "infer"), ("dorefa:w1a2g6,all", "train"),
        ("int8", "infer"),
    ]  # fmt: skip
    plain, packed = rows[0], rows[2]
    assert plain["macs"] == packed["macs"] == 23_680
    assert packed["weight_bytes"] < plain["weight_bytes"] / 5
    assert all(row["instructions"] > 0 and row["ram_bytes"] > 0 for row in rows)


@pytest.mark.emulator
@pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed")
@pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed")
def test_the_steps_of_a_model_add_up_to_the_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "layers.svg"
    assert main(["bench", "rv32", "digits-cnn", "--json"]) == 0
    whole = {row["phase"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert main(["bench", "rv32", "digits-cnn", "--layers", "--plot", str(picture), "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["rows"]
    for phase, row in whole.items():
        own = [step for step in steps if step["phase"] == phase]
        assert sum(step["instructions"] for step in own) == row["instructions"]
        assert sum(step["macs"] for step in own) == row["macs"]
        between = own[-1]
        assert between["step"] == -1 and 0 <= between["instructions"] < 40 * len(own)
        heavy = [step for step in own if step["macs"] > 1000]
        assert heavy and all(1 < step["instructions_per_mac"] < 8 for step in heavy)
    assert "digits-cnn" in picture.read_text()
    assert main(["bench", "rv32", "digits-cnn", "--plot", str(picture)]) == 2
    assert "--layers" in capsys.readouterr().err


@pytest.mark.emulator
@pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed")
@pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed")
@pytest.mark.parametrize("model", ["digits-cnn", pytest.param("resnet8", marks=pytest.mark.slow)])
def test_code_for_size_is_a_quarter_smaller_for_few_instructions_more(model: str) -> None:
    for fast, small in zip(measure(model), measure(model, opt="size"), strict=True):
        assert small.text_bytes <= 0.75 * fast.text_bytes, small.phase
        assert small.instructions <= 1.3 * fast.instructions, small.phase


@pytest.mark.emulator
@pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed")
@pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed")
def test_code_for_size_holds_the_same_bits() -> None:
    compiled = compile_model("digits-cnn", Options("all", fma=load_board("qemu-rv32").fma, opt="size"))
    assert verify_bits(compiled, ["reference", "host", "qemu-rv32"], steps=2).differing_bits == 0
