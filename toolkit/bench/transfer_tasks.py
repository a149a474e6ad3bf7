"""What is transferred to what: models, data, how they are trained, and the ways of training that are compared.

    mobilenetv2   CIFAR: trained on airplane, automobile, bird, cat, deer; transferred to dog, frog, horse, ship, truck
    resnet8       the same; the budgets are of the arena alone
    lenet         MNIST: trained on upright digits, transferred to digits turned by 90 degrees
    ds-cnn        keywords: trained on five words, transferred to five others with 30 recordings of each
    digits-cnn    the digits of scikit-learn, 0 to 4 and then 5 to 9: small, and needs no folder

Samples to transfer with come in three parts that share nothing: those that are trained on, held ones that only choose
the learning rate, and those for the test. Pixels are normalised with mean and deviation of the old samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.bench.sets import read_split
from toolkit.data import Dataset
from toolkit.data.digits import load_digits
from toolkit.fit.candidates import Candidate
from toolkit.ir import Array

KIB = 1024
# Frozen layers on int8, their ranges from so many of the new samples.
FROZEN_CODES = "int8:frozen,samples=16"


@dataclass(frozen=True)
class Parts:
    """The samples of one transfer; labels count from 0 in the old ones and again in the others."""

    old: Dataset
    train: Dataset
    held: Dataset
    test: Dataset

    @property
    def searched(self) -> Dataset:
        """What a search may see: all but the test."""
        x, y = np.concatenate([self.train.x, self.held.x]), np.concatenate([self.train.y, self.held.y])
        return Dataset(x, y)


@dataclass(frozen=True)
class Allowance:
    """What `auto` may use.

    Attributes:
        ram: bytes of weights and arena together.
        arena: bytes of the arena alone.
        codes: frozen layers may run on int8.
    """

    ram: int | None = None
    arena: int | None = None
    codes: bool = True

    @property
    def words(self) -> str:
        """Its name in the table."""
        if self.arena is not None:
            return f"auto, arena {self.arena // KIB} KiB"
        assert self.ram is not None
        return f"auto, {self.ram // KIB} KiB"


@dataclass(frozen=True)
class Task:
    """One transfer.

    Attributes:
        model: of the zoo, which is transferred.
        pretrained: of the zoo, which is trained on the old samples; where it is another one, it is the same model
            before its normalizations were folded.
        read: the samples, for a folder and a seed.
        old_epochs, old_rate: of the training on the old samples, in batches of 64 with momentum.
        epochs, rates: of the transfer, with plain SGD one sample at a time; the held samples choose the rate.
        ways: what is compared.
        allowances: what `auto` searches within.
        probe, probe_epochs: samples that each probe of the search trains on, and how often. The best three are then
            trained on all, for `epochs`.
        needs_folder: whether the samples come from the user's folder.
    """

    model: str
    pretrained: str
    summary: str
    read: Callable[[Path, int], Parts]
    old_epochs: int
    old_rate: float
    epochs: int
    rates: tuple[float, ...]
    ways: tuple[Candidate, ...]
    allowances: tuple[Allowance, ...]
    probe: int = 256
    probe_epochs: int = 2
    needs_folder: bool = True

    @property
    def by_arena(self) -> bool:
        """Whether the arena alone is compared, in place of weights and arena."""
        return any(each.arena is not None for each in self.allowances)


def row_name(way: Candidate) -> str:
    """Its name in the table."""
    text = way.scheme + (f", saved {way.save}" if way.save else "")
    return text + (", frozen int8" if way.quant == FROZEN_CODES else f", {way.quant}" if way.quant else "")


def _of_classes(data: Dataset, classes: range) -> Dataset:
    inside = np.isin(data.y, classes)
    return Dataset(data.x[inside], (data.y[inside] - classes.start).astype(np.int32))


def _parts(old: Dataset, train: Dataset, test: Dataset, held: float, seed: int) -> Parts:
    """Takes the held samples from those to train on, and normalises all."""
    rest, apart = train.split(held, seed)
    mean, deviation = old.x.mean(dtype=np.float64), old.x.std(dtype=np.float64)

    def scaled(data: Dataset) -> Dataset:
        x: Array = np.ascontiguousarray((data.x - mean) / deviation, np.float32)
        return Dataset(x, data.y)

    return Parts(scaled(old), scaled(rest), scaled(apart), scaled(test))


def _cifar(folder: Path, seed: int) -> Parts:
    split = read_split("cifar", folder, 0)
    train, test = Dataset(split.x, split.y), Dataset(split.test_x, split.test_y)
    new = _of_classes(train, range(5, 10))
    return _parts(_of_classes(train, range(5)), new, _of_classes(test, range(5, 10)), 0.2, seed)


def _mnist(folder: Path, seed: int) -> Parts:
    split = read_split("mnist", folder, 0)
    order = np.random.default_rng(seed).permutation(len(split.x))
    upright, given = order[:5000], order[5000:6000]
    turned = np.ascontiguousarray(np.rot90(split.x[given], axes=(2, 3)))
    turned_test = np.ascontiguousarray(np.rot90(split.test_x, axes=(2, 3)))
    old = Dataset(split.x[upright], split.y[upright])
    return _parts(old, Dataset(turned, split.y[given]), Dataset(turned_test, split.test_y), 0.3, seed)


def _kws(folder: Path, seed: int) -> Parts:
    split = read_split("kws", folder, 0)
    x, y = np.concatenate([split.x, split.test_x]), np.concatenate([split.y, split.test_y])
    once = np.sort(np.unique(x.reshape(len(x), -1), axis=0, return_index=True)[1])  # a few recordings come twice
    every = Dataset(x[once], y[once])
    new = _of_classes(every, range(5, 10))
    order = np.random.default_rng(seed).permutation(len(new))
    given, tested = [], []
    for word in range(5):
        own = order[new.y[order] == word]
        given += own[:45].tolist()
        tested += own[45:].tolist()
    train, test = new.take(np.sort(np.array(given))), new.take(np.sort(np.array(tested)))
    return _parts(_of_classes(every, range(5)), train, test, 1 / 3, seed)


def _digits(folder: Path, seed: int) -> Parts:
    every = load_digits()
    new = _of_classes(every, range(5, 10))
    train, test = new.split(0.5, seed)
    return _parts(_of_classes(every, range(5)), train, test, 0.3, seed)


def _ways(*schemes: str) -> tuple[Candidate, ...]:
    return tuple(Candidate(scheme) for scheme in schemes)


def _ram(*kib: int) -> tuple[Allowance, ...]:
    """Below: a quarter and a half of what training everything takes, so that no result has a say in it."""
    return tuple(Allowance(ram=each * KIB) for each in kib)


TASKS = {
    "mobilenetv2": Task(
        "mobilenetv2", "mobilenetv2", "CIFAR, five classes to the other five: 1,600 images to train on, 400 held, 500 "
        "to test", _cifar, 60, 0.05, 4, (0.01, 0.003, 0.001),
        _ways("all", "head", "bias", "bias+head", "last:11", "last:21", "blocks:1", "blocks:4", "blocks:7",
              "mobiletl:1", "mobiletl:4", "mobiletl:7", "mobiletl:11"),
        _ram(407, 814),
    ),
    "resnet8": Task(
        "resnet8", "resnet8-bn", "CIFAR, five classes to the other five: 1,600 images to train on, 400 held, 500 to "
        "test", _cifar, 40, 0.05, 3, (0.01, 0.003),
        _ways("all", "last:1", "bias", "last:3", "last:6", "blocks:1", "blocks:2", "mobiletl:1"),
        (Allowance(arena=256 * KIB, codes=False), Allowance(arena=128 * KIB)),
    ),
    "lenet": Task(
        "lenet", "lenet", "MNIST, upright digits to digits turned by 90 degrees: 700 images to train on, 300 held, "
        "10,000 to test", _mnist, 8, 0.02, 4, (0.05, 0.02, 0.005, 0.001),
        _ways("all", "head", "bias", "last:2", "last:3", "last:4", "blocks:1", "mobiletl:1"),
        _ram(66, 132), probe=350,
    ),
    "ds-cnn": Task(
        "ds-cnn", "ds-cnn-bn", "keywords, five words to five others: 150 recordings to train on, 75 held, about 180 to "
        "test", _kws, 40, 0.05, 40, (0.1, 0.03, 0.01, 0.003),
        _ways("all", "head", "bias", "last:3", "last:5", "last:7", "blocks:1", "mobiletl:1"),
        _ram(100, 200), probe=100, probe_epochs=10,
    ),
    "digits-cnn": Task(
        "digits-cnn", "digits-cnn", "digits of scikit-learn, 0 to 4 and then 5 to 9", _digits, 6, 0.05, 2,
        (0.03, 0.01), _ways("all", "head", "bias", "mobiletl:1"), _ram(16), probe=64, needs_folder=False,
    ),
}  # fmt: skip
