"""Dynamic loss scaling in the training step: all gradients are checked before the first update, and the scale adapts.

Numerics N8: a gradient that is not finite drops the whole step, as --atomic does; only the scale changes, and what
batch normalizations have seen of the forward pass. So every gradient has memory of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from toolkit.errors import UserError
from toolkit.ir import Node
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.half_layer import HalfLayer
from toolkit.ops.loss_scale import LOSS_SCALE, LossScaleCheck, SeenNonfinite


def growth_of(nodes: Iterable[Node], accumulate: int) -> int:
    """After how many good steps the loss scale of a model doubles; 0 where it has none that is dynamic.

    Raises:
        UserError: it does not go with what else was asked for.
    """
    found = sorted({node.op.growth for node in nodes if isinstance(node.op, HalfLayer) and node.op.growth})
    if len(found) > 1:
        raise UserError("layers want different dynamic loss scales", where="--quant", hint="the same grow for all")
    if found and accumulate > 1:
        raise UserError("a dynamic loss scale does not go with accumulation", where="--accumulate",
                        hint="--accumulate 1, or a fixed scale: fp16:loss_scale=128")
    return found[0] if found else 0


def check_gradients(builder: GraphBuilder, gradients: Iterable[str], growth: int, after: tuple[str, ...]) -> str:
    """Adds the check of all gradients, and gives its name: updates run after it."""
    seen: str | None = None
    for gradient in gradients:
        seen = builder.apply(SeenNonfinite(), gradient, seen, name=f"{LOSS_SCALE}.seen")[0]
    adapted = builder.apply(LossScaleCheck(growth), LOSS_SCALE, seen, name=f"{LOSS_SCALE}.check", after=after)
    builder.updates[LOSS_SCALE] = adapted[0]
    return builder.nodes[-1].name
