"""Which method quantizes which layer: texts, files, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.quantized import METHODS, samples
from toolkit.cli import main
from toolkit.errors import UserError
from toolkit.pipeline import Options, compile_model, load
from toolkit.quant import parse_plan


def _toml(folder: Path, text: str) -> str:
    path = folder / "layers.toml"
    path.write_text(text)
    return str(path)


def _assigned(plan: str, model: str = "lenet") -> dict[str, object]:
    return dict(parse_plan(plan).assign(load(model, Options())))


def test_dorefa_keeps_the_first_and_the_last_layer_unless_all_is_asked_for() -> None:
    assert list(_assigned("dorefa:w1a2g6")) == ["/conv2", "/fc1", "/fc2"]
    assert list(_assigned("dorefa:w1a2g6,all")) == ["/conv1", "/conv2", "/fc1", "/fc2", "/fc3"]


def test_the_most_specific_pattern_wins(tmp_path: Path) -> None:
    text = 'default = "fp16"\n[layers]\n"/fc1" = "bf16"\n"/fc*" = "none"\n"*" = "fixed8"\n'
    chosen = _assigned(_toml(tmp_path, text))
    assert list(chosen) == ["/conv1", "/conv2", "/fc1"]
    assert chosen["/fc1"] == parse_plan("bf16").default
    assert chosen["/conv1"] == parse_plan("fixed8").default


def test_a_layer_named_outright_is_quantized_even_at_an_end(tmp_path: Path) -> None:
    assert list(_assigned(_toml(tmp_path, '[layers]\n"/conv1" = "dorefa:w2a4g8"\n'))) == ["/conv1"]


@pytest.mark.parametrize(
    ("plan", "what", "hint"),
    [
        ("dorefaa:w1a2g6", "no quantization method 'dorefaa'", "dorefa"),
        ("dorefa:w0a2g6", "0 bits are out of range", "1 to 8"),
        ("fixed8:mastr=int16", "mastr", "master"),
        ("nowhere.toml", "cannot be read", ""),
    ],
)
def test_a_wrong_plan_is_told_with_a_hint(plan: str, what: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_plan(plan)
    assert what in caught.value.what and hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("default = ", "is not valid TOML"),
        ('defaults = "fp16"', "unknown key 'defaults'"),
        ("default = 3", 'a method is a text like "dorefa:w1a2g6"'),
        ('[layers]\n"/conv1" = "fp17"', "no quantization method 'fp17'"),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(UserError, match=what.replace("(", r"\(")):
        parse_plan(_toml(tmp_path, text))


def test_a_pattern_that_matches_no_layer_is_an_error_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no layer is called '/con1'") as caught:
        _assigned(_toml(tmp_path, '[layers]\n"/con1" = "fp16"'))
    assert "/conv1" in (caught.value.hint or "")


def test_a_model_of_two_layers_says_that_both_are_kept() -> None:
    with pytest.raises(UserError, match="no layer to quantize") as caught:
        _assigned("dorefa:w1a2g6", "mlp")
    assert "all" in (caught.value.hint or "")


def test_the_command_line_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "lenet", "--quant", "dorefa:w1a9g6", "-o", "unused", "--json"]) == 2
    problem = json.loads(capsys.readouterr().out)["error"]
    assert "9 bits" in problem["what"] and "w1a9g6" in problem["where"]


@pytest.mark.parametrize("keyword", METHODS)
def test_frozen_weights_become_constants(keyword: str) -> None:
    plan = parse_plan(keyword)
    imported = load("lenet", Options())
    quantized = {node.inputs[1] for node in imported.nodes if node.name in plan.assign(imported)}
    graph = compile_model("lenet", Options(quant=plan, samples=samples)).model
    still_float = {name for name in graph.parameters() if graph.type(name).dtype == "float32"}
    assert len(quantized) >= 3 and not quantized & still_float


@pytest.mark.parametrize("keyword", METHODS)
def test_flash_shrinks(keyword: str) -> None:
    plain = compile_model("lenet", Options()).program.flash_bytes
    quantized = compile_model("lenet", Options(quant=parse_plan(keyword), samples=samples))
    assert quantized.program.flash_bytes < 0.6 * plain


@pytest.mark.parametrize("keyword", METHODS)
def test_the_same_input_gives_the_same_program(keyword: str) -> None:
    images = []
    for _ in range(2):
        compiled = compile_model("lenet", Options(quant=parse_plan(keyword), samples=samples))
        images.append([(b.name, b.image().tobytes()) for b in compiled.program.flash])
    assert images[0] == images[1] and np.all([len(data) for _, data in images[0]])
