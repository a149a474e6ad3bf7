"""Inputs in 16 bits are rounded again for the backward pass, where that needs much less memory.

A pass over the training graph. What the caller gives is there until the step has ended, so a copy of it in 16 bits need
not wait from the forward pass to the gradient of the first layer's weights. It costs a few instructions an element. The
bits are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from toolkit.ir import Graph, Kind, Node
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.half_codes import ToHalf


def round_inputs_again(step: Graph, arena_bytes: Callable[[Graph], int]) -> Graph:
    """The training step, with a ToHalf of an input behind the loss too if its arena is smaller by a tenth then."""
    rounds = {
        node.outputs[0]: node
        for node in step.nodes
        if isinstance(node.op, ToHalf) and step.kind(node.inputs[0] or "") is Kind.INPUT
    }
    if not rounds:
        return step
    builder = GraphBuilder.resume(step)
    builder.nodes = []
    backward = False
    again: dict[str, str] = {}
    for node in step.nodes:
        for name in set(rounds).intersection(filter(None, node.inputs)) if backward else ():
            if name not in again:
                first = rounds[name]
                again[name] = _apply_again(builder, first)
        builder.nodes.append(replace(node, inputs=tuple(again.get(name or "", name) for name in node.inputs)))
        backward = backward or step.loss in node.outputs
    if not again:
        return step
    rounded = builder.finish()
    return rounded if 10 * arena_bytes(rounded) <= 9 * arena_bytes(step) else step


def _apply_again(builder: GraphBuilder, node: Node) -> str:
    assert isinstance(node.op, ToHalf)
    return builder.apply(node.op, *node.inputs, name=f"{node.name}.again")[0]
