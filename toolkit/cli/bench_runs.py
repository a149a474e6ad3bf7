"""What measurements that take long have in common: jobs in processes, and outcomes kept as they come."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, TypeVar

from toolkit.cli.output import file_at_once
from toolkit.errors import UserError

J = TypeVar("J")
O = TypeVar("O")  # noqa: E741


class Kept(Protocol):
    """An outcome that a file can keep."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""


K = TypeVar("K", bound=Kept)


def read_kept(path: Path | None, outcome: Callable[..., K]) -> list[K]:
    """The outcomes in a file; none where there is no file yet.

    Raises:
        UserError: the file holds something else.
    """
    if path is None or not path.is_file():
        return []
    try:
        return [outcome(**json.loads(line)) for line in path.read_text().splitlines()]
    except (ValueError, TypeError, OSError):
        raise UserError("holds no outcomes of this measurement", where=f"--results {path}") from None


def write_kept(path: Path | None, outcomes: Sequence[Kept]) -> None:
    """Writes all outcomes at once, one a line."""
    if path is not None:
        with file_at_once(path) as part:
            part.write_text("".join(json.dumps(each.as_dict()) + "\n" for each in outcomes))


def run_all(run: Callable[[J], O], waiting: Sequence[J], workers: int) -> Iterator[O]:
    """Outcomes as they come."""
    if workers == 1 or len(waiting) == 1:
        yield from map(run, waiting)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from (future.result() for future in as_completed([pool.submit(run, job) for job in waiting]))


def data_folder(given: Path | None) -> Path:
    """The folder with the data sets.

    Raises:
        UserError: none is named, or there is none of that name.
    """
    folder = given or (Path(os.environ["EDGETRAIN_DATA"]) if "EDGETRAIN_DATA" in os.environ else None)
    if folder is None:
        raise UserError("which folder holds the data sets?", where="--data", hint="--data FOLDER or $EDGETRAIN_DATA")
    if not folder.is_dir():
        raise UserError("no such folder", where=str(folder))
    return folder
