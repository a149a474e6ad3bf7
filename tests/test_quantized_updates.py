"""Plain SGD inside the weight gradient of integer codes: the bits of the two nodes, and less memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import StepRunner, assert_same_bits
from tests.test_integer_convolutions import Layer, layers
from toolkit.ir import Array, Graph, TensorType
from toolkit.lower import Memory, lower_function
from toolkit.ops.base import Run, StepAborted
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.quantized_conv import QuantizedConvGradWeight
from toolkit.ops.sgd import Sgd
from toolkit.ops.sgd_of_gradient import SgdOfGradient
from toolkit.pipeline import Compiled, Options, compile_model
from toolkit.quant import parse_plan
from toolkit.sim.parity import verify_bits
from toolkit.train.step import TrainingOptions

RATE = np.array(0.37, np.float32)


def updated_in_c(op: SgdOfGradient, operands: Sequence[Array], w: Array, fma: bool, small: bool) -> tuple[str, Array]:
    """Status and weights after the kernel ran; `small` takes the loops of a small core."""
    builder = GraphBuilder("one")
    names = [builder.input(f"in{i}", TensorType(x.shape, str(x.dtype))) for i, x in enumerate(operands)]
    names += [builder.state("w", w), builder.runtime("rate")]
    (output,) = builder.apply(op, *names, name="node")
    builder.outputs, builder.updates = [output], {"w": output}
    function = lower_function("infer", builder.finish(), Memory(frozenset(["w"]), frozenset()), with_outputs=False)
    values = {**{f"in{i}": x for i, x in enumerate(operands)}, "w": w, "rate": RATE}
    runner = StepRunner(function, values, fma, 0 if small else None)
    return runner.run(), runner.result(output)


def operands_of(layer: Layer, per_sample: bool) -> tuple[QuantizedConvGradWeight, list[Array]]:
    op = QuantizedConvGradWeight(*layer.attributes, kernel=layer.kernel, **layer.limits())
    return op, [layer.x(), layer.g(), layer.reals(), layer.reals(layer.batch) if per_sample else layer.reals()]


@settings(max_examples=25)
@given(layer=layers(), per_sample=st.booleans(), decay=st.sampled_from([0.0, 0.01]), flat=st.booleans())
def test_an_update_has_the_bits_of_gradient_and_optimizer(
    layer: Layer, per_sample: bool, decay: float, flat: bool
) -> None:
    gradient_op, operands = operands_of(layer, per_sample)
    shape = (*layer.kernel, layer.inside, layer.outside * layer.groups)
    w = layer.reals(int(np.prod(shape[:-1])), shape[-1]) if flat else layer.reals(*shape)
    op = SgdOfGradient(gradient_op, decay)
    for fma in (True, False):
        (dw,) = gradient_op.run(Run(fma), *operands)
        expected = Sgd(weight_decay=decay).run(Run(fma), w, dw.reshape(w.shape), RATE)[0]
        assert_same_bits(op.run(Run(fma), *operands, w, RATE)[0], expected)
        for small in (False, True):
            status, found = updated_in_c(op, operands, w, fma, small)
            assert status == "ET_OK"
            assert_same_bits(found, expected, f"{op} fma={fma} small core={small}")


@settings(max_examples=10)
@given(layer=layers(["int8"]), bad=st.sampled_from([np.inf, np.nan, 3e38]))
def test_weights_whose_gradient_is_not_finite_are_kept(layer: Layer, bad: float) -> None:
    gradient_op, operands = operands_of(layer, per_sample=True)
    operands[2], operands[3][-1] = np.array(1e4, np.float32), bad
    w = layer.reals(*layer.kernel, layer.inside, layer.outside * layer.groups)
    op = SgdOfGradient(gradient_op)
    (dw,) = gradient_op.run(Run(), *operands)
    expected, status = w, "ET_OK"
    if np.isfinite(dw).all():
        (expected,) = op.run(Run(), *operands, w, RATE)
    else:
        with pytest.raises(StepAborted, match="ET_NONFINITE_GRADIENT") as aborted:
            op.run(Run(), *operands, w, RATE)
        (expected,), status = aborted.value.updated, "ET_NONFINITE_GRADIENT"
    kept = ~np.isfinite(dw)
    assert_same_bits(expected[kept], w[kept])
    for small in (False, True):
        ended, found = updated_in_c(op, operands, w, True, small)
        assert ended == status
        assert_same_bits(found, expected, f"small core={small}")


def test_some_weights_are_kept_and_others_updated() -> None:
    gradient_op = QuantizedConvGradWeight((1, 1), (1, 1), (0, 0), (0, 0), kernel=(1, 1))
    x = np.array([1, 127], np.int8).reshape(1, 1, 1, 2)
    g = np.array([1, 1, 127], np.int8).reshape(1, 1, 1, 3)
    w = np.ones((2, 3), np.float32)
    operands = [x, g, np.array(1e36, np.float32), np.array(1, np.float32)]
    for small in (False, True):
        status, found = updated_in_c(SgdOfGradient(gradient_op), operands, w, True, small)
        assert status == "ET_NONFINITE_GRADIENT"
        assert (found == 1).tolist() == [[False] * 3, [False, False, True]]  # 127 * 127 * 1e36 alone overflows


def compiled(method: str, optimizer: str = "sgd", model: str = "lenet", batch: int | None = None) -> Compiled:
    training = TrainingOptions(optimizer=optimizer)
    return compile_model(model, Options("all", training=training, quant=parse_plan(method), batch=batch))


def fused_updates(step: Graph) -> list[QuantizedConvGradWeight]:
    ops = [node.op.gradient_op for node in step.nodes if isinstance(node.op, SgdOfGradient)]
    return [op for op in ops if isinstance(op, QuantizedConvGradWeight)]


def gradients(step: Graph) -> list[object]:
    return [node.op for node in step.nodes if isinstance(node.op, QuantizedConvGradWeight)]


@pytest.mark.parametrize("optimizer", ["sgd", "sgd:weight_decay=0.01"])
@pytest.mark.parametrize("batch", [None, 3])
def test_layers_of_signs_keep_no_gradient(optimizer: str, batch: int | None) -> None:
    model = compiled("dorefa:w1a2g6", optimizer, batch=batch)
    step = model.graphs["train_step"]
    assert len(fused_updates(step)) == 3 and not gradients(step)
    report = verify_bits(model, ["reference", "host"], steps=3)
    assert report.differing_bits == 0, report.first_difference


@pytest.mark.parametrize(("method", "optimizer"), [("dorefa:w2a4g8", "sgd"), ("dorefa:w1a2g6", "sgd:momentum=0.9")])
def test_what_stands_between_gradient_and_weights_keeps_them_apart(method: str, optimizer: str) -> None:
    step = compiled(method, optimizer).graphs["train_step"]
    assert len(gradients(step)) == 3 and not fused_updates(step)


@pytest.mark.parametrize("method", ["dorefa:w1a2g6,master=int16", "fixed8"])
def test_training_on_integers_needs_less_memory_than_on_floats(method: str) -> None:
    floats, codes = compile_model("lenet", Options("all")).program, compiled(method).program
    assert codes.arena_bytes + codes.params_bytes < 0.75 * (floats.arena_bytes + floats.params_bytes)
