"""One set of bits: for every op, models around it trained by the reference and by generated C agree to the bit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.op_cases import CASES, models
from toolkit.frontend.load import load_model
from toolkit.ops.base import ops_by_onnx_name
from toolkit.ops.fuse_bias import fuse_bias
from toolkit.pipeline import Compiled, Options, compile_graph
from toolkit.sim.parity import verify_bits
from toolkit.train.step import TrainingOptions


def compile_case(model: Any, options: Options) -> Compiled:
    return compile_graph(fuse_bias(load_model(model, batch=None, shapes={})), options, "case")


def test_every_importable_op_has_cases() -> None:
    # Folded or rewritten when importing, so that no node of theirs is left to compare.
    without_nodes: set[str] = set()
    assert set(ops_by_onnx_name()) - without_nodes <= set(CASES)


@pytest.mark.parametrize("op", sorted(CASES))
def test_training_is_the_same_to_the_bit_on_host(op: str) -> None:
    @settings(max_examples=4)
    @given(model=models(op), fma=st.booleans(), batch_norm=st.sampled_from(["batch", "running"]))
    def check(model: Any, fma: bool, batch_norm: str) -> None:
        options = Options(train="all", fma=fma, training=TrainingOptions(batch_norm=batch_norm))
        report = verify_bits(compile_case(model, options), ["reference", "host"], steps=2)
        assert report.differing_bits == 0, report.first_difference
        assert report.compared_bits > 0

    check()


_WAYS = {
    "momentum": TrainingOptions(optimizer="sgd:momentum=0.9,nesterov,weight_decay=1e-3"),
    "adam": TrainingOptions(optimizer="adam:weight_decay=1e-3"),
    "atomic": TrainingOptions(atomic=True),
    "accumulated": TrainingOptions(accumulate=3),
    "accumulated adam": TrainingOptions(optimizer="adam", accumulate=2),
    "soft labels": TrainingOptions(loss="soft-cross-entropy"),
    "mean squared error": TrainingOptions(loss="mse"),
    "squared hinge": TrainingOptions(loss="squared-hinge"),
}


@pytest.mark.parametrize("scheme", ["all", "head", "last:2", "bias", "none"])
@pytest.mark.parametrize("fma", [True, False])
def test_every_scheme_is_the_same_to_the_bit(scheme: str, fma: bool) -> None:
    from toolkit.pipeline import compile_model

    compiled = compile_model("small-resnet", Options(train=scheme, fma=fma))
    report = verify_bits(compiled, ["reference", "host"], steps=1)
    assert report.differing_bits == 0, report.first_difference


@pytest.mark.parametrize("way", sorted(_WAYS))
def test_every_optimizer_and_loss_is_the_same_to_the_bit(way: str) -> None:
    from toolkit.pipeline import compile_model

    compiled = compile_model("digits-cnn", Options(train="all", batch=2, training=_WAYS[way]))
    report = verify_bits(compiled, ["reference", "host"], steps=6)
    assert report.differing_bits == 0, report.first_difference
