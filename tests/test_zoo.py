"""The zoo: exact sizes, same bytes for the same seed, models that other runtimes read too."""

from __future__ import annotations

from math import prod

import pytest

from toolkit.errors import UserError
from toolkit.frontend import load_model
from toolkit.ops.base import Op
from toolkit.zoo import build, describe, nearest, zoo_names

# Multiply-accumulates and parameters of one sample; BatchNormalization folded in the MLPerf Tiny models.
SIZES = {
    "digits-cnn": (23_680, 1_898),
    "mnist-cnn": (1_117_056, 106_202),
    "mlp": (101_632, 101_770),
    "cnn": (290_080, 9_098),
    "lenet": (416_520, 61_706),
    "small-resnet": (579_744, 5_410),
    "ab-net": (1_282_624, 32_490),
    "ab-net-cifar": (2_877_440, 84_682),
    "autoencoder": (264_192, 265_864),
    "ds-cnn": (2_656_768, 22_604),
    "ds-cnn-bn": (2_656_768, 24_332),
    "mobilenetv1-0.25": (7_489_664, 210_850),
    "mobilenetv3-small": (2_344_960, 182_690),
    "mobilenetv3-small-96": (1_641_960, 179_978),
    "mobilenetv2": (2_063_104, 171_338),
    "mobilenetv2-96": (5_575_456, 168_626),
    "proxyless": (2_758_720, 261_170),
    "proxyless-96": (6_808_816, 258_458),
    "resnet8": (12_501_632, 77_706),
    "resnet8-bn": (12_501_632, 78_714),
}


def macs(name: str) -> int:
    """Of one sample of a zoo model."""
    graph = load_model(name)
    total = 0
    for node in graph.nodes:
        assert isinstance(node.op, Op)
        total += node.op.macs(*(None if x is None else graph.type(x) for x in node.inputs))
    return total


def test_sizes_are_known_for_every_model() -> None:
    assert set(SIZES) == set(zoo_names())


@pytest.mark.parametrize("name", zoo_names())
def test_macs_and_parameters_are_exact(name: str) -> None:
    parameters = sum(prod(tensor.dims) for tensor in build(name).graph.initializer)
    assert (macs(name), parameters) == SIZES[name]
    assert describe(name)


@pytest.mark.parametrize("name", zoo_names())
def test_models_have_no_transposition_and_at_most_one_flattening(name: str) -> None:
    names = [node.op.name for node in load_model(name).nodes]
    assert names.count("Transpose") == 0
    assert names.count("Reshape") <= 1


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not() -> None:
    first, again, other = (build("cnn", seed=seed).SerializeToString(deterministic=True) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("name", zoo_names())
def test_input_shape_and_classes_can_be_chosen(name: str) -> None:
    own = tuple(d.dim_value for d in build(name).graph.input[0].type.tensor_type.shape.dim[1:])
    wanted = (2, own[1] + 8, own[2] + 4) if len(own) == 3 else (own[0] + 3,)
    graph = load_model(build(name, wanted, classes=7))
    assert graph.interface[graph.inputs[0]].shape == (1, *wanted)
    assert graph.interface[graph.outputs[0]].shape == (1, 7)


def test_models_run_in_onnxruntime() -> None:
    runtime = pytest.importorskip("onnxruntime")
    import numpy as np

    for name in zoo_names():
        model = build(name)
        session = runtime.InferenceSession(model.SerializeToString())
        shape = [d.dim_value or 2 for d in model.graph.input[0].type.tensor_type.shape.dim]
        (output,) = session.run(None, {"input": np.ones(shape, np.float32)})
        assert output.shape[0] == 2
        assert np.isfinite(output).all()


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean resnet8"):
        build("resnet9")
    assert nearest("LeNet5") == "lenet"


def test_shapes_that_a_model_cannot_take_are_refused() -> None:
    with pytest.raises(UserError, match="channels x height x width"):
        build("cnn", (28, 28))
    with pytest.raises(UserError, match="too small"):
        build("lenet", (1, 8, 8))
    with pytest.raises(UserError, match="classes"):
        build("cnn", classes=0)
