"""A ReLU's gradient taken behind the max pool that follows: the same bits, from fewer elements."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.support import assert_same_bits, floats_with_special
from tests.test_ops_pool import CHANNELS, RANKS, fits, windows
from toolkit.ir import Graph, TensorType
from toolkit.ops.base import Op
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.clip import ClipGrad
from toolkit.ops.max_pool import MaxPool, MaxPoolGrad, MaxPoolTraining
from toolkit.ops.pooling import Window
from toolkit.ops.relu import ReluGrad
from toolkit.pipeline import Options, compile_model
from toolkit.sim.parity import verify_bits
from toolkit.sim.reference import run_graph
from toolkit.train.pooled_masks import mask_behind_pools

BY_TWO = Window((2, 2), (2, 2), (1, 1), (0, 0), (0, 0))


def _step(window: Window, x: TensorType, mask: Op) -> Graph:
    """The gradients of a max pool and of what is in front of it, as they are derived."""
    builder = GraphBuilder("step")
    y = builder.input("y", x)
    pooled, position = builder.apply(MaxPoolTraining(window), y, name="pool", outputs=("pooled", "position"))
    dy = builder.input("dy", builder.type(pooled))
    (spread,) = builder.apply(MaxPoolGrad(window, x.shape), dy, position, name="spread")
    builder.outputs = [*builder.apply(mask, spread, y, name="mask", outputs=("dx",)), pooled]
    return builder.finish()


@given(
    RANKS.flatmap(windows), CHANNELS, st.sampled_from([ReluGrad(), ClipGrad(1e-45, 5.9), ClipGrad(-1.0, 1.0)]),
    st.integers(0, 999),
)  # fmt: skip
def test_no_bit_changes(case: Any, channels: int, mask: Op, seed: int) -> None:
    window, sizes = case
    x = TensorType((2, *sizes, channels))
    assume(fits(MaxPool(window), *x.shape))
    plain = _step(window, x, mask)
    moved = mask_behind_pools(plain)
    size = plain.type("dy").size
    assert (moved != plain) == (size <= x.size)
    # Not a number and infinities too, in both: what is masked must not leave a trace.
    given = {"y": floats_with_special(seed, *x.shape), "dy": floats_with_special(seed + 1, *plain.type("dy").shape)}
    assert_same_bits(run_graph(moved, given)["dx"], run_graph(plain, given)["dx"])


def test_the_mask_is_of_the_pooled_values_and_what_it_gave_keeps_its_name() -> None:
    moved = mask_behind_pools(_step(BY_TWO, TensorType((1, 8, 8, 3)), ReluGrad()))
    assert [(node.name, node.inputs[-1], node.outputs) for node in moved.nodes[1:]] == [
        ("mask", "pooled", (moved.nodes[2].inputs[0],)), ("spread", "position", ("dx",)),
    ]  # fmt: skip
    assert moved.type("dx").shape == (1, 8, 8, 3)


def test_a_gradient_that_something_else_reads_stays_as_it_is() -> None:
    builder = GraphBuilder.resume(_step(BY_TWO, TensorType((1, 8, 8, 3)), ReluGrad()))
    (spread,) = (node.outputs[0] for node in builder.nodes if node.name == "spread")
    builder.outputs.append(spread)
    graph = builder.finish()
    assert mask_behind_pools(graph) == graph


def test_a_mask_of_anything_but_what_was_pooled_stays_in_front() -> None:
    builder = GraphBuilder("step")
    x = TensorType((1, 4, 4, 2))
    y, other = builder.input("y", x), builder.input("other", x)
    pooled, position = builder.apply(MaxPoolTraining(BY_TWO), y, name="pool")
    (spread,) = builder.apply(MaxPoolGrad(BY_TWO, x.shape), pooled, position, name="spread")
    builder.outputs = list(builder.apply(ReluGrad(), spread, other, name="mask"))
    graph = builder.finish()
    assert mask_behind_pools(graph) == graph


@pytest.mark.parametrize("model", ["cnn", "digits-cnn"])
def test_no_bit_an_element_is_kept_of_what_is_pooled(model: str) -> None:
    compiled = compile_model(model, Options(train="all"))
    kernels = [step.kernel for step in compiled.program.functions["train_step"].steps]
    assert "et_mask_f32" not in kernels and any(kernel.startswith("et_max_pool_grad") for kernel in kernels)
    report = verify_bits(compiled, ["reference", "host"], steps=3)
    assert report.differing_bits == 0 < report.compared_bits
