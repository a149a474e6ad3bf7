"""Loaders: every format gives the same samples, in the layout of the model; whatever is wrong is refused by name."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.data import load_dataset, load_named_arrays
from toolkit.data.dataset import Dataset
from toolkit.errors import UserError
from toolkit.ir import Array, TensorType

INPUT = TensorType((4, 1, 5, 6))


def idx(values: Array) -> bytes:
    code = {np.dtype("u1"): 0x08, np.dtype("i4"): 0x0C, np.dtype("f4"): 0x0D}[values.dtype]
    header = bytes([0, 0, code, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(values.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def pictures() -> tuple[Array, Array]:
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (9, 1, 5, 6)).astype(np.uint8), np.arange(9) % 3


def test_every_format_gives_the_same_samples(tmp_path: Path, pictures: tuple[Array, Array]) -> None:
    image = pytest.importorskip("PIL.Image")
    x, y = pictures
    y = np.sort(y)
    np.savez(tmp_path / "bytes.npz", x=x, y=y)
    np.savez(tmp_path / "floats.npz", pictures=x / np.float32(255), digits=y)
    (tmp_path / "images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(x[:, 0])))
    (tmp_path / "labels-idx1-ubyte").write_bytes(idx(y.astype(np.uint8)))
    for number, (picture, label) in enumerate(zip(x, y, strict=True)):
        place = tmp_path / "folder" / f"class {label}"
        place.mkdir(parents=True, exist_ok=True)
        image.fromarray(picture[0]).save(place / f"{number}.png")
    rows = ["a," * 30 + "label", *(",".join(map(str, (*p.reshape(-1), n))) for p, n in zip(x / 255, y, strict=True))]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")

    pair = f"{tmp_path / 'images-idx3-ubyte.gz'},{tmp_path / 'labels-idx1-ubyte'}"
    for source in ("bytes.npz", "floats.npz", pair, "folder", "rows.csv"):
        data = load_dataset(source if "," in source else tmp_path / source, INPUT, 3)
        assert data.x.dtype == np.float32 and data.x.shape == x.shape, source
        np.testing.assert_array_equal(data.x, x.astype(np.float32) / np.float32(255), source)
        np.testing.assert_array_equal(data.y, y, source)
        assert data.y.dtype == np.int32


def test_a_folder_of_idx_files_is_found(tmp_path: Path, pictures: tuple[Array, Array]) -> None:
    x, y = pictures
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(x[:, 0])))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(y.astype(np.uint8))))
    assert len(load_dataset(tmp_path, INPUT, 3)) == 9


def test_flat_samples_suit_images_and_the_other_way_round(tmp_path: Path) -> None:
    x = np.arange(60, dtype=np.float32).reshape(2, 30)
    np.savez(tmp_path / "d.npz", x=x, y=np.zeros(2, int))
    assert load_dataset(tmp_path / "d.npz", INPUT, 2).x.shape == (2, 1, 5, 6)
    np.savez(tmp_path / "d.npz", x=x.reshape(2, 5, 6), y=np.zeros(2, int))
    assert load_dataset(tmp_path / "d.npz", TensorType((1, 30)), 2).x.shape == (2, 30)


def test_colour_images_are_resized_and_that_is_said(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        image.fromarray(np.full((10, 8, 3), (255, 0, 51), np.uint8)).save(tmp_path / name / "a.png")
    data = load_dataset(tmp_path, TensorType((1, 3, 4, 4)), 2)
    assert data.x.shape == (2, 3, 4, 4) and list(data.y) == [0, 1]
    np.testing.assert_array_equal(data.x[0, :, 0, 0], np.array([1, 0, 51 / 255], np.float32))
    assert any("0 cats, 1 dogs" in note for note in data.notes) and any("resized" in note for note in data.notes)


def test_one_hot_labels_are_class_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 1, 5, 6), np.float32), y=np.eye(3)[[2, 0, 1]])
    assert list(load_dataset(tmp_path / "d.npz", INPUT, 3).y) == [2, 0, 1]


def test_targets_may_be_absent_for_an_autoencoder(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((3, 1, 5, 6)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x)
    data = load_dataset(tmp_path / "d.npz", INPUT, None)
    np.testing.assert_array_equal(data.y, x)
    with pytest.raises(UserError, match="no labels"):
        load_dataset(tmp_path / "d.npz", INPUT, 3)


@given(st.integers(1, 200), st.floats(0, 0.9), st.integers(0, 2**32 - 1))
def test_a_split_loses_and_doubles_nothing(count: int, fraction: float, seed: int) -> None:
    data = Dataset(np.arange(count, dtype=np.float32), np.arange(count))
    kept, held = data.split(fraction, seed)
    assert sorted([*kept.y, *held.y]) == list(range(count)) and len(held) == round(count * fraction)
    assert np.array_equal(data.split(fraction, seed)[1].y, held.y)


def refused(path: Path | str, message: str, input_type: TensorType = INPUT, classes: int | None = 3) -> UserError:
    with pytest.raises(UserError, match=message) as caught:
        load_dataset(path, input_type, classes)
    assert caught.value.where
    return caught.value


def test_wrong_values_are_refused_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    x, y = np.zeros((4, 1, 5, 6), np.float32), np.array([0, 1, 2, 1])

    def saved(x: Array, y: Array) -> Path:
        np.savez(path, x=x, y=y)
        return path

    refused(saved(x.reshape(4, 1, 6, 5), y), "samples are Nx1x6x5; the model takes Nx1x5x6")
    error = refused(saved(x, np.array([0, 3, -1, 1])), "label 3 in sample 1 is out of range: .* 0 to 2")
    assert error.hint and "2 of 4" in error.hint
    refused(saved(x, np.array([0, 0.5, 1, 1])), "no whole numbers")
    refused(saved(x, y[:3]), "4 samples but 3 labels")
    refused(saved(x, np.zeros((4, 2))), "labels are Nx2")
    refused(saved(x[:0], y[:0]), "no samples")
    x[2, 0, 3, 4] = np.nan
    refused(saved(x, y), r"NaN or infinite, the first in sample 2, element \[0, 3, 4\]")


def test_damaged_files_are_refused_by_name(tmp_path: Path, pictures: tuple[Array, Array]) -> None:
    x, y = pictures
    whole = idx(x[:, 0])
    (tmp_path / "labels").write_bytes(idx(y.astype(np.uint8)))
    for name, content, message in (
        ("short", whole[:-5], "truncated"),
        ("text", b"hello world", "not in the idx format"),
        ("gz", gzip.compress(whole)[:-20], "damaged gzip"),
        ("header", whole[:6], "truncated"),
    ):
        (tmp_path / name).write_bytes(content)
        refused(f"{tmp_path / name},{tmp_path / 'labels'}", message)
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 nothing")
    refused(tmp_path / "a.npz", "truncated")
    np.savez(tmp_path / "whole.npz", x=x, y=y)
    (tmp_path / "half.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-200])
    refused(tmp_path / "half.npz", "truncated")
    np.savez(tmp_path / "three.npz", a=x, b=y, c=y)
    refused(tmp_path / "three.npz", "holds the arrays a, b, c")
    np.savez(tmp_path / "objects.npz", x=np.array([{}], object), y=y)
    refused(tmp_path / "objects.npz", "plain arrays")
    refused(tmp_path / "missing.npz", "no such file")
    (tmp_path / "data.bin").write_bytes(b"")
    refused(tmp_path / "data.bin", "no format that can be read")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3\n4,5\n", "line 2 has 2 values"),
        ("a,b,label\n1,2,0\n1,x,1\n", "line 3 holds something other than numbers"),
        ("", "holds no samples"),
        ("1,nan,0\n", "NaN or infinite, the first in line 1"),
        ("p,q,label\n1,2,0\n1,2,9\n", "label 9 in line 3 is out of range"),
    ],
)
def test_csv_errors_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "d.csv").write_text(text)
    refused(tmp_path / "d.csv", message, TensorType((1, 2)), 2)


def test_a_folder_without_classes_or_with_a_broken_image_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    refused(tmp_path, "no folder per class")
    (tmp_path / "cat").mkdir()
    refused(tmp_path, "holds no images")
    (tmp_path / "cat" / "a.png").write_bytes(b"not an image")
    refused(tmp_path, "is not an image")
    refused(tmp_path, "not images", TensorType((1, 30)))


def test_inputs_are_found_by_name_with_and_without_the_prefix(tmp_path: Path) -> None:
    path = tmp_path / "in.npz"
    np.savez(path, **{"in:a": np.zeros(2), "b": np.ones(3), "out:y": np.ones(1)})
    found = load_named_arrays(path, ["a", "b"])
    assert found["a"].shape == (2,) and found["b"].shape == (3,)
    with pytest.raises(UserError, match="no array for the input 'c'") as caught:
        load_named_arrays(path, ["c"])
    assert caught.value.hint and "in:a" in caught.value.hint
