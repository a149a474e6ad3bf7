"""Which forms of inner loops are compiled in, and that every one of them can be."""

from __future__ import annotations

import re

import pytest

from codegen.forms import CODE_BYTES, INSTRUCTIONS_PER_MAC, Form, worthwhile
from codegen.resources import folder
from toolkit.bench.rv32 import compile_for, training_of
from toolkit.ops import kernel_forms

NEEDED = {form.macro for form in vars(kernel_forms).values() if isinstance(form, Form)}


def _asked(model: str, train: str = "all", quant: str = "none") -> tuple[str, ...]:
    compiled = compile_for(model, quant, train, "rv32imafc", training_of(model, "sgd", "batch"))
    return tuple(form for form in compiled.program.forms if form not in NEEDED)


def test_a_form_is_worth_its_share_of_the_flash() -> None:
    macs, flash = 1000, 10 * CODE_BYTES
    share = 0.02
    size = int(share * (CODE_BYTES + flash))
    saves = share * INSTRUCTIONS_PER_MAC * macs
    assert worthwhile([(macs, [Form("A", size, 1.01 * saves), Form("B", size, 0.99 * saves)])], flash) == ("A",)
    assert worthwhile([(macs, [Form("A", size, 0.6 * saves)] * 2)], flash) == ("A",)
    assert worthwhile([(macs, [Form("A", size, 0.6 * saves)])] * 2, flash) == ()
    assert worthwhile([(macs, [Form("NEEDED")]), (0, [])], flash) == ("NEEDED",)


def test_models_have_the_forms_that_they_are_worth() -> None:
    assert _asked("small-resnet") == ()
    assert _asked("lenet") == ("ET_FORM_NARROW", "ET_FORM_TAPS")
    assert _asked("lenet", "none") == ("ET_FORM_NARROW",)
    assert _asked("mobilenetv1-0.25") == ("ET_FORM_DEPTHWISE", "ET_FORM_DEPTHWISE_WEIGHTS")


@pytest.mark.parametrize("quant", ["none", "int8"])
def test_common_layers_need_none(quant: str) -> None:
    assert _asked("ds-cnn", "all" if quant == "none" else "none", quant) == ()


def test_forms_are_those_of_the_runtime() -> None:
    declared = set(re.findall(r"#define (ET_FORM_\w+) 0", (folder("runtime_c") / "et_base.h").read_text()))
    assert declared == set(kernel_forms._BYTES) | NEEDED
