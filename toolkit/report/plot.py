"""The arena over time: every buffer a box, steps to the right, bytes upwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from codegen.program import Function
from codegen.schedule import Lifetime
from toolkit.pipeline import Compiled
from toolkit.report.figure import saved_figure
from toolkit.report.memory import live_bytes, peak_function, peak_step
from toolkit.report.uses import ACTIVATION, GRADIENT, SAVED, SCRATCH, Piece, forward_steps, pieces

# Told apart without colour too: by brightness, and gradients by hatching.
_COLOURS = {SAVED: "#9ecae1", ACTIVATION: "#e6f1f9", GRADIENT: "#fdae6b", SCRATCH: "#bdbdbd"}
_HATCHES = {GRADIENT: "///"}
_INCHES = (11.7, 6.4)


def plot_arena(compiled: Compiled, path: Path, title: str) -> None:
    """Draws the function with the highest peak.

    Args:
        path: its suffix says the format: .png, .svg, .pdf.

    Raises:
        UserError: matplotlib is missing, or knows no such format.
    """
    function = peak_function(compiled.program)
    with saved_figure(path, "--plot", _INCHES) as grid:
        axes = grid[0, 0]
        _draw(axes, function, pieces(compiled, function), forward_steps(compiled, function))
        axes.set_title(
            f"{title}: arena of {function.name}, {function.peak:,} bytes (lower bound {function.lower_bound:,})",
            loc="left", fontsize=11, fontweight="bold", pad=34,
        )


def _draw(axes: Any, function: Function, shown: list[Piece], forward: list[bool]) -> None:
    from matplotlib.patches import Patch, Rectangle

    steps = len(function.steps)
    height = max(function.peak, 1)
    for piece in shown:
        span = piece.span
        offset = function.offsets[span.name]
        width = span.last - span.first + 1
        box = Rectangle(
            (span.first, offset), width, span.bytes, facecolor=_COLOURS[piece.use], hatch=_HATCHES.get(piece.use),
            edgecolor="#00000055", linewidth=0,
        )
        axes.add_patch(box)
        axes.add_patch(Rectangle((span.first, offset), width, span.bytes, fill=False, edgecolor="black", linewidth=0.6))
        _label(axes, span, offset, width, steps, height)
    if any(forward) and not all(forward):
        border = len(forward) - forward[::-1].index(True)
        axes.axvline(border, color="black", linestyle=":", linewidth=1)
        axes.text(border, height * 1.015, "backward \u2192", ha="left", va="bottom", fontsize=8)
        axes.text(border, height * 1.015, "\u2190 forward ", ha="right", va="bottom", fontsize=8)
    live = live_bytes(function)
    live = [*live, live[-1] if live else 0]
    in_use = axes.step(range(steps + 1), live, where="post", color="#08306b", linewidth=1.2)[0]
    axes.axhline(function.peak, color="black", linestyle="--", linewidth=0.8)
    peak = peak_step(function)
    axes.set_xlim(0, steps)
    axes.set_ylim(0, height * 1.06)
    axes.set_ylabel("offset in the arena (bytes)")
    axes.yaxis.set_major_formatter(lambda value, position: f"{int(value):,}")
    node = function.steps[peak].node if function.steps else ""
    axes.set_xlabel(f"step (peak in step {peak}, {node})")
    axes.set_xticks([number + 0.5 for number in _ticks(steps)], [str(number) for number in _ticks(steps)])
    handles: list[Any] = [
        Patch(facecolor=colour, hatch=_HATCHES.get(name), edgecolor="black", linewidth=0.6, label=name)
        for name, colour in _COLOURS.items()
    ]
    handles.append(in_use)
    in_use.set_label("bytes in use")
    axes.legend(handles=handles, ncols=5, fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0))


def _label(axes: Any, span: Lifetime, offset: int, width: int, steps: int, height: int) -> None:
    """The name and size of a buffer, where its box has room for them."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.5, foreground="white")]
    inch_per_step, inch_per_byte = 10.4 / max(steps, 1), 5.0 / height
    room_x, room_y = width * inch_per_step, span.bytes * inch_per_byte
    name, size = span.name.removesuffix(".out"), f"{span.bytes:,} B"
    for text in (f"{name}\n{size}", f"{name} {size}", name):
        lines = text.split("\n")
        for rotation, across, along in ((0, room_x, room_y), (90, room_y, room_x)):
            for points in (8, 7, 6):
                # An average character is 0.6 of the type size wide; a line takes 1.3 of it.
                long = max(map(len, lines)) * points * 0.6 / 72
                if long <= across and len(lines) * points * 1.3 / 72 <= along:
                    middle = (span.first + width / 2, offset + span.bytes / 2)
                    axes.text(*middle, text, ha="center", va="center", fontsize=points, rotation=rotation, clip_on=True,
                              zorder=5, path_effects=halo)
                    return


def _ticks(steps: int) -> range:
    return range(0, steps, max(1, -(-steps // 30)))
