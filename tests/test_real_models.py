"""Models made by others: every one is imported and agrees with its vectors, or is refused for the reason given here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.data_folder import FOLDER, NEEDS_DATA
from toolkit.errors import UserError
from toolkit.frontend import load_model
from toolkit.frontend.coverage import run_reference
from toolkit.frontend.export import export_model
from toolkit.ir import Array

pytestmark = NEEDS_DATA
INTEGERS = "only float32 inputs are supported"
REFUSED = {
    "model_hls4ml_open/separable_conv_model_ch_last.onnx": "the domain 'qonnx.custom_op.general'",
    "model_hls4ml_open/three_layer_bn_keras.onnx": "does not fit the channels",  # nor does any other runtime run it
    "model_match_fp16_convnext_block/model.onnx": INTEGERS,
    "model_match_fp16_dscnn/model.onnx": INTEGERS,
    "model_match_fp16_resnet_block/model.onnx": INTEGERS,
    "model_match_int_carfield/model.onnx": INTEGERS,
    "model_match_int_drone_regressor/model.onnx": "is cast to",
    "model_match_int_kws/model.onnx": INTEGERS,
    "model_mlperf_ad/ad_int8_qdq.onnx": INTEGERS,
    "model_mlperf_kws/kws_int8_qdq.onnx": INTEGERS,
    "model_qonnx_tfc_2w2a/model.onnx": "the domain 'onnx.brevitas'",
}
# Attention over heads: a transposition per operand is in the nature of it. Sub-pixel convolution: one of its result.
TRANSPOSED = {"model_sdp_attention/model.onnx": 4, "model_espcn_subpixel_float/model.onnx": 1}


def models() -> list[str]:
    """Every ONNX file of the data folder."""
    return sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.glob("*/*.onnx")) if FOLDER else []


def vectors(model: Path) -> Iterator[tuple[dict[str, Array], dict[str, Array]]]:
    """Inputs and outputs that other runtimes gave; by name, or by the name "" where a model has only one."""
    from onnx import TensorProto, numpy_helper

    def tensor(path: Path) -> Array:
        proto = TensorProto()
        proto.ParseFromString(path.read_bytes())
        return numpy_helper.to_array(proto)

    if (file := model.with_name(f"{model.stem}.ortvec.npz")).exists():
        with np.load(file) as data:
            inputs = {name[3:]: data[name] for name in data.files if name.startswith("in:")}
            yield inputs, {name[4:]: data[name] for name in data.files if name.startswith("out:")}
    if (file := model.with_name(f"{model.stem}_vectors.npz")).exists():
        with np.load(file) as data:
            # Not output_tflite: its hybrid kernels quantize activations, which the ONNX file does not.
            yield {"": data["input"]}, {"": data["output_ort"]}
    for folder in sorted(model.parent.glob("test_data_set_*")):
        yield {"": tensor(folder / "input_0.pb")}, {"": tensor(folder / "output_0.pb")}


@pytest.mark.parametrize("name", models())
def test_a_model_agrees_with_other_runtimes_or_is_refused_for_a_known_reason(name: str) -> None:
    assert FOLDER is not None
    if name in REFUSED:
        with pytest.raises(UserError) as caught:
            load_model(FOLDER / name)
        assert REFUSED[name] in str(caught.value)
        return
    graph = load_model(FOLDER / name)
    transpositions = [node.name for node in graph.nodes if node.op.name == "Transpose"]
    assert len(transpositions) == TRANSPOSED.get(name, 0), transpositions
    for inputs, outputs in vectors(FOLDER / name):
        first = next(iter(inputs.values()))
        fixed = graph.interface[graph.inputs[0]].shape[0]
        run = graph if fixed == first.shape[0] else load_model(FOLDER / name, batch=first.shape[0])
        sides = [run.interface[tensor] for tensor in run.inputs]
        feeds = {side.name: side.inward(inputs.get(side.name, first)) for side in sides}
        values = run_reference(run, feeds)
        for tensor in run.outputs:
            side = run.interface[tensor]
            wanted = outputs.get(side.name, next(iter(outputs.values())))
            found = side.outward(values[tensor]).reshape(wanted.shape)
            assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("name", [name for name in models() if name not in REFUSED])
def test_an_export_with_the_weights_as_they_were_computes_the_same_elsewhere(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    assert FOLDER is not None
    graph = load_model(FOLDER / name)
    trained = {parameter: graph.data[parameter] for parameter in graph.parameters()}
    export_model(FOLDER / name, graph, trained, tmp_path / "out.onnx")
    random = np.random.default_rng(0)
    sides = [graph.interface[tensor] for tensor in graph.inputs]
    feeds = {side.name: random.standard_normal(side.shape).astype(np.float32) for side in sides}
    before, after = (
        runtime.InferenceSession(path).run(None, feeds) for path in (FOLDER / name, tmp_path / "out.onnx")
    )
    for first, second in zip(before, after, strict=True):
        np.testing.assert_allclose(first, second, 1e-5, 1e-5)


def test_most_models_have_vectors() -> None:
    assert FOLDER is not None
    with_vectors = [name for name in models() if name not in REFUSED and list(vectors(FOLDER / name))]
    assert len(with_vectors) >= 10
