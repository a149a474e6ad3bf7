"""What commands print, and how they write files: results on stdout, all else on stderr, files at once or not at all."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import click

from toolkit.errors import UserError


class Progress(Protocol):
    """What is being done, how far, out of how much or None where unknown, and what it has come to."""

    def __call__(self, name: str, done: int, total: int | None, detail: str = "") -> None: ...


_PATIENCE = 0.5  # seconds before a bar appears: most work is done by then


def note(text: str) -> None:
    """A remark for the person at the terminal."""
    click.echo(text, err=True)


def result(as_json: bool, data: dict[str, Any], text: str) -> None:
    """Prints the outcome of a command: one JSON object, or text."""
    click.echo(json.dumps(data) if as_json else text)


@contextmanager
def progress() -> Iterator[Progress]:
    """Bars on stderr, one per name, for work that takes a while; nothing where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda name, done, total, detail="": None
        return
    bars = _Bars()
    try:
        yield bars.show
    finally:
        bars.stop()


class _Bars:
    """Bars of rich, which is imported when the first one appears."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._live: Any = None
        self._tasks: dict[str, Any] = {}

    def show(self, name: str, done: int, total: int | None, detail: str = "") -> None:
        if self._live is None:
            if total is not None and time.monotonic() - self._start < _PATIENCE:
                return
            self._begin()
        if name not in self._tasks:
            self._tasks[name] = self._live.add_task(name, total=total, detail=detail)
        self._live.update(self._tasks[name], completed=done, total=total, detail=detail)

    def _begin(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )  # fmt: skip

        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[detail]}"),
        )  # fmt: skip
        self._live = Progress(*columns, console=Console(stderr=True))
        self._live.start()

    def stop(self) -> None:
        if self._live is not None:
            self._live.stop()


@contextmanager
def written_at_once(folder: Path, force: bool = False) -> Iterator[Path]:
    """A temporary folder that takes the place of `folder` when the block ends well, and vanishes when it does not.

    Args:
        force: replace a folder that holds an earlier output of ours.

    Raises:
        UserError: the folder is not empty, or cannot be written.
    """
    check_folder(folder, force)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(folder)) from None
    try:
        yield place
        place.chmod(0o755 & ~_umask())
        if folder.exists():
            shutil.rmtree(folder)
        place.rename(folder)
    except OSError as error:
        shutil.rmtree(place, ignore_errors=True)
        raise UserError(f"cannot be written: {error.strerror or error}", where=str(folder)) from None
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def check_folder(folder: Path, force: bool) -> None:
    """Raises UserError unless the folder may be filled."""
    if folder.exists() and not folder.is_dir():
        raise UserError("is a file, not a folder", where=str(folder))
    if folder.is_dir() and any(folder.iterdir()):
        if not force:
            hint = "name another folder, or replace an earlier output with --force"
            raise UserError("the output folder is not empty", where=str(folder), hint=hint)
        if not (folder / "manifest.json").is_file():
            raise UserError("is not a folder that edgetrain wrote, so it is left alone", where=str(folder))


def check_file(path: Path | None) -> None:
    """Raises UserError unless a file can be written there: before an hour of work, not after."""
    if path is None:
        return
    if path.is_dir():
        raise UserError("is a folder, not a file", where=str(path))
    if not path.parent.is_dir():
        raise UserError("its folder does not exist", where=str(path), hint=f"mkdir -p {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise UserError("its folder cannot be written", where=str(path))


@contextmanager
def file_at_once(path: Path) -> Iterator[Path]:
    """A temporary file that is renamed to `path` when the block ends well.

    Raises:
        UserError: it cannot be written.
    """
    check_file(path)
    part = path.with_name(f".{path.name}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror or error}", where=str(path)) from None
    finally:
        part.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
