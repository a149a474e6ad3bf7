"""Named arrays from .npz files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from toolkit.errors import UserError
from toolkit.ir import Array


def load_npz(path: Path) -> dict[str, Array]:
    """The arrays of a file, by name.

    Raises:
        UserError: it cannot be read, is no .npz file, or holds Python objects.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if isinstance(archive, np.ndarray):
                raise UserError("is a single array, not an .npz file", where=str(path), hint="use np.savez")
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise UserError("no such file", where=str(path)) from None
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        raise UserError("not an .npz file of plain arrays, or a truncated one", where=str(path)) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
    if not arrays:
        raise UserError("holds no arrays", where=str(path))
    return arrays


def load_named_arrays(path: Path, names: Sequence[str]) -> dict[str, Array]:
    """The inputs of a model from an .npz file: arrays of these names, with or without the prefix `in:`.

    A model with one input also takes the only array of a file.

    Raises:
        UserError: one is missing.
    """
    arrays = load_npz(path)
    found: dict[str, Array] = {}
    for name in names:
        key = next((k for k in (name, f"in:{name}") if k in arrays), None)
        if key is None and len(names) == 1 and len(arrays) == 1:
            key = next(iter(arrays))
        if key is None:
            raise UserError(
                f"no array for the input '{name}'",
                where=str(path),
                hint=f"it holds {', '.join(arrays)}; the model's inputs are {', '.join(names)}",
            )
        found[name] = arrays[key]
    return found
