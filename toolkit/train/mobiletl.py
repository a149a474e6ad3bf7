"""MobileTL (arXiv 2212.03246): transfer learning of inverted residual blocks that keeps little for the backward pass.

In a block that is trained so:
- the normalizations inside train their shift alone. Scale and statistics are constants, so dx = dy * (gamma / s) and
  dbeta = sum of dy: nothing is kept.
- the last normalization is trained in full, its running statistics too: it keeps its input, which is narrow.
- activations are gone back through by one bit an element.
- convolutions are trained as usual and keep their inputs.
A block's last normalization uses statistics of the batch, as any whose scale is trained.

All layers after the first such block are trained as usual, everything before it only infers.
"""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.errors import UserError
from toolkit.ir import Graph, Kind
from toolkit.ops.base import Op
from toolkit.train.blocks import ACTIVATIONS, LOOKED_FOR, Finding, InvertedResidual

_SHOWN = 3


def masks_of(graph: Graph, blocks: Sequence[InvertedResidual], reading: str) -> dict[str, str]:
    """The activations inside blocks, as `training_graphs` takes them.

    Raises:
        UserError: a quantizer has replaced one of them.
    """
    names = {name for block in blocks for name in block.activations}
    present = {node.name for node in graph.nodes if isinstance(node.op, ACTIVATIONS)}
    if names - present:
        raise UserError(
            f"the activation {sorted(names - present)[0]} is quantized, and MobileTL goes with float32 blocks",
            where="--train mobiletl:K", hint="leave the blocks out of --quant, or train them with blocks:K",
        )
    return dict.fromkeys(sorted(names), reading)


def parameters_of_block(graph: Graph, block: InvertedResidual) -> frozenset[str]:
    """What MobileTL trains of a block: all but the scales of the normalizations inside."""
    trained: set[str] = set()
    for node in graph.nodes:
        if node.name not in block.nodes:
            continue
        op = node.op
        assert isinstance(op, Op)
        for index, name in enumerate(node.inputs):
            if name is None or graph.kind(name) is not Kind.PARAMETER or index in op.statistics_inputs:
                continue
            if node.name not in block.norms or index in op.bias_inputs:
                trained.add(name)
    return frozenset(trained)


def no_blocks(finding: Finding, where: str) -> UserError:
    """The error for a model without inverted residual blocks: what was looked for, and what came near."""
    near = [f"{name}: {why}" for name, why in list(finding.refused.items())[:_SHOWN]]
    more = len(finding.refused) - len(near)
    seen = "; ".join(near) + (f"; and {more} more" if more else "") if near else "there is no depthwise convolution"
    return UserError(
        f"the model has no inverted residual blocks ({seen})",
        where=where,
        hint=f"looked for {LOOKED_FOR}; use --train blocks:K or --train last:K",
    )
