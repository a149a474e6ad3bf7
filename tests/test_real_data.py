"""Accuracy on real data, trained and measured in generated C, with the commands of the README."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.data_folder import FOLDER, NEEDS_DATA
from toolkit.cli import main
from toolkit.ir import Array
from toolkit.pipeline import Options, compile_model
from toolkit.sim.backend import open_backend
from toolkit.sim.trainer import accuracy

pytestmark = pytest.mark.slow


def _trained(capsys: pytest.CaptureFixture[str], *arguments: str) -> float:
    assert main(["train", *arguments, "--json"]) == 0
    return float(json.loads(capsys.readouterr().out)["accuracy"])


def _idx(path: Path, offset: int) -> Array:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=offset)


class TestPublished:
    pytestmark = NEEDS_DATA

    def test_keyword_spotting_on_its_published_cases(self) -> None:
        cases = []
        with tarfile.open(FOLDER / "data_kws01_mfcc" / "kws01.tar.gz") as archive:
            files = {Path(member.name).name: member for member in archive.getmembers() if member.isfile()}

            def read(name: str) -> bytes:
                stream = archive.extractfile(files[name])
                assert stream is not None
                return stream.read()

            for row in csv.reader(io.StringIO(read("y_labels.csv").decode())):
                if row:
                    cases.append((np.frombuffer(read(row[0].strip()), np.int8), int(row[2])))
        x = np.stack([(stored.astype(np.float32) - 83) * np.float32(0.5847) for stored, _ in cases])
        y = np.array([label for _, label in cases], np.int32)
        compiled = compile_model(FOLDER / "model_mlperf_kws" / "kws_float.onnx", Options())
        with open_backend(compiled, "host") as backend:
            reached = accuracy(backend, x.reshape(-1, 49, 10, 1), y)
        assert len(y) == 1000 and 0.900 <= reached <= 0.901

    def test_lenet_on_mnist(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = FOLDER / "data_mnist"
        given = np.load(folder / "mnist_train10k.npz")
        order = np.random.default_rng(0).permutation(10000)
        x = (given["x"][order].reshape(-1, 1, 28, 28) / 255).astype(np.float32)
        np.savez(tmp_path / "train.npz", x=x, y=given["y"][order].astype(np.int64))
        images = _idx(folder / "t10k-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
        labels = _idx(folder / "t10k-labels-idx1-ubyte.gz", 8)
        np.savez(tmp_path / "test.npz", x=(images / 255).astype(np.float32), y=labels.astype(np.int64))
        data = ["--data", str(tmp_path / "train.npz"), "--eval", str(tmp_path / "test.npz")]
        assert _trained(capsys, "lenet", *data, "--epochs", "5", "-o", str(tmp_path / "o.onnx")) >= 0.975


def test_digits_mean_of_five_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    x = (digits.images / 16).astype(np.float32)[:, None]
    np.savez(tmp_path / "digits.npz", x=x, y=digits.target.astype(np.int64))
    options = ["--optimizer", "adam", "--schedule", "linear", "--epochs", "40", "-o", str(tmp_path / "o.onnx")]
    reached = [
        _trained(capsys, "digits-cnn", "--data", str(tmp_path / "digits.npz"), *options, "--seed", str(seed))
        for seed in range(5)
    ]
    assert np.mean(reached) >= 0.975
