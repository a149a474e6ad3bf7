"""Accuracy against training RAM: one panel for each model, with the line of what none other beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.report.figure import saved_figure

_PANEL_INCHES = (5.6, 4.2)
_DARK, _GREY, _RED = "#08306b", "#8a8a8a", "#a50f15"


@dataclass(frozen=True)
class Point:
    """A way of training.

    Attributes:
        ram: bytes.
        accuracy, deviation: percent.
        kind: "auto", "mobiletl" or "" for all others: they have signs of their own.
        front: none other beats it.
    """

    name: str
    ram: int
    accuracy: float
    deviation: float
    kind: str
    front: bool


@dataclass(frozen=True)
class Panel:
    """One model: its title, what is to the right, and its points."""

    title: str
    axis: str
    points: Sequence[Point]


_SIGNS = {"auto": ("*", _RED, 13.0), "mobiletl": ("s", _DARK, 6.0), "": ("o", _GREY, 5.0)}
_LEGEND = {"auto": "auto within a budget", "mobiletl": "MobileTL", "": "fixed scheme"}


def plot_transfer(panels: Sequence[Panel], path: Path) -> None:
    """Draws the panels, two in a row.

    Args:
        path: its suffix says the format: .png, .svg, .pdf.

    Raises:
        UserError: matplotlib is missing, or knows no such format.
    """
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    size = (columns * _PANEL_INCHES[0], lines * _PANEL_INCHES[1])
    with saved_figure(path, "--plot", size, lines, columns, dpi=130) as grid:
        for axes, panel in zip(grid.flat, panels, strict=False):
            _draw(axes, panel)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)


def _draw(axes: Any, panel: Panel) -> None:
    front = sorted((p for p in panel.points if p.front), key=lambda p: (p.ram, p.accuracy))
    axes.step(
        [p.ram / 1024 for p in front], [p.accuracy for p in front], "-", where="post", color=_DARK, linewidth=1.2,
        label="Pareto front", zorder=1,
    )  # fmt: skip
    for kind, (marker, color, size) in _SIGNS.items():
        own = [p for p in panel.points if p.kind == kind]
        if own:
            axes.errorbar(
                [p.ram / 1024 for p in own], [p.accuracy for p in own], yerr=[p.deviation for p in own], fmt=marker,
                color=color, markersize=size, elinewidth=0.7, capsize=2, label=_LEGEND[kind],
                zorder=3 if kind == "auto" else 2,
            )  # fmt: skip
    for point in panel.points:  # the line comes from the left below and leaves to the right
        left = point.front and point.kind != "auto"
        axes.annotate(
            point.name, (point.ram / 1024, point.accuracy), xytext=(-6, 4) if left else (6, -9),
            textcoords="offset points", ha="right" if left else "left", fontsize=7,
            fontweight="bold" if point.front else "normal",
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, position: f"{value:g}")
    axes.set_xlabel(panel.axis)
    axes.set_ylabel("test accuracy (%)")
    axes.margins(x=0.2, y=0.1)
    axes.grid(alpha=0.3)
    axes.set_title(panel.title, loc="left", fontsize=10, fontweight="bold")
    axes.legend(fontsize=7, loc="lower right", framealpha=0.9)
