"""The search behind `--train auto`: what is tried, what is chosen, and that the same seed chooses the same."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegen.board import load_board
from toolkit.cli import main
from toolkit.data import Dataset
from toolkit.errors import UserError
from toolkit.fit.candidates import Candidate, forms, schemes, union
from toolkit.fit.front import Tried, best, front_table, pareto
from toolkit.fit.probe import Measured, ProbeSettings, probe
from toolkit.fit.search import Limits, Outcome, Search
from toolkit.pipeline import Options, compile_model, load
from toolkit.quant import parse_plan
from toolkit.report.memory import Budget, memory_of

PLAIN = Options()


def _digits() -> Dataset:
    """180 pictures of 8x8 that are told apart by which of ten pixels is bright."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 10, 180)
    x = generator.random((180, 1, 8, 8)).astype(np.float32) * np.float32(0.1)
    x[np.arange(180), 0, 2 + y // 5, 1 + y % 5] = 1
    return Dataset(x, y.astype(np.int32))


def _search(
    budget: Budget, macs: int | None = None, seconds: float = 600.0, seed: int = 0, options: Options = PLAIN,
    arena: int | None = None, finals: int = 0,
) -> Outcome:  # fmt: skip
    limits = Limits(budget, macs, seconds, arena)
    settings = ProbeSettings(samples=60, held=30, rates=(0.05,), seed=seed, finals=finals, final_epochs=3)
    board = load_board("qemu-rv32")
    progress = lambda name, done, total: None  # noqa: E731
    return Search("digits-cnn", options, board, limits, _digits(), settings, progress, build=False).run()


def _tried(words: str, ram: int, gain: float, fits: bool = True) -> Tried:
    return Tried(Candidate(words), ram, 0, 1000, 0, 0, fits, Measured(2.0, 2.0 - gain, 0.1))


def test_schemes_train_different_things() -> None:
    found = schemes(load("lenet", Options()))
    assert found[0] == "all" and "bias" in found and "last:1" in found
    assert "last:5" not in found, "the same as all"
    assert len(found) == len(set(found))


def test_a_union_trains_more_than_either() -> None:
    graph = load("lenet", Options())
    assert union(graph, "last:2", "bias") == "last:2+bias"
    assert union(graph, "all", "bias") is None
    assert union(graph, "last:1", "last:2") is None


def test_the_front_has_nothing_that_another_beats() -> None:
    tried = [_tried("a", 100, 0.5), _tried("b", 200, 0.4), _tried("c", 300, 0.9, fits=False), _tried("d", 250, 0.6)]
    assert [each.candidate.scheme for each in pareto(tried)] == ["a", "d", "c"]
    chosen = best(tried)
    assert chosen is not None and chosen.candidate.scheme == "d"
    assert best([_tried("a", 100, 0.0)]) is None
    assert "best" in front_table(tried)


def test_a_probe_leaves_the_rates_to_compare_alike() -> None:
    compiled = compile_model("digits-cnn", Options(train="all"))
    data = _digits()
    alone = [probe(compiled, data, ProbeSettings(60, 30, (rate,), 3)) for rate in (0.05, 0.01)]
    both = probe(compiled, data, ProbeSettings(60, 30, (0.05, 0.01), 3))
    assert both.after == min(each.after for each in alone)
    assert both.gain > 0


def test_the_same_seed_finds_the_same() -> None:
    first, second = _search(Budget()), _search(Budget())
    assert first == second
    assert first.complete
    assert first.chosen.gain == max(each.gain for each in first.tried)


def test_the_best_are_trained_on_all_samples_and_one_of_them_is_taken() -> None:
    plain, outcome = _search(Budget()), _search(Budget(), finals=2)
    finals = [each for each in outcome.tried if each.final]
    assert sorted(each.gain for each in finals) == sorted(each.gain for each in plain.tried)[-2:]
    assert outcome.chosen.final is not None
    assert outcome.chosen.final.after == min(each.final.after for each in finals if each.final)
    compiled = compile_model("digits-cnn", outcome.chosen.candidate.options(PLAIN))
    assert outcome.chosen.final == probe(compiled, _digits(), ProbeSettings(150, 30, (0.05,), 0, 3))
    assert "loss, all samples" in front_table(outcome.tried)
    slower = [_tried("a", 100, 0.5), _tried("b", 200, 0.6), _tried("c", 150, 0.7, fits=False)]
    slower[0] = replace(slower[0], final=Measured(2.0, 0.5, 0.1))
    slower[1] = replace(slower[1], final=Measured(2.0, 0.6, 0.1))
    chosen = best(slower)
    assert chosen is not None and chosen.candidate.scheme == "a"


def test_what_is_chosen_fits() -> None:
    free = _search(Budget())
    short = _search(Budget(ram=free.chosen.ram - 1))
    assert short.chosen.ram < free.chosen.ram
    program = compile_model("digits-cnn", short.chosen.candidate.options(Options())).program
    assert memory_of(program, load_board("qemu-rv32")).ram == short.chosen.ram
    assert all(each.ram >= free.chosen.ram for each in short.tried if not each.fits)


def test_macs_are_a_limit_too() -> None:
    free = _search(Budget())
    least = min(each.macs for each in free.tried)
    assert _search(Budget(), macs=least).chosen.macs == least
    with pytest.raises(UserError, match="no way of training"):
        _search(Budget(), macs=least - 1)


def test_a_budget_below_inference_is_refused() -> None:
    need = memory_of(compile_model("digits-cnn", Options()).program, load_board("qemu-rv32")).ram
    with pytest.raises(UserError, match=f"not even inference fits: .* {need:,} B"):
        _search(Budget(ram=need - 1))


def test_time_ends_the_search_and_is_said() -> None:
    outcome = _search(Budget(), seconds=0.0)
    assert not outcome.complete
    assert any(each.why == "no time was left" for each in outcome.tried)
    assert outcome.chosen.measured is not None


def test_plan_takes_what_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    data = _digits()
    np.savez(tmp_path / "data.npz", x=data.x, y=data.y)
    words = ["plan", "digits-cnn", "--train", "auto", "--data", str(tmp_path / "data.npz"), "--probe", "40", "--ram",
             "60K", "--lr", "0.05", "--no-build", "--json", "--front", str(tmp_path / "front.png")]  # fmt: skip
    assert main(words) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["fits"] and found["ram"]["total"] <= 60 * 1024
    assert re.fullmatch(r"[a-z]+(:\d+)?(\+[a-z]+(:\d+)?)*", found["train"])
    assert found["auto"]["complete"] and len(found["auto"]["tried"]) > 3
    assert (tmp_path / "front.png").stat().st_size > 5000


def test_without_data_what_trains_most_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "ds-cnn", "--train", "auto", "--ram", "256K", "--target", "qemu-rv32", "--no-build"]
    assert main([*words, "--json"]) == 0
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert "nothing is measured" in output.err
    assert found["fits"] and found["ram"]["weights"] + found["ram"]["arena"] <= 256 * 1024
    fitting = [each for each in found["auto"]["tried"] if each["fits"]]
    assert f"--train {found['train']}" in max(fitting, key=lambda each: each["trained_parameters"])["options"]
    assert main(words) == 0
    assert "trained parameters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["plan", "lenet", "--train", "auto", "--front", "front.png"], "--data"),
        (["plan", "lenet", "--train", "auto", "--quant", "int8:frozen"], "--data"),
        (["plan", "lenet", "--train", "all", "--macs", "10"], "--train auto"),
        (["compile", "lenet", "--train", "auto", "-o", "nowhere"], "edgetrain plan"),
    ],
)
def test_wrong_use_is_explained(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert told in capsys.readouterr().err


def test_a_form_is_more_exact_than_another_of_its_scheme() -> None:
    codes = "int8:frozen"
    assert Candidate("all").is_as_exact_as(Candidate("all", "int8"))
    assert Candidate("all", "recompute").is_as_exact_as(Candidate("all", "", codes))
    assert not Candidate("all", "int8").is_as_exact_as(Candidate("all", "fp16"))
    assert not Candidate("all", "", codes).is_as_exact_as(Candidate("all", "int8"))
    assert not Candidate("head").is_as_exact_as(Candidate("all"))
    found = [Candidate("all", *form) for form in forms(codes)]
    assert found[0] == Candidate("all") and len(found) == 8
    for number, each in enumerate(found):
        assert not any(later.is_as_exact_as(each) and not each.is_as_exact_as(later) for later in found[number + 1 :])


def test_frozen_layers_run_on_codes_where_nothing_else_fits() -> None:
    options = Options(quant=parse_plan("int8:frozen,samples=8"))
    need = compile_model("digits-cnn", Options()).program.arena_bytes
    free = _search(Budget(), options=options)
    assert not free.chosen.candidate.quant or free.chosen.ram < min(e.ram for e in free.tried if not e.candidate.quant)
    short = _search(Budget(), options=options, arena=need - 1)
    assert short.chosen.candidate.quant == "int8:frozen,samples=8" and short.chosen.arena < need
    with pytest.raises(UserError, match="not even inference fits: the arena"):
        _search(Budget(), arena=need - 1)


def test_plan_calibrates_frozen_layers_on_the_same_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = _digits()
    np.savez(tmp_path / "data.npz", x=data.x, y=data.y)
    need = compile_model("digits-cnn", Options()).program.arena_bytes
    words = ["plan", "digits-cnn", "--train", "auto", "--quant", "int8:frozen,samples=8", "--data"]
    words += [str(tmp_path / "data.npz"), "--probe", "40", "--arena", str(need - 1), "--no-build", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ram"]["arena"] < need and found["fits"]
    assert any("int8:frozen,samples=8" in each["options"] for each in found["auto"]["tried"])
