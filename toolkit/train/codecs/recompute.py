"""recompute: nothing is kept; the nodes that made a tensor run again in the backward pass, to the same bits.

They start from tensors that are kept anyway, from inputs and from parameters (whose updates wait for it). Nodes that
draw random numbers or collect statistics do not run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from toolkit.ir import Kind, Node
from toolkit.ops.base import Op
from toolkit.ops.builder import GraphBuilder
from toolkit.train.codecs.codec import Again, Codec, ValueCodec, codec
from toolkit.train.codecs.mask import EXACT_MASK
from toolkit.train.codecs.saved import Saved, Step

# Where no pattern asks for it, a tensor is recomputed for at most so many multiply-accumulates an element: depthwise
# convolutions are, pointwise ones are not.
CHEAP_MACS = 16


@codec
@dataclass(frozen=True)
class Recompute(ValueCodec):
    """No bits, exact."""

    keyword = "recompute"
    summary = "made again, from what is kept anyway"

    def refusal(self, step: Step, saved: Saved) -> str | None:
        if saved.type.dtype != "float32":
            return f"it is {saved.type.dtype}, not float32"
        for node in _chain(step, saved):
            if any(name is not None and step.graph.kind(name) is Kind.RUNTIME for name in node.inputs):
                return f"{node.name} draws random numbers"
            main = saved.name if node is saved.producer else node.outputs[0]
            if any(name in step.readers for name in node.outputs if name != main):
                return f"{node.name} collects statistics"
        return None

    def worth_it(self, step: Step, saved: Saved, chosen: Mapping[str, Codec]) -> bool:
        chain = _chain(step, saved)
        starts = {step.root(name) for node in chain for name in node.inputs if name is not None}
        if any(isinstance(chosen.get(name), Recompute) for name in starts):
            return False
        macs = 0
        for node in chain:
            assert isinstance(node.op, Op)
            macs += node.op.macs(*(None if name is None else step.graph.type(name) for name in node.inputs))
        return macs <= CHEAP_MACS * saved.type.size

    def keep(self, builder: GraphBuilder, saved: Saved) -> tuple[str, ...]:
        return ()

    def restore(self, builder: GraphBuilder, saved: Saved, kept: tuple[str, ...], again: Again) -> str:
        return again.run(saved.producer, saved.name)


def _chain(step: Step, saved: Saved) -> list[Node]:
    """The nodes that run again, the last first: back to tensors that are kept."""
    chain = [saved.producer]
    for node in chain:
        for name in node.inputs:
            source = step.producers.get(name or "")
            root = step.saved.get(step.root(name)) if name is not None else None
            kept = root is not None and EXACT_MASK.refusal(step, root) is not None
            if source is not None and not kept and source not in chain:
                chain.append(source)
    return chain
