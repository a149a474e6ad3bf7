"""A picture in a file: what all plots have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toolkit.errors import UserError


@contextmanager
def saved_figure(
    path: Path, option: str, inches: tuple[float, float], lines: int = 1, columns: int = 1, dpi: int = 160, **grid: Any
) -> Iterator[Any]:
    """Gives an array of axes [lines, columns] to draw on, and then writes the file.

    Args:
        path: its suffix says the format: .png, .svg, .pdf.
        option: of the command, for errors.
        grid: as matplotlib has it, `gridspec_kw`.

    Raises:
        UserError: matplotlib is missing, or knows no such format.
    """
    try:
        import matplotlib
    except ImportError:
        raise UserError("plots need matplotlib", where=option, hint="pip install matplotlib") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        lines, columns, figsize=inches, layout="constrained", squeeze=False, gridspec_kw=grid
    )  # fmt: skip
    try:
        yield axes
        try:
            figure.savefig(path, dpi=dpi)
        except ValueError as error:
            raise UserError(str(error), where=f"{option} {path}", hint="end the name in .png, .svg or .pdf") from None
    finally:
        pyplot.close(figure)
