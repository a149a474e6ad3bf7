"""Fine-tuning on emulated boards over their serial lines, on real data: what comes home is what the board had.

A model that has learnt upright digits is given digits that are turned by 90 degrees, as from a camera that was mounted
the wrong way; it learns them on the board, and the ONNX file that is pulled is run by onnxruntime.
"""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from codegen.compilers import find_riscv_compilers
from tests.data_folder import FOLDER, NEEDS_DATA
from toolkit.cli import main
from toolkit.data.digits import load_digits
from toolkit.ir import Array

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("qemu-system-riscv32") is None, reason="QEMU is not installed"),
    pytest.mark.skipif(not find_riscv_compilers(), reason="no compiler for RISC-V is installed"),
]
# Of each data set, after 1,000 for the lesson on the PC and up to 500 for that on the board.
TESTED = 150


@dataclass(frozen=True)
class Images:
    """Images [N, 1, H, W] in [0, 1], and their digits."""

    x: Array
    y: Array

    def turned(self, first: int, last: int) -> Images:
        """Some of them, turned by 90 degrees."""
        return Images(np.ascontiguousarray(np.rot90(self.x[first:last], axes=(2, 3))), self.y[first:last])

    def save(self, path: Path) -> str:
        """A file as users have them."""
        np.savez(path, x=self.x, y=self.y.astype(np.int64))
        return str(path)


def handwritten() -> Images:
    """Scans of 1,797 digits (UCI), which come with scikit-learn."""
    data = load_digits()
    return Images(data.x, data.y)


def mnist() -> Images:
    """The 10,000 images of the test set of MNIST."""
    place = FOLDER / "data_mnist"
    pixels = np.frombuffer(gzip.decompress((place / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((place / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    return Images((pixels.reshape(-1, 1, 28, 28) / 255).astype(np.float32), labels.astype(np.int32))


def right_answers(model: Path, images: Images) -> int:
    """How many of them onnxruntime gets right, one by one."""
    session = pytest.importorskip("onnxruntime").InferenceSession(str(model))
    source = session.get_inputs()[0]
    shape = (1, *source.shape[1:])
    predicted = [session.run(None, {source.name: x.reshape(shape)})[0].argmax() for x in images.x]
    return int(np.sum(np.array(predicted) == images.y))


def fine_tuned(
    images: Images, model: str, scheme: str, target: str, folder: Path, capsys: pytest.CaptureFixture[str], steps: int
) -> None:
    """Trains upright on this PC, turned on the board; holds what the board said against what was brought home."""
    base, pulled = folder / "base.onnx", folder / "pulled.onnx"
    upright = Images(images.x[:1000], images.y[:1000]).save(folder / "upright.npz")
    learn = ["--data", upright, "--optimizer", "adam", "--epochs", "10", "-o", str(base), "--json"]
    assert main(["train", model, *learn]) == 0
    capsys.readouterr()
    lesson, test = images.turned(1000, 1000 + steps), images.turned(1500, 1500 + TESTED)
    words = ["finetune", str(base), "--train", scheme, "--target", target, "--batch", "1", "--lr", "0.02", "--shadow"]
    words += ["--data", lesson.save(folder / "lesson.npz"), "--eval", test.save(folder / "test.npz")]
    assert main([*words, "--pull", str(pulled), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    before, after = right_answers(base, test), right_answers(pulled, test)
    print(f"{model} on {target}: {before / TESTED:.2%} before, {told['accuracy']:.2%} after, {told['seconds']} s")
    assert told["steps"] == steps and told["differing_bits"] == 0 and told["compared_bits"] > 10_000
    assert round(told["accuracy"] * len(test.y)) == after, "the board and onnxruntime have as many right answers"
    assert after > 2 * before, "the board has learnt"


@pytest.mark.parametrize("target", ["qemu-rv32", "hifive1"])
def test_handwritten_digits(target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fine_tuned(handwritten(), "digits-cnn", "all", target, tmp_path, capsys, 500)


class TestPublished:
    pytestmark = NEEDS_DATA

    # 16 KiB of RAM hold the last layer of the perceptron and its image of 3 KiB.
    CASES = (("qemu-rv32", "lenet", "all"), ("hifive1", "mlp", "last:1"))

    @pytest.mark.parametrize(("target", "model", "scheme"), CASES)
    def test_mnist(
        self, target: str, model: str, scheme: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fine_tuned(mnist(), model, scheme, target, tmp_path, capsys, 250)
