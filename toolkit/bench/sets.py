"""Real data sets for measuring accuracy, read from a folder that the user has: nothing is downloaded.

    mnist   data_mnist/             mnist_train10k.npz (x, y) for training, t10k-*-ubyte.gz for testing
            mnist-flat: the same as 784 features, for mlp
    kws     data_kws01_mfcc/        kws01.tar.gz: 1000 int8 MFCC features of 49 x 10 with labels; five folds
    cifar   data_cifar10_jpeg_subset/   cifar10_jpeg_subset.tar.gz: 400 training and 100 test images per class

Samples are normalised with the mean and deviation of the training part, as one number each over all pixels.
"""

from __future__ import annotations

import csv
import gzip
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from toolkit.errors import UserError
from toolkit.ir import Array

KWS_ZERO, KWS_SCALE = 83, 0.58470
FOLDS = 5


@dataclass(frozen=True)
class Split:
    """Training and test samples.

    Attributes:
        x, test_x: float32 [N, channels, height, width], or [N, features].
        y, test_y: int32 [N].
    """

    x: Array
    y: Array
    test_x: Array
    test_y: Array


@dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
        splits: how many ways there are to split it.
        read: gives a split, from 0.
    """

    summary: str
    splits: int
    read: Callable[[Path, int], Split]


def _normalised(x: Array, y: Array, test_x: Array, test_y: Array) -> Split:
    mean, deviation = np.float64(x.mean(dtype=np.float64)), np.float64(x.std(dtype=np.float64))

    def scaled(values: Array) -> Array:
        return np.ascontiguousarray((values - mean) / deviation, np.float32)

    return Split(scaled(x), y.astype(np.int32), scaled(test_x), test_y.astype(np.int32))


def _mnist(folder: Path, split: int) -> Split:
    place = folder / "data_mnist"
    given = np.load(place / "mnist_train10k.npz")
    images = np.frombuffer(gzip.decompress((place / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((place / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    train = given["x"].reshape(-1, 1, 28, 28).astype(np.float64)
    return _normalised(train, given["y"], images.reshape(-1, 1, 28, 28).astype(np.float64), labels)


def _mnist_flat(folder: Path, split: int) -> Split:
    given = _mnist(folder, split)
    return replace(given, x=given.x.reshape(-1, 784), test_x=given.test_x.reshape(-1, 784))


def _kws(folder: Path, split: int) -> Split:
    samples, labels = [], []
    with tarfile.open(folder / "data_kws01_mfcc" / "kws01.tar.gz") as archive:
        members = {Path(member.name).name: member for member in archive.getmembers() if member.isfile()}

        def content(name: str) -> bytes:
            stream = archive.extractfile(members[name])
            assert stream is not None
            return stream.read()

        for row in csv.reader(io.StringIO(content("y_labels.csv").decode())):
            if row:
                samples.append(np.frombuffer(content(row[0].strip()), np.int8))
                labels.append(int(row[2]))
    x = (np.stack(samples).astype(np.float64) - KWS_ZERO) * KWS_SCALE
    x, y = x.reshape(-1, 1, 49, 10), np.array(labels)
    fold = np.random.default_rng(0).permutation(len(x)) % FOLDS
    return _normalised(x[fold != split], y[fold != split], x[fold == split], y[fold == split])


def _cifar(folder: Path, split: int) -> Split:
    from PIL import Image

    found: dict[str, tuple[list[Array], list[int]]] = {"train": ([], []), "test": ([], [])}
    with tarfile.open(folder / "data_cifar10_jpeg_subset" / "cifar10_jpeg_subset.tar.gz") as archive:
        members = sorted((m for m in archive.getmembers() if m.name.endswith(".jpg")), key=lambda m: m.name)
        classes = sorted({m.name.split("/")[1] for m in members})
        for member in members:
            part, name, _ = member.name.split("/")
            stream = archive.extractfile(member)
            assert stream is not None
            image = np.asarray(Image.open(io.BytesIO(stream.read())).convert("RGB"), np.float64)
            found[part][0].append(image.transpose(2, 0, 1))
            found[part][1].append(classes.index(name))
    train, test = found["train"], found["test"]
    return _normalised(np.stack(train[0]), np.array(train[1]), np.stack(test[0]), np.array(test[1]))


SETS = {
    "mnist": DataSet("MNIST, 10,000 images to train on and 10,000 to test", 1, _mnist),
    "mnist-flat": DataSet("MNIST, images as 784 numbers", 1, _mnist_flat),
    "kws": DataSet("keyword spotting, 1,000 MFCC features, five folds", FOLDS, _kws),
    "kws-saved": DataSet("keyword spotting, the first of the five folds", 1, _kws),
    "cifar": DataSet("CIFAR-10 subset, 4,000 images to train on and 1,000 to test", 1, _cifar),
}


def read_split(name: str, folder: Path, split: int) -> Split:
    """One split of a data set.

    Raises:
        UserError: its files are not in the folder.
    """
    try:
        return SETS[name].read(folder, split)
    except ImportError:
        raise UserError("images need Pillow", where=name, hint="pip install pillow") from None
    except (OSError, KeyError) as problem:
        raise UserError(
            f"the data set {name} cannot be read: {problem}",
            where=str(folder),
            hint="--data FOLDER or $EDGETRAIN_DATA names the folder with the data sets",
        ) from None
