"""ClippedRule: weights that stay within limits, and whose steps are scaled, whatever the optimizer."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.ops.builder import GraphBuilder
from toolkit.ops.clip_scaled_step import ClippedSgd, ClipScaledStep
from toolkit.train.optimizers import Optimizer, SgdOptimizer
from toolkit.train.rules import UpdateRule


@dataclass(frozen=True)
class ClippedRule(UpdateRule):
    """w <- clip(w + scale * (what the optimizer proposes - w), -limit, limit).

    Plain SGD takes its step and clips in one pass, with a learning rate that is scaled; after other optimizers, the
    proposed weights need memory until the weights have followed.

    Attributes:
        limit: of the weights' magnitude.
        scale: of steps that do not grow with the gradient (Adam).
        scale_sgd: of steps that do.
    """

    limit: float = 1.0
    scale: float = 1.0
    scale_sgd: float = 1.0

    def update(
        self, builder: GraphBuilder, optimizer: Optimizer, parameter: str, gradient: str, after: tuple[str, ...]
    ) -> None:
        if isinstance(optimizer, SgdOptimizer) and not optimizer.momentum:
            op = ClippedSgd(optimizer.weight_decay, self.scale_sgd, self.limit)
            inputs = (parameter, gradient, builder.runtime("learning_rate"))
            builder.updates[parameter] = builder.apply(op, *inputs, name=f"{parameter}.update", after=after)[0]
            return
        optimizer.update(builder, parameter, gradient, after)
        scale = self.scale_sgd if isinstance(optimizer, SgdOptimizer) else self.scale
        step = ClipScaledStep(scale, self.limit)
        proposed = builder.updates[parameter]
        builder.updates[parameter] = builder.apply(step, parameter, proposed, name=f"{parameter}.clip")[0]
