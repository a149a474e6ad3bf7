"""Accuracy against training RAM: one panel for each model, with the line of what none other beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
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
# Of a name from its point, in points, nearest first, and which end of it is there.
_OFFSETS = [
    (x, y, side)
    for distance in (0, 7, 12, 18, 26, 34, 44, 56, 70)
    for y in ((distance,) if not distance else (distance, -distance))
    for x, side in ((8, "left"), (-8, "right"))
]
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
        grid.flat[0].figure.canvas.draw()  # only now is it known where points are
        for axes, panel in zip(grid.flat, panels, strict=False):
            _name(axes, panel)


def _draw(axes: Any, panel: Panel) -> None:
    from matplotlib.colors import to_rgb

    front = _front(panel)
    axes.step(
        [p.ram / 1024 for p in front], [p.accuracy for p in front], "-", where="post", color=_DARK, linewidth=1.2,
        label="Pareto front", zorder=1,
    )  # fmt: skip
    for kind, (marker, color, size) in _SIGNS.items():
        own = [p for p in panel.points if p.kind == kind]
        if own:
            axes.errorbar(
                [p.ram / 1024 for p in own], [p.accuracy for p in own], yerr=[p.deviation for p in own], fmt=marker,
                color=color, markersize=size, ecolor=(*to_rgb(color), 0.45), elinewidth=0.7, capsize=2,
                label=_LEGEND[kind], zorder=3 if kind == "auto" else 2,
            )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, position: f"{value:g}")
    axes.set_xlabel(panel.axis)
    axes.set_ylabel("test accuracy (%)")
    axes.margins(x=0.2, y=0.1)
    axes.grid(alpha=0.3)
    axes.set_title(panel.title, loc="left", fontsize=10, fontweight="bold")
    axes.legend(fontsize=7, loc="lower right", framealpha=0.9)


def _front(panel: Panel) -> list[Point]:
    return sorted((p for p in panel.points if p.front), key=lambda p: (p.ram, p.accuracy))


def _name(axes: Any, panel: Panel) -> None:
    """Names every point where there is room: those on the front first, close by rather than far."""
    from matplotlib.transforms import Bbox

    places = [axes.transData.transform((point.ram / 1024, point.accuracy)) for point in panel.points]
    taken = [Bbox.from_bounds(x - 7, y - 7, 14, 14) for x, y in places]
    taken.append(axes.get_legend().get_window_extent())
    corners = [axes.transData.transform((point.ram / 1024, point.accuracy)) for point in _front(panel)]
    for (x, y), (right, up) in pairwise(corners):
        taken += [Bbox.from_extents(x, y - 1, right, y + 1), Bbox.from_extents(right - 1, y, right + 1, up)]
    order = sorted(range(len(places)), key=lambda index: not panel.points[index].front)
    for index in order:
        point = panel.points[index]
        found: list[tuple[int, int, Any, Any]] = []
        for x, y, side in _OFFSETS:
            text = axes.annotate(
                point.name, (point.ram / 1024, point.accuracy), xytext=(x, y), textcoords="offset points", ha=side,
                va="center", fontsize=7, fontweight="bold" if point.front else "normal",
                arrowprops={"arrowstyle": "-", "color": _GREY, "linewidth": 0.5} if abs(y) > 14 else None,
            )  # fmt: skip
            box = Bbox.from_extents(*text.get_window_extent().extents)
            inside = axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max)
            found.append((sum(box.overlaps(other) for other in taken) + 100 * (not inside), len(found), text, box))
        best = min(found, key=lambda each: each[:2])
        for each in found:
            if each is not best:
                each[2].remove()
        taken.append(best[3])
