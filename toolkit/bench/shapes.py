"""Instructions per MAC of single layers: no stride, dilation, group or padding may fall to a slow path."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit.bench.layers import measure_layers
from toolkit.zoo.single import LayerShape, single_layer

LAYER = "/layer"
NONE = (0, 0, 0, 0)
SHAPES = (
    LayerShape(16, (16, 16), 16),
    LayerShape(64, (8, 8), 64),
    LayerShape(3, (32, 32), 16),
    LayerShape(1, (28, 28), 8),
    LayerShape(1, (28, 28), 6, (5, 5), pads=(2, 2, 2, 2)),
    LayerShape(1, (49, 10), 64, (10, 4), (2, 2), pads=(4, 1, 5, 1)),
    LayerShape(3, (32, 32), 8, stride=(2, 2), pads=(0, 0, 1, 1)),
    LayerShape(16, (15, 15), 16, stride=(2, 2)),
    LayerShape(16, (17, 17), 16, stride=(3, 3)),
    LayerShape(16, (16, 16), 16, stride=(1, 2)),
    LayerShape(16, (16, 16), 16, stride=(2, 1), pads=(0, 1, 1, 1)),
    LayerShape(16, (16, 16), 16, dilation=(2, 2), pads=(2, 2, 2, 2)),
    LayerShape(16, (16, 16), 16, dilation=(3, 1), pads=(3, 1, 3, 1)),
    LayerShape(16, (16, 16), 16, stride=(2, 2), dilation=(2, 2), pads=(2, 2, 2, 2)),
    LayerShape(16, (16, 16), 16, pads=NONE),
    LayerShape(16, (16, 16), 16, pads=(2, 2, 2, 2)),
    LayerShape(16, (16, 16), 16, pads=(0, 2, 1, 0)),
    LayerShape(16, (16, 16), 16, (5, 5), pads=(2, 2, 2, 2)),
    LayerShape(16, (16, 16), 16, (1, 7), pads=(0, 3, 0, 3)),
    LayerShape(16, (16, 16), 16, (7, 1), pads=(3, 0, 3, 0)),
    LayerShape(16, (16, 16), 16, (2, 2), (2, 2), pads=NONE),
    LayerShape(5, (13, 11), 7),
    LayerShape(7, (13, 11), 5, (2, 3), pads=(0, 1, 1, 1)),
    LayerShape(17, (9, 9), 19),
    LayerShape(2, (20, 20), 3),
    LayerShape(12, (12, 12), 20),
    LayerShape(32, (1, 64), 32, (1, 5), pads=(0, 2, 0, 2)),
    LayerShape(64, (3, 3), 64),
    LayerShape(32, (12, 12), 32, groups=2),
    LayerShape(32, (12, 12), 32, groups=4),
    LayerShape(32, (12, 12), 32, groups=8),
    LayerShape(16, (12, 12), 32, groups=16),
    LayerShape(30, (10, 10), 30, groups=3, stride=(2, 2)),
    LayerShape(64, (25, 5), 64, (1, 1), pads=NONE),
    LayerShape(16, (16, 16), 32, (1, 1), (2, 2), pads=NONE),
    LayerShape(24, (7, 7), 144, (1, 1), pads=NONE),
    LayerShape(144, (7, 7), 24, (1, 1), pads=NONE),
    LayerShape(10, (9, 9), 3, (1, 1), pads=NONE),
    LayerShape(32, (16, 16), 32, (1, 1), groups=4, pads=NONE),
    LayerShape(64, (25, 5), 64, groups=64),
    LayerShape(8, (48, 48), 8, groups=8),
    LayerShape(16, (24, 24), 16, groups=16, stride=(2, 2), pads=(0, 0, 1, 1)),
    LayerShape(16, (24, 24), 16, groups=16, stride=(3, 2)),
    LayerShape(24, (14, 14), 24, (5, 5), groups=24, pads=(2, 2, 2, 2)),
    LayerShape(24, (14, 14), 24, (5, 5), (2, 2), groups=24, pads=(2, 2, 2, 2)),
    LayerShape(24, (14, 14), 24, groups=24, dilation=(2, 2), pads=(2, 2, 2, 2)),
    LayerShape(13, (14, 14), 13, groups=13, pads=NONE),
    LayerShape(32, (1, 64), 32, (1, 5), groups=32, pads=(0, 2, 0, 2)),
    LayerShape(784, (1, 1), 128),
    LayerShape(128, (1, 1), 10),
    LayerShape(64, (1, 1), 1),
    LayerShape(37, (1, 1), 53),
)


@dataclass(frozen=True)
class ShapeRow:
    """One layer at batch 1: instructions per MAC forward and, if it trains, of both gradients (the update included)."""

    kind: str
    shape: str
    profile: str
    macs: int
    forward: float
    input_gradient: float | None = None
    weight_gradient: float | None = None
    quant: str = "none"

    @property
    def worst(self) -> float:
        """Of the three."""
        return max(self.forward, self.input_gradient or 0.0, self.weight_gradient or 0.0)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def measure_shapes(
    shapes: Sequence[LayerShape], profile: str, compiler: str | None, quant: str = "none"
) -> Iterator[ShapeRow]:
    """One row for each, as it is done: a training step without a method, and with int8 an inference from codes to
    codes."""
    with tempfile.TemporaryDirectory(prefix="edgetrain-") as folder:
        path = Path(folder) / "single.onnx"
        for shape in shapes:
            if quant != "none":
                path.write_bytes(single_layer(shape, followed=True).SerializeToString())
                steps = measure_layers(str(path), quant, "none", profile, compiler, phases=("infer",))
                (own,) = (step for step in steps if step.macs and step.layer == LAYER)
                each = [round(own.instructions / own.macs, 3)]
                yield ShapeRow(shape.kind, shape.text, profile, own.macs, each[0], quant=quant)
                continue
            path.write_bytes(single_layer(shape).SerializeToString())
            steps = measure_layers(str(path), "none", "all", profile, compiler, loss="mse", phases=("train",))
            heavy = {_way(step.kernel): step for step in steps if step.macs}
            macs = heavy["forward"].macs
            each = [round(heavy[way].instructions / macs, 3) for way in ("forward", "input", "weight")]
            yield ShapeRow(shape.kind, shape.text, profile, macs, each[0], each[1], each[2])


def _way(kernel: str) -> str:
    return next((way for part, way in (("grad_input", "input"), ("update", "weight")) if part in kernel), "forward")


def _cell(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.2f}"


def shapes_markdown(rows: Sequence[ShapeRow]) -> str:
    """The rows as a table, and what is worst."""
    lines = ["| layer | shape | MACs | forward | gradient of input | update of weights |", "|---" * 6 + "|"]
    lines += [
        f"| {row.kind} | {row.shape} | {row.macs:,} | {row.forward:.2f} | {_cell(row.input_gradient)} | "
        f"{_cell(row.weight_gradient)} |"
        for row in rows
    ]
    worst = max(rows, key=lambda row: row.worst)
    method = "" if worst.quant == "none" else f" {worst.quant}"
    lines += ["", f"Worst of {len(rows)} shapes,{method} {worst.profile}: {worst.worst:.2f} instructions a MAC, "
              f"{worst.kind} {worst.shape}."]  # fmt: skip
    return "\n".join(lines)
