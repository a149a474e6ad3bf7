"""Where instructions go: bars for every step of a model, and a roofline beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.report.figure import saved_figure

_WIDTH_INCHES, _BAR_INCHES, _LEAST_INCHES = 12.0, 0.2, 3.6
# Kinds of kernels by a part of their names, the first that fits; what fits none is "other".
_KINDS = {
    "gradient of weights": (("grad_weight", "update"), "#a50f15"),
    "gradient of inputs": (("grad",), "#e6902e"),
    "layers": (("conv", "dense", "depthwise", "matmul"), "#08306b"),
}
_OTHER = ("other", "#8a8a8a")


@dataclass(frozen=True)
class Bar:
    """One step.

    Attributes:
        bytes: read and written.
    """

    name: str
    kernel: str
    instructions: int
    macs: int
    bytes: int


@dataclass(frozen=True)
class LayerPanel:
    """One phase of a model.

    Attributes:
        lanes: numbers that one instruction can compute, load or store at most.
    """

    title: str
    bars: Sequence[Bar]
    lanes: int


def kind_of(kernel: str) -> tuple[str, str]:
    """What a kernel does, and its colour."""
    for kind, (parts, color) in _KINDS.items():
        if any(part in kernel for part in parts):
            return kind, color
    return _OTHER


def roof(intensity: float, lanes: int) -> float:
    """The most MACs per instruction for so many MACs per byte of operands.

    One instruction a MAC, and one for every number that is loaded or stored once; each on as many numbers as a vector
    holds. Nothing is faster on a core that retires instructions one by one.
    """
    return lanes / (1 + 1 / (4 * intensity))


def plot_layers(panels: Sequence[LayerPanel], path: Path) -> None:
    """Draws a line of two pictures for each panel: instructions by step, and MACs per instruction against the roof.

    Args:
        path: its suffix says the format: .png, .svg, .pdf.

    Raises:
        UserError: matplotlib is missing, or knows no such format.
    """
    heights = [max(_LEAST_INCHES, _BAR_INCHES * len(panel.bars) + 0.8) for panel in panels]
    with saved_figure(
        path, "--plot", (_WIDTH_INCHES, sum(heights)), len(panels), 2, dpi=130, height_ratios=heights,
        width_ratios=(3, 2),
    ) as grid:  # fmt: skip
        for (left, right), panel in zip(grid, panels, strict=True):
            _draw_bars(left, panel)
            _draw_roofline(right, panel)


def _draw_bars(axes: Any, panel: LayerPanel) -> None:
    places = range(len(panel.bars))
    axes.barh(places, [bar.instructions / 1000 for bar in panel.bars], color=[kind_of(b.kernel)[1] for b in panel.bars])
    axes.set_yticks(places, [bar.name for bar in panel.bars], fontsize=6)
    axes.set_ylim(len(panel.bars) - 0.4, -0.6)
    for place, bar in enumerate(panel.bars):
        if bar.macs:
            axes.annotate(
                f"{bar.instructions / bar.macs:.2f}", (bar.instructions / 1000, place), xytext=(3, 0),
                textcoords="offset points", fontsize=6, va="center",
            )  # fmt: skip
    axes.set_xlabel("thousand instructions; beside the bars: per MAC", fontsize=8)
    axes.margins(x=0.08)
    axes.grid(axis="x", alpha=0.3)
    axes.set_title(panel.title, loc="left", fontsize=10, fontweight="bold")


def _draw_roofline(axes: Any, panel: LayerPanel) -> None:
    own = [bar for bar in panel.bars if bar.macs and bar.bytes]
    intensities = [bar.macs / bar.bytes for bar in own] or [1.0]
    low, high = min(intensities) / 2, max(intensities) * 2
    steps = [low * (high / low) ** (number / 60) for number in range(61)]
    axes.plot(steps, [roof(value, panel.lanes) for value in steps], "-", color="#444444", linewidth=1.2, label="roof")
    for kind in dict.fromkeys(kind_of(bar.kernel) for bar in own):
        these = [bar for bar in own if kind_of(bar.kernel) == kind]
        axes.plot(
            [b.macs / b.bytes for b in these], [b.macs / b.instructions for b in these], "o", color=kind[1],
            markersize=4.5, label=kind[0],
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("MACs per byte of operands and results", fontsize=8)
    axes.set_ylabel("MACs per instruction", fontsize=8)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=7, loc="lower right")
