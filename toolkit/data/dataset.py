"""Samples and labels in the layout of the model's input, checked: the one door for data of every format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.data.formats import Raw, read_csv, read_idx, read_images, read_npz
from toolkit.errors import UserError
from toolkit.ir import Array, TensorType

FORMATS = ".npz (x, y), idx (images,labels or a folder with both; .gz too), a folder with one folder per class, or .csv"


@dataclass(frozen=True)
class Dataset:
    """Samples and what they should give.

    Attributes:
        x: float32 [N, ...], as the ONNX model takes it.
        y: int32 [N] class numbers, or float32 [N, ...] targets.
        notes: what was done to the data that its owner should know of.
    """

    x: Array
    y: Array
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.x)

    def take(self, indices: Array) -> Dataset:
        """Some of the samples."""
        return Dataset(self.x[indices], self.y[indices], self.notes)

    def split(self, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
        """All but a fraction, and that fraction, drawn by the seed."""
        order = np.random.default_rng(seed).permutation(len(self))
        held = round(len(self) * fraction)
        return self.take(np.sort(order[held:])), self.take(np.sort(order[:held]))


def load_dataset(path: str | Path, input_type: TensorType, classes: int | None) -> Dataset:
    """Reads samples for a model.

    Values of type uint8 are pixels: they are divided by 255.

    Args:
        path: see FORMATS.
        input_type: the model's input as ONNX has it; its first dimension is the batch.
        classes: how many classes the labels may name; None where the labels are targets (regression).

    Raises:
        UserError: the file cannot be read, the shape is not the model's, a label is out of range, or a value is NaN.
    """
    where = str(path)
    raw = _read(where, input_type)
    x = _as_input(raw, input_type, where)
    y = _targets(raw.y, x, where) if classes is None else _class_numbers(raw.y, classes, raw.first_line, where)
    if len(x) != len(y):
        raise UserError(f"{len(x):,} samples but {len(y):,} labels", where=where)
    return Dataset(x, y, raw.notes)


def _read(where: str, input_type: TensorType) -> Raw:
    path = Path(where)
    if "," in where and not path.exists():
        images, _, labels = where.partition(",")
        return read_idx(Path(images), Path(labels))
    if not path.exists():
        raise UserError("no such file", where=where, hint=f"data is {FORMATS}")
    if path.is_dir():
        pair = _idx_pair(path)
        return read_idx(*pair) if pair else read_images(path, input_type.shape[1:])
    if path.suffix == ".npz":
        return read_npz(path)
    if path.suffix == ".csv":
        return read_csv(path)
    if "idx" in path.name or "ubyte" in path.name:
        hint = f"--data {path.name},LABELS"
        raise UserError("images and labels are two files in the idx format", where=where, hint=hint)
    raise UserError("of no format that can be read", where=where, hint=f"data is {FORMATS}")


def _idx_pair(folder: Path) -> tuple[Path, Path] | None:
    """Images and labels of a folder as MNIST comes; None where it holds no idx files."""
    images = sorted(p for p in folder.iterdir() if "idx3" in p.name or "idx4" in p.name)
    labels = sorted(p for p in folder.iterdir() if "idx1" in p.name)
    if not images and not labels:
        return None
    if len(images) != 1 or len(labels) != 1:
        found = f"{len(images)} files of images and {len(labels)} of labels"
        raise UserError(found, where=str(folder), hint="name the two you mean: --data IMAGES,LABELS")
    return images[0], labels[0]


def _as_input(raw: Raw, input_type: TensorType, where: str) -> Array:
    """Samples as float32 in the shape of the model's input; NaN refused."""
    wanted = input_type.shape[1:]
    x = raw.x
    if x.dtype.kind not in "biuf":
        raise UserError(f"the samples are {x.dtype}, not numbers", where=where)
    if len(x) == 0:
        raise UserError("holds no samples", where=where)
    if not _same_samples(x.shape[1:], wanted):
        found, shape = _shown(("N", *x.shape[1:])), _shown(("N", *wanted))
        raise UserError(f"samples are {found}; the model takes {shape}", where=where)
    # The shape of a sample is given rather than inferred, for a set may be large and is copied once here at most.
    values = x.reshape((len(x), *wanted))
    values = values / np.float32(255) if x.dtype == np.uint8 else np.asarray(values, np.float32)
    bad = ~np.isfinite(values)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        first = raw.first_line + index[0]
        place = f"line {first}" if raw.first_line else f"sample {index[0]}, element {list(index[1:])}"
        count = int(bad.sum())
        raise UserError(f"{count:,} values are NaN or infinite, the first in {place}", where=where)
    return np.ascontiguousarray(values, np.float32)


def _same_samples(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Equal, equal but for axes of one, or the same number of values where one of both is flat."""
    if [n for n in found if n != 1] == [n for n in wanted if n != 1]:
        return True
    return 1 in (len(found), len(wanted)) and int(np.prod(found)) == int(np.prod(wanted))


def _class_numbers(y: Array | None, classes: int, first_line: int, where: str) -> Array:
    if y is None:
        raise UserError("holds no labels", where=where, hint="name the arrays x and y; --loss mse needs none")
    values = y.reshape(len(y)) if y.ndim == 2 and y.shape[1] == 1 else y
    if values.ndim == 2 and values.shape[1] == classes and np.all((values == 0) | (values == 1)):
        values = values.argmax(axis=1)
    if values.ndim != 1:
        raise UserError(
            f"labels are {_shown(('N', *y.shape[1:]))}; one class number per sample is wanted",
            where=where,
            hint="--loss mse or --loss soft-cross-entropy take targets",
        )
    if values.dtype.kind not in "biu" and not (values.dtype.kind == "f" and np.array_equal(values, np.rint(values))):
        raise UserError("labels are no whole numbers", where=where, hint="--loss mse takes targets")
    wrong = np.flatnonzero((values < 0) | (values >= classes))
    if wrong.size:
        first = int(wrong[0])
        place = f"line {first_line + first}" if first_line else f"sample {first}"
        raise UserError(
            f"label {int(values[first])} in {place} is out of range: the model's classes are 0 to {classes - 1}",
            where=where,
            hint=f"{wrong.size:,} of {len(values):,} labels are; is this the right model?",
        )
    return values.astype(np.int32)


def _targets(y: Array | None, x: Array, where: str) -> Array:
    """Targets as they are; the samples themselves where there are none (an autoencoder)."""
    if y is None:
        return x
    if y.dtype.kind not in "biuf":
        raise UserError(f"targets are {y.dtype}, not numbers", where=where)
    values = np.asarray(y, np.float32)
    if not np.isfinite(values).all():
        raise UserError("targets are NaN or infinite", where=where)
    return values


def _shown(shape: tuple[object, ...]) -> str:
    return "x".join(str(n) for n in shape)
