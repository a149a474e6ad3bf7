"""Adaptive gradient clipping as an update rule: gradients are clipped per output channel before the optimizer."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.ops.builder import GraphBuilder
from toolkit.ops.clip_by_unit import ClipByUnit
from toolkit.train.optimizers import Optimizer
from toolkit.train.rules import UpdateRule


@dataclass(frozen=True)
class AdaptiveClipping(UpdateRule):
    """For weights [..., OC].

    Attributes:
        fraction: of the norm of a channel's weights that the norm of its gradient may reach.
    """

    fraction: float

    def update(
        self, builder: GraphBuilder, optimizer: Optimizer, parameter: str, gradient: str, after: tuple[str, ...]
    ) -> None:
        clipped = builder.apply(ClipByUnit(self.fraction), parameter, gradient, name=f"{parameter}.clip")[0]
        optimizer.update(builder, parameter, clipped, after)
