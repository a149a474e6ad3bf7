"""ChannelRule: the update of a parameter that is trained in some output channels only.

The gradient is computed for those channels alone, from the part of the output's gradient that belongs to them, and the
optimizer keeps states for them alone. The weight stays in one piece: the update writes into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from toolkit.errors import UserError
from toolkit.ir import Graph, Node
from toolkit.ops.base import Op
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.sgd_of_gradient import WeightGradient
from toolkit.ops.take_channels import TakeChannels
from toolkit.ops.update_channels import ChannelwiseUpdate, UpdateChannels
from toolkit.train.optimizers import Optimizer
from toolkit.train.rules import UpdateRule


@dataclass(frozen=True)
class ChannelRule(UpdateRule):
    """Float32 weights, updated by the optimizer in some output channels.

    Attributes:
        channels: ascending.
    """

    channels: tuple[int, ...]

    def part(self, builder: GraphBuilder, parameter: str, gradient: str) -> str:
        """The gradient of the picked channels. What computed that of all channels is left without a reader."""
        producer = next(node for node in reversed(builder.nodes) if gradient in node.outputs)
        found = _narrowed(builder, producer, self.channels)
        if found is not None:
            op, inputs = found
            return builder.apply(op, *inputs, name=f"{producer.name}.channels")[0]
        return builder.apply(TakeChannels(self.channels), gradient, name=f"{parameter}.gradient_channels")[0]

    def update(
        self, builder: GraphBuilder, optimizer: Optimizer, parameter: str, gradient: str, after: tuple[str, ...]
    ) -> None:
        def in_channels(op: Op) -> Op:
            assert isinstance(op, ChannelwiseUpdate)
            return UpdateChannels(op, self.channels)

        optimizer.update(builder, parameter, gradient, after, in_channels)


def _narrowed(
    builder: GraphBuilder, producer: Node, channels: tuple[int, ...]
) -> tuple[Op, tuple[str | None, ...]] | None:
    """The same gradient for some channels: its op and its inputs; None where the op cannot."""
    found = producer.op.for_channels(len(channels)) if isinstance(producer.op, WeightGradient) else None
    if found is None:
        return None
    op, narrowed = found
    inputs: list[str | None] = []
    for name, narrow in zip(producer.inputs, narrowed, strict=True):
        if narrow:
            assert name is not None
            name = builder.apply(TakeChannels(channels), name, name=f"{name}.channels")[0]
        inputs.append(name)
    return op, tuple(inputs)


def with_channel_rules(graph: Graph, channels: Mapping[str, tuple[int, ...]], trained: frozenset[str]) -> Graph:
    """The graph with a rule for each parameter that is trained in part.

    Raises:
        UserError: a quantizer has changed how such a parameter is kept or updated.
    """
    for name in channels:
        if name not in trained or name in graph.rules or graph.type(name).dtype != "float32":
            raise UserError(
                f"{name} is quantized, and cannot be trained in some of its channels",
                where=f"--train {name}@...", hint=f"train it whole, layers:{name}, or leave it out of --quant",
            )
    rules = {name: ChannelRule(picked) for name, picked in channels.items()}
    return replace(graph, rules={**graph.rules, **rules})
