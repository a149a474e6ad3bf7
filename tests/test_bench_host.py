"""Times on this PC: that rows are whole and answers compared; no time is asserted, for it is the machine's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from toolkit.bench.contestants import OWN, race
from toolkit.bench.host import HostResult, HostRow, check_answers, host_markdown, time_race
from toolkit.bench.pytorch import NoFormError, TorchModel
from toolkit.cli import main
from toolkit.errors import UserError
from toolkit.frontend.outline import read_outline
from toolkit.zoo import build

PyTorch = "PyTorch is not installed: pip install edgetrain[oracle]"


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    path = tmp_path / "digits.onnx"
    path.write_bytes(build("digits-cnn").SerializeToString())
    return path


@pytest.mark.slow
def test_rows_say_who_ran_what_and_how_often(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "rows.jsonl"
    command = ["bench", "host", "digits-cnn", "--rounds", "2", "--seconds", "0.0001", "--results", str(kept)]
    assert main([*command, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    rows = [HostRow(**row) for row in data["rows"]]
    assert [json.loads(line) for line in kept.read_text().splitlines()] == data["rows"]
    own = {(row.phase, row.batch) for row in rows if row.contestant == OWN}
    assert own == {("infer", 1), ("train", 1), ("train", 32)}
    for row in rows:
        assert row.version and row.how and row.threads == 1 and row.rounds == 2 and row.calls >= 1
        assert 0 < row.minimum_us <= row.median_us
        assert row.contestant != OWN or row.times_edgetrain == row.cpu_times_edgetrain == 1
    seen = {row.contestant for row in rows} | {each["contestant"] for each in data["left_out"]}
    assert {OWN, "onnxruntime", "PyTorch", "emx-onnx-cgen"} <= seen
    assert all(each["why"] for each in data["left_out"])


def test_the_table_has_a_line_for_each_phase() -> None:
    own = HostRow("mlp", "infer", 1, 1, OWN, "1.0", "gcc", 2.0, 1.5, 3.0, 2.0, 1.0, 1.0, 5, 10)
    other = replace(own, contestant="PyTorch", version="2.0", how="eager", median_us=4.0, times_edgetrain=2.0)
    step = replace(own, phase="train")
    text = host_markdown(HostResult((own, other, step), {("mlp", "onnxruntime"): "not installed"}))
    lines = text.splitlines()
    assert lines[2:4] == [
        "| mlp | infer | 1 | 2.0 (1.5, 3 %) | 4.0 (1.5, 3 %), 2.00x |", "| mlp | train | 1 | 2.0 (1.5, 3 %) |  |",
    ]  # fmt: skip
    assert lines[-3:] == [f"- {OWN} 1.0: gcc", "- PyTorch 2.0: eager", "- left out, mlp: onnxruntime: not installed"]


def test_a_model_that_the_zoo_has_not_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "host", "resnet9"]) == 2
    assert "resnet8" in capsys.readouterr().err


def test_who_computes_something_else_is_not_timed(digits: Path, tmp_path: Path) -> None:
    def never() -> None:
        raise AssertionError("it was timed")

    with race("digits-cnn", digits, "infer", 1, tmp_path) as run:
        own = run.contestants[0]
        wrong = {"output": own.answer["output"] + np.float32(0.1) * np.abs(own.answer["output"]).max()}
        call: Callable[[], object] = never
        with pytest.raises(UserError, match="liar computes another output"):
            check_answers(replace(run, contestants=(own, replace(own, name="liar", call=call, answer=wrong))))
        check_answers(run)


def test_a_timed_step_changes_what_it_should(digits: Path, tmp_path: Path) -> None:
    with race("digits-cnn", digits, "train", 1, tmp_path) as run:
        changes = run.contestants[0].answer
        assert set(changes) == {"loss", *read_outline(digits).weights}
        assert all(np.abs(change).max() > 0 for change in changes.values())
        rows = list(time_race(run, 3, 1e-4, 1))
    assert [row.contestant for row in rows] == [each.name for each in run.contestants]


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.parametrize("phase", ["infer", "train"])
@pytest.mark.parametrize("model", ["ds-cnn", "resnet8"])
def test_pytorch_computes_the_same(model: str, phase: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason=PyTorch)
    path = tmp_path / "model.onnx"
    path.write_bytes(build(model).SerializeToString())
    with race(model, path, "train" if phase == "train" else "infer", 2, tmp_path) as run:
        assert "PyTorch" in {each.name for each in run.contestants}
        check_answers(run)


@pytest.mark.oracle
def test_what_is_not_spelled_for_pytorch_is_told(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason=PyTorch)
    path = tmp_path / "model.onnx"
    path.write_bytes(build("mobilenetv2", (3, 32, 32), 4).SerializeToString())
    with pytest.raises(NoFormError, match="is not spelled"):
        TorchModel(read_outline(path), 1)
