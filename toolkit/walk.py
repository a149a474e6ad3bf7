"""A walk over the batch: all steps of a function for a few samples, then all steps for the next few.

Layer by layer, a layer's output for a whole batch has left the cache when the next layer reads it. In a walk a part of
the batch goes through the whole function while it is in the cache; what is summed over samples (the gradients of
weights, the loss) is kept from part to part and goes on in the order that it has anyway, so the bits are the same. What
needs complete sums (updates, checks) comes after them, in the last part. The arena is that of a part, and the sums.

The graph of a part is the model compiled for as many samples; here is decided whether it may stand for the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from codegen.program import Function
from toolkit.errors import UserError
from toolkit.ir import Graph, Node
from toolkit.ops.base import Op

_LEAST_PARTS = 4


@dataclass(frozen=True)
class Walk:
    """How a function goes over its batch.

    Attributes:
        samples: of a part; the whole batch where it does not walk.
        parts: how many there are.
        why: in a few words, for people.
    """

    samples: int
    parts: int
    why: str

    def text(self) -> str:
        """As a sentence."""
        if self.parts == 1:
            return f"no; {self.why}"
        return f"{self.samples} of {self.samples * self.parts} samples at a time; {self.why}"


@dataclass(frozen=True)
class Roles:
    """What the nodes of a part do.

    Attributes:
        role: node -> "add" where it goes on with sums, "last" where it runs after the last part alone; others run in
            every part.
        against: why the graph cannot be walked; "" if it can.
    """

    role: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    against: str = ""


def choose(function: Function, batch: int, cache: int, weights: int) -> Walk:
    """The rule: a function whose arena is larger than the cache walks, by as many samples as have theirs in the cache.

    By no more than a quarter of the batch, so that threads find parts; and by no fewer than have an arena as large as
    all weights, and the sums beside them in a training step: every part goes through these again.

    Args:
        function: planned for the whole batch.
        batch: samples.
        cache: bytes.
        weights: bytes of all parameters.
    """
    if function.peak <= cache:
        return Walk(batch, 1, f"its arena of {function.peak:,} B fits into a cache of {cache:,} B")
    again = weights if function.name == "infer" else 2 * weights
    sizes = [samples for samples in range(1, batch + 1) if batch % samples == 0]
    fitting = max([n for n in sizes if function.peak * n <= cache * batch and n * _LEAST_PARTS <= batch], default=1)
    samples = min(n for n in sizes if n == batch or (n >= fitting and function.peak * n >= again * batch))
    if samples == batch:
        return Walk(batch, 1, f"its weights, {weights:,} B, are too many to go through again for every few samples")
    return Walk(samples, batch // samples, f"its arena would be {function.peak:,} B, the cache has {cache:,} B")


def asked(samples: int, batch: int) -> Walk:
    """A walk by so many samples, whether it pays or not; 0 is all of them.

    Raises:
        UserError: the batch cannot be divided so.
    """
    samples = samples or batch
    if samples < 0 or batch % samples:
        raise UserError(
            f"a batch of {batch} is no multiple of {samples} samples", where="--walk", hint="a divisor of it, or 0"
        )
    return Walk(samples, batch // samples, "asked for")


def roles(whole: Graph, part: Graph, parts: int) -> Roles:
    """What the nodes of a part do, or why it cannot stand for the whole.

    Args:
        whole, part: the same function for the whole batch and for one of `parts` parts of it.
    """
    if [(node.name, type(node.op)) for node in whole.nodes] != [(node.name, type(node.op)) for node in part.nodes]:
        return Roles(against="its graph depends on the size of the batch")
    for name, value in part.data.items():
        if name not in whole.data or not np.array_equal(whole.data[name], value, equal_nan=True):
            return Roles(against=f"{name} depends on the size of the batch")
    kinds = {name: "samples" for name in (*part.inputs, *((part.label,) if part.label else ()))}
    found: dict[str, str] = {}
    for node in part.nodes:
        inputs = {kinds.get(name, "fixed") for name in node.inputs if name is not None}
        kind, role = _of_node(node, inputs, whole, part)
        if kind is None:
            return Roles(against=f"{node.name} ({node.op.name}) needs the whole batch at once")
        if role:
            found[node.name] = role
        assert isinstance(node.op, Op)
        for index, name in enumerate(node.outputs):
            kinds[name] = "samples" if role == "add" and index in node.op.sample_outputs() else kind
    for name, kind in kinds.items():
        one, all_of_it = part.type(name).shape, whole.type(name).shape
        if kind == "samples" and (not one or all_of_it != (parts * one[0], *one[1:])):
            return Roles(against=f"the first axis of {name} is not the batch")
    if any(kinds.get(name, "fixed") != "samples" for name in part.outputs) and part.loss is None:
        return Roles(against="an output has no batch")
    return Roles(found)


def _of_node(node: Node, inputs: set[str], whole: Graph, part: Graph) -> tuple[str | None, str]:
    """The kind of the outputs, None where the node cannot be walked; and its role."""
    assert isinstance(node.op, Op)
    if "samples" in inputs:
        sums = [name for index, name in enumerate(node.outputs) if index not in node.op.sample_outputs()]
        if node.op.adds_samples() and all(whole.type(name) == part.type(name) for name in sums):
            return "sum", "add"
        return ("samples" if node.op.is_per_sample() and "sum" not in inputs else None), ""
    if "sum" in inputs or any(name in part.updates.values() for name in node.outputs):
        return "sum", "last"
    return "fixed", ""
