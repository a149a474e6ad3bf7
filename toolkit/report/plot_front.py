"""The Pareto front of a search: RAM to the right, how far the loss fell upwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toolkit.report.figure import saved_figure

_INCHES = (8.3, 5.2)


def plot_front(points: Sequence[tuple[str, int, float, bool]], ram: int | None, path: Path, title: str) -> None:
    """Draws candidates, the front through those that none other beats, and the budget.

    Args:
        points: (name, bytes of RAM, fall of the loss, fits).
        ram: the budget in bytes; None for none.
        path: its suffix says the format: .png, .svg, .pdf.

    Raises:
        UserError: matplotlib is missing, or knows no such format.
    """
    front: list[tuple[str, int, float, bool]] = []
    for point in sorted(points, key=lambda each: (each[1], -each[2])):
        if point[2] > (front[-1][2] if front else 0.0):
            front.append(point)
    behind = [point for point in points if point not in front]
    with saved_figure(path, "--front", _INCHES) as grid:
        axes = grid[0, 0]
        if behind:
            axes.plot([p[1] / 1024 for p in behind], [p[2] for p in behind], "o", color="#9a9a9a", markersize=5,
                      label="beaten by another")
        axes.step([p[1] / 1024 for p in front], [p[2] for p in front], "o-", where="post", color="#08306b",
                  markersize=6, label="Pareto front")
        for name, size, gain, _ in front:  # the line comes from the left below and leaves to the right
            axes.annotate(name, (size / 1024, gain), xytext=(-6, 4), textcoords="offset points", ha="right", fontsize=8)
        if ram is not None:
            axes.axvline(ram / 1024, color="#a50f15", linestyle="--", linewidth=1.2, label=f"--ram {ram:,} B")
        axes.set_xlabel("RAM (KiB)")
        axes.set_ylabel("fall of the loss in a probe")
        axes.margins(x=0.18, y=0.12)
        axes.grid(alpha=0.3)
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.legend(fontsize=8, loc="lower right", framealpha=1)
