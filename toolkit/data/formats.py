"""Readers, one per format: each gives arrays as the file has them."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.data.arrays import load_npz
from toolkit.errors import UserError
from toolkit.ir import Array

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".webp")

_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclass(frozen=True)
class Raw:
    """Samples and labels as a file has them.

    Attributes:
        first_line: line of the first sample in a text file, for messages; 0 elsewhere.
    """

    x: Array
    y: Array | None
    notes: tuple[str, ...] = ()
    first_line: int = 0


def read_npz(path: Path) -> Raw:
    """Arrays x and y; or, whatever their names, the only two (samples are the larger one) or the only one."""
    arrays = load_npz(path)
    names = {name.lower(): name for name in arrays}
    if "x" in names:
        return Raw(arrays[names["x"]], arrays[names["y"]] if "y" in names else None)
    if len(arrays) == 1:
        return Raw(next(iter(arrays.values())), None)
    if len(arrays) == 2:
        first, second = arrays.values()
        return Raw(first, second) if first.size >= second.size else Raw(second, first)
    raise UserError(f"holds the arrays {', '.join(arrays)}", where=str(path), hint="name samples x and labels y")


def read_idx(images: Path, labels: Path) -> Raw:
    """The two files of MNIST and its kin."""
    return Raw(_read_idx_file(images), _read_idx_file(labels))


def _read_idx_file(path: Path) -> Array:
    """An array in the idx format (magic 00 00 type rank, sizes, values; all big-endian), gzip-compressed or not."""
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise UserError("is a damaged gzip file", where=str(path), hint="fetch it again") from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise UserError("is not in the idx format", where=str(path))
    dtype, rank = np.dtype(_IDX_TYPES[content[2]]), content[3]
    start = 4 + 4 * rank
    shape = tuple(int(n) for n in np.frombuffer(content[4:start], ">u4")) if len(content) >= start else ()
    wanted = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if len(shape) != rank or len(content) - start != wanted:
        found = f"{len(content) - start:,} bytes of values instead of {wanted:,}"
        raise UserError(f"is truncated: {found}", where=str(path), hint="fetch it again")
    values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="))


def read_csv(path: Path) -> Raw:
    """Numbers, one sample per line, the label last; a first line of names is skipped."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", where=str(path)) from None
    first = 1 if lines and not _is_numbers(lines[0]) else 0
    rows: list[list[float]] = []
    while lines and not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines[first:], first + 1):
        try:
            rows.append([float(cell) for cell in line.split(",")])
        except ValueError:
            raise UserError(f"line {number} holds something other than numbers", where=str(path)) from None
        if len(rows[-1]) != len(rows[0]):
            found = f"line {number} has {len(rows[-1])} values, the first {len(rows[0])}"
            raise UserError(found, where=str(path))
    if not rows or len(rows[0]) < 2:
        raise UserError("holds no samples: each line is the values and then the label", where=str(path))
    table = np.array(rows, np.float64)
    return Raw(table[:, :-1], table[:, -1], first_line=first + 1)


def _is_numbers(line: str) -> bool:
    try:
        [float(cell) for cell in line.split(",")]
    except ValueError:
        return False
    return True


def read_images(folder: Path, sample: tuple[int, ...]) -> Raw:
    """A folder with one folder per class, in the order of their names.

    Args:
        sample: the model's (channels, height, width): images become that, grey for one channel.

    Raises:
        UserError: the model takes no images; no classes; a file that is no image; Pillow is missing.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise UserError("reading images needs Pillow", where=str(folder), hint="pip install pillow") from None
    if len(sample) != 3 or sample[0] not in (1, 3):
        shape = "x".join(map(str, ("N", *sample)))
        raise UserError(f"the model takes {shape}, not images", where=str(folder))
    channels, height, width = sample
    classes = sorted(p for p in folder.iterdir() if p.is_dir())
    if not classes:
        raise UserError("holds no folder per class", where=str(folder))
    pixels: list[Array] = []
    labels: list[int] = []
    resized = 0
    for number, place in enumerate(classes):
        for path in sorted(p for p in place.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES):
            try:
                with Image.open(path) as opened:
                    image = opened.convert("L" if channels == 1 else "RGB")
            except (UnidentifiedImageError, OSError):
                raise UserError("is not an image, or a damaged one", where=str(path)) from None
            if image.size != (width, height):
                image = image.resize((width, height), Image.Resampling.BILINEAR)
                resized += 1
            pixels.append(np.asarray(image, np.uint8).reshape(height, width, channels).transpose(2, 0, 1))
            labels.append(number)
    if not pixels:
        raise UserError("holds no images", where=str(folder), hint=f"files ending in {', '.join(IMAGE_SUFFIXES)}")
    notes = [f"{folder}: classes {', '.join(f'{i} {p.name}' for i, p in enumerate(classes))}"]
    notes += [f"{folder}: {resized:,} of {len(pixels):,} images resized to {height}x{width}"] if resized else []
    return Raw(np.stack(pixels), np.array(labels, np.int32), tuple(notes))
