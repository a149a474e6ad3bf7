"""What `plan` says of memory: every byte has a use, a tensor its reason, a budget its edge."""

from __future__ import annotations

import contextlib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from codegen.schedule import lower_bound
from toolkit.cli import main
from toolkit.pipeline import Options, compile_model
from toolkit.report.memory import peak_function
from toolkit.report.uses import SAVED, arena_uses, largest_saved, params_uses, pieces, weight_gradients_from
from toolkit.train.step import TrainingOptions


@dataclass(frozen=True)
class _Told:
    exit_code: int
    stdout: str
    output: str


def _plan(*words: str) -> _Told:
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = main(["plan", "digits-cnn", *words])
    return _Told(code, out.getvalue(), out.getvalue() + errors.getvalue())


def _json(*words: str) -> dict[str, object]:
    found = json.loads(_plan("--json", *words).stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("train", ["none", "bias", "last:1", "all"])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_every_byte_has_a_use(train: str, accumulate: int) -> None:
    options = Options(train=train, training=TrainingOptions(optimizer="adam", accumulate=accumulate))
    compiled = compile_model("digits-cnn", options)
    assert sum(arena_uses(compiled).values()) == compiled.program.arena_bytes
    assert sum(params_uses(compiled).values()) == compiled.program.params_bytes
    assert (params_uses(compiled)["gradients"] > 0) == (train != "none" and accumulate > 1)
    function = peak_function(compiled.program)
    assert lower_bound([piece.span for piece in pieces(compiled, function)]) == function.lower_bound


def test_the_largest_saved_tensor_and_what_needs_it() -> None:
    compiled = compile_model("lenet", Options(train="all"))
    piece = largest_saved(compiled)
    assert piece is not None
    assert (piece.use, piece.label, piece.span.bytes) == (SAVED, "pool1", 4704)
    assert weight_gradients_from(compiled, piece) == ["conv2.weight"]


def test_explain_says_why_a_tensor_is_alive() -> None:
    told = _plan("--train", "all", "--explain", "pool1")
    assert told.exit_code == 0, told.output
    assert re.search(r"saved tensors", told.output)
    assert "the gradient of" in told.output
    assert "/pool1" in told.output


def test_explain_of_an_unknown_name_gives_the_nearest() -> None:
    told = _plan("--train", "all", "--explain", "pool11")
    assert told.exit_code == 2
    assert "pool1" in told.output


def test_a_budget_flips_at_one_byte() -> None:
    whole = _json("--train", "all", "--no-build")["ram"]
    assert isinstance(whole, dict)
    total = whole["total"]
    assert _plan("--train", "all", "--no-build", "--ram", str(total)).exit_code == 0
    short = _plan("--train", "all", "--no-build", "--ram", str(total - 1))
    assert short.exit_code == 2
    assert "1 B too much" in short.output
    assert short.output.count(" B ·") == 2, "three causes"


def test_the_command_that_is_suggested_fits() -> None:
    whole = _json("--train", "all", "--no-build")["ram"]
    assert isinstance(whole, dict)
    short = _plan("--train", "all", "--no-build", "--ram", str(whole["total"] - 1))
    command = re.search(r"Try:  edgetrain plan digits-cnn (.*)", short.output)
    assert command is not None, short.output
    assert _plan(*command[1].split(), "--no-build").exit_code == 0


def test_a_budget_below_inference_says_what_inference_needs() -> None:
    need = _json("--train", "none", "--no-build")["ram"]
    assert isinstance(need, dict)
    told = _plan("--train", "all", "--no-build", "--ram", str(need["total"] - 1))
    assert told.exit_code == 2
    assert f"Not even inference fits: --train none needs {need['total']:,} B of RAM" in told.output


@pytest.mark.parametrize("text", ["much", "64Q", "-3"])
def test_a_size_that_is_none(text: str) -> None:
    told = _plan("--ram", text)
    assert told.exit_code == 2
    assert "Traceback" not in told.output


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_arena_is_drawn(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / f"arena.{suffix}"
    assert _plan("--train", "all", "--no-build", "--plot", str(picture)).exit_code == 0
    assert picture.stat().st_size > 5000
