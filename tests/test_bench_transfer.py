"""Transfer by command: what is compared exists, what none beats is marked, and outcomes are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.data_folder import FOLDER, NEEDS_DATA
from toolkit.bench.transfer import Outcome, jobs, pretrained
from toolkit.bench.transfer_table import markdown, rows
from toolkit.bench.transfer_tasks import FROZEN_CODES, TASKS, Parts, row_name
from toolkit.cli import main
from toolkit.cli.bench_transfer import DEFAULT
from toolkit.data import Dataset
from toolkit.errors import UserError
from toolkit.fit.candidates import Candidate
from toolkit.ops.fold_batch_norm import fold_batch_normalization
from toolkit.pipeline import Options, load
from toolkit.train.schemes import read_scheme

TASK = TASKS["digits-cnn"]


def _outcome(entry: str, weights: int, accuracy: float, seed: int = 0, trained: str = "") -> Outcome:
    return Outcome("digits-cnn", entry, seed, trained or entry, weights, 1000, 0, accuracy)


def test_the_front_is_what_none_beats() -> None:
    found = [_outcome("all", 900, 80.0), _outcome("bias", 100, 30.0), _outcome("head", 100, 60.0)]
    found += [_outcome("auto, 16 KiB", 900, 80.0, trained="all")]
    found += [replace(_outcome("mobiletl:1", 0, 0.0), why="no blocks")]
    table = {row.entry: row for row in rows(TASK, found)}
    assert [entry for entry, row in table.items() if row.front] == ["head", "all", "auto, 16 KiB"]
    text = markdown(TASK, list(table.values()))
    assert "**auto, 16 KiB**: all | 900 | 1,000 | 80.00 |  | 1 | yes |" in text and "no blocks" in text


def test_seeds_are_averaged_and_choices_told() -> None:
    found = [_outcome("auto, 16 KiB", 100, 60.0, 0, "head"), _outcome("auto, 16 KiB", 200, 70.0, 1, "bias+head")]
    found += [_outcome("auto, 16 KiB", 300, 65.0, 2, "head")]
    (row,) = rows(TASK, found)
    assert (row.accuracy, row.deviation, row.ram, row.seeds) == (65.0, 5.0, 1200, 3)
    assert row.chosen == "head (2x); bias+head"


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_way_is_a_scheme_or_says_why_not(name: str) -> None:
    task = TASKS[name]
    graph, refused = load(task.model, Options()), []
    for way in task.ways:
        try:
            assert read_scheme(graph, way.scheme).trained
        except UserError as error:
            refused.append((way.scheme.partition(":")[0], error.what))
    assert {kind for kind, _ in refused} <= {"mobiletl", "blocks"}
    assert bool(refused) == (name != "mobilenetv2"), "only that one has inverted residual blocks"
    assert any(way.scheme == "all" for way in task.ways) and task.allowances


def test_nothing_that_is_kept_is_run_again(tmp_path: Path) -> None:
    every = jobs("resnet8", 0, tmp_path, tmp_path)
    names = [entry for job in every for entry in job.entries]
    assert "last:1" in names and "auto, arena 128 KiB" in names
    rest = jobs("resnet8", 0, tmp_path, tmp_path, done=names[:-1])
    assert [job.entries for job in rest] == [(names[-1],)]
    with pytest.raises(UserError, match="no row 'haed'"):
        jobs("resnet8", 0, tmp_path, tmp_path, only=["haed"])


@pytest.mark.slow
def test_folding_keeps_what_the_model_computes(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    old = Dataset(generator.random((64, 1, 49, 10)).astype(np.float32), (np.arange(64) % 3).astype(np.int32))
    task = replace(TASKS["ds-cnn"], old_epochs=0)
    bare = load(pretrained(task, old, 0, tmp_path), Options())
    full = pretrained(replace(task, model="ds-cnn-bn"), old, 0, tmp_path)
    folded = fold_batch_normalization(load(full, Options()), frozenset())
    for own, other in zip(bare.parameters(), folded.parameters(), strict=True):
        assert np.array_equal(bare.data[own], folded.data[other])


def test_one_row_of_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    kept = tmp_path / "kept.jsonl"
    words = ["bench", "transfer", "digits-cnn", "--seeds", "1", "--jobs", "1", "--only", "head", "--only", "mobiletl:1"]
    words += ["--results", str(kept), "--json"]
    assert main(words) == 0
    found = {row["entry"]: row for row in json.loads(capsys.readouterr().out)["models"]["digits-cnn"]}
    assert found["head"]["accuracy"] > 60 and "no inverted residual blocks" in found["mobiletl:1"]["why"]
    assert main(words) == 0
    assert "seed 0" not in capsys.readouterr().err, "what is kept is not run again"


@pytest.mark.slow
def test_the_whole_table_of_digits_with_its_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    picture = tmp_path / "digits.png"
    assert main(["bench", "transfer", "digits-cnn", "--seeds", "2", "--json", "--plot", str(picture)]) == 0
    found = {row["entry"]: row for row in json.loads(capsys.readouterr().out)["models"]["digits-cnn"]}
    assert found["auto, 16 KiB"]["front"] and found["auto, 16 KiB"]["accuracy"] > found["head"]["accuracy"]
    assert picture.stat().st_size > 10_000


@pytest.mark.slow
class TestRealData:
    pytestmark = NEEDS_DATA

    @pytest.mark.parametrize("name", DEFAULT)
    def test_samples_for_the_test_are_apart(self, name: str) -> None:
        _check_parts(TASKS[name].read(FOLDER, 1))


def _check_parts(parts: Parts) -> None:
    def kinds(data: Dataset) -> set[bytes]:
        return {x.tobytes() for x in data.x}

    assert parts.old.x.shape[1:] == parts.test.x.shape[1:]
    assert not kinds(parts.test) & (kinds(parts.train) | kinds(parts.held) | kinds(parts.old))
    assert not kinds(parts.train) & kinds(parts.held)
    for data in (parts.old, parts.train, parts.held, parts.test):
        assert set(data.y) == set(range(int(parts.old.y.max()) + 1))


def test_wrong_use_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "transfer", "lenet5", "--data", str(tmp_path)]) == 2
    assert "digits-cnn" in capsys.readouterr().err
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    words = ["bench", "transfer", "digits-cnn", "--results", str(tmp_path / "other.jsonl")]
    assert main(words) == 2
    assert "holds no outcomes" in capsys.readouterr().err


def test_a_row_says_all_that_was_chosen() -> None:
    way = Candidate("head", "fp16", FROZEN_CODES)
    assert way.words == f"--train head --save fp16 --quant {FROZEN_CODES}"
    assert row_name(way) == "head, saved fp16, frozen int8"
