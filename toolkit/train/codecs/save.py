"""The hook: puts the codecs' nodes into a training step, so that only what they keep lives across.

A pass over the training graph, behind all others. What a codec keeps is made in front of the tensor's last reader in
the forward part (which may then take its memory); the tensor is made again in front of its first reader in the backward
part and waits for what that reader waits for: else the steps might be put in an order in which it is made at once.
"""

from __future__ import annotations

from dataclasses import replace

from toolkit.ir import Graph, Node
from toolkit.ops.base import Op
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.reshape import Reshape
from toolkit.train.codecs.codec import Again, Codec, GradientCodec, ValueCodec
from toolkit.train.codecs.plan import SavePlan
from toolkit.train.codecs.saved import Step


def save_tensors(graph: Graph, plan: SavePlan, masks: bool = True) -> Graph:
    """The training step with its saved tensors in the forms that a plan chooses.

    Args:
        masks: whether exact masks are made where nobody asked for them.

    Raises:
        UserError: the plan does not fit the step.
    """
    step = Step(graph)
    chosen = plan.choose(step, masks)
    return _Hook(step, chosen).run() if chosen else graph


class _Hook:
    def __init__(self, step: Step, chosen: dict[str, Codec]) -> None:
        self._step = step
        self._chosen = chosen
        self._builder = GraphBuilder.resume(step.graph)
        self._builder.nodes = []
        self._kept: dict[str, tuple[str, ...]] = {}
        self._restored: dict[str, str] = {}

    def run(self) -> Graph:
        builder, step = self._builder, self._step
        due: dict[int, list[str]] = {}
        numbers = {node.name: index for index, node in enumerate(step.forward)}
        for name, codec in self._chosen.items():
            made = numbers[step.saved[name].producer.name]
            if isinstance(codec, GradientCodec) and codec.before_producer:
                due.setdefault(made, []).append(name)
            else:
                due.setdefault(max([made + 1, *step.readers.get(name, ())]), []).append(name)
        for index, node in enumerate(step.forward):
            self._keep(due.get(index, ()))
            builder.nodes.append(node)
        self._keep(due.get(len(step.forward), ()))
        written = {name for node in step.backward for name in node.outputs}
        makers = {name: node.name for node in step.backward for name in node.outputs}
        for index, node in enumerate(step.backward):
            waits = tuple(dict.fromkeys(makers[name] for name in node.inputs if name in written and name is not None))
            if not waits:
                waits = (step.backward[index - 1].name,) if index else (step.forward[-1].name,)
            builder.nodes.append(self._reading(node, waits))
        return builder.finish().without_dead_nodes()

    def _keep(self, names: tuple[str, ...] | list[str]) -> None:
        for name in names:
            self._kept[name] = self._chosen[name].keep(self._builder, self._step.saved[name])

    def _reading(self, node: Node, waits: tuple[str, ...]) -> Node:
        """A node of the backward part that reads what was kept."""
        inputs = list(node.inputs)
        for index, name in enumerate(node.inputs):
            root = self._step.root(name) if name is not None else ""
            codec = self._chosen.get(root)
            if name is None or codec is None:
                continue
            saved = self._step.saved[root]
            if isinstance(codec, GradientCodec) and codec.serves(saved, node):
                return codec.gradient(saved, self._kept[root], node)
            if isinstance(codec, ValueCodec):
                inputs[index] = self._view(name, root, codec, waits)
        return replace(node, inputs=tuple(inputs))

    def _restore(self, root: str, codec: ValueCodec, waits: tuple[str, ...]) -> str:
        again = Again(waits, lambda node, name: self._run(node, name, waits))
        return codec.restore(self._builder, self._step.saved[root], self._kept[root], again)

    def _run(self, node: Node, name: str, waits: tuple[str, ...]) -> str:
        """An output of a node of the forward part, made again."""
        assert isinstance(node.op, Op)
        inputs = [None if source is None else self._source(source, waits) for source in node.inputs]
        outputs = self._builder.apply(node.op, *inputs, name=f"{node.name}.again", after=waits)
        return outputs[node.outputs.index(name)]

    def _source(self, name: str, waits: tuple[str, ...]) -> str:
        """What a node that runs again reads: its own copy, so that it does not stay for the tensor's other readers."""
        producer = self._step.producers.get(name)
        if producer is None:
            return name
        saved, codec = self._step.saved.get(name), self._chosen.get(name)
        if isinstance(codec, ValueCodec):
            return self._restore(name, codec, waits)
        if saved is not None and not all(
            isinstance(codec, GradientCodec) and codec.serves(saved, reader) for reader in saved.readers
        ):
            return name
        return self._run(producer, name, waits)

    def _view(self, name: str, root: str, codec: ValueCodec, waits: tuple[str, ...]) -> str:
        """The tensor itself, made again once, or a view of it."""
        saved = self._step.saved[root]
        if root not in self._restored:
            self._restored[root] = self._restore(root, codec, waits)
        if name not in self._restored:
            shape = self._builder.type(name).shape
            source = self._restored[root]
            self._restored[name] = self._builder.apply(Reshape(shape), source, name=f"{saved.producer.name}.view")[0]
        return self._restored[name]
