"""ResidualLayer: a layer and the addition of a tensor to its output, in one kernel; `fuse_residuals` makes them.

    y = layer(inputs) + addend, one rounding each

The addition takes place while results are in registers, which saves writing and reading them once; and y may take the
place of the addend. The bits are those of the two ops.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Protocol, runtime_checkable

from codegen.forms import Form, worthwhile
from codegen.program import Argument
from toolkit.ir import Array, Graph, Node, TensorType
from toolkit.ops.add import Add
from toolkit.ops.base import Arrays, Op, Run, Types, op, require
from toolkit.ops.contexts import Lowering
from toolkit.ops.rectified_layer import EndsInRelu


@runtime_checkable
class EndsInSum(Protocol):
    """An op with kernels that end in an addition.

    Attributes:
        addend: the input behind its own.
    """

    addend: ClassVar[int]

    def ends_in_sum(self, *inputs: TensorType | None) -> tuple[Form, ...] | None:
        """What such a kernel takes for these types, and saves; None where there is none.

        Nothing where it is a kernel of its own, that small code does without.
        """

    def call_kernel(self, to: Lowering, part: str, *options: Argument) -> None:
        """Calls the kernel with a part in its name, options in front of its tensors, and the addend behind them."""


@op
@dataclass(frozen=True)
class ResidualLayer(Op):
    """Inputs as for the layer, absent ones too; addend -> y; float32.

    Attributes:
        layer: an op that EndsInSum.
    """

    layer: Op

    no_gradient = "it is put together after the gradients have been derived"

    def infer(self, *inputs: TensorType | None) -> Types:
        *own, addend = inputs
        outputs = self.layer.infer(*own)
        first = outputs if isinstance(outputs, TensorType) else outputs[0]
        require(first == addend, f"{addend} cannot be added to {first}")
        return outputs

    def reference(self, run: Run, *inputs: Array | None) -> Arrays:
        *own, addend = inputs
        outputs = self.layer.reference(run, *own)
        if isinstance(outputs, tuple):
            return (outputs[0] + addend, *outputs[1:])
        return outputs + addend

    @property
    def relu_form(self) -> Form | None:
        """That of the layer."""
        assert isinstance(self.layer, EndsInRelu)
        return self.layer.relu_form

    def is_per_sample(self) -> bool:
        return self.layer.is_per_sample()

    def lower(self, to: Lowering) -> None:
        self.call_kernel(to, "")

    def ends_in_relu(self, *inputs: TensorType | None) -> bool:
        """Whether there is a kernel of all three."""
        return True

    def call_kernel(self, to: Lowering, part: str, *options: Argument) -> None:
        """Calls the kernel of layer and addition with a part in its name, and options in front of its tensors."""
        assert isinstance(self.layer, EndsInSum)
        own = to.node.inputs[:-1]
        forms = self.layer.ends_in_sum(*(None if name is None else to.type(name) for name in own)) or ()
        to.ask_for(*(Form(form.macro) for form in forms))
        self.layer.call_kernel(to, f"_add{part}", *options)

    def macs(self, *inputs: TensorType | None) -> int:
        return self.layer.macs(*inputs[:-1])


def fuse_residuals(
    graphs: Mapping[str, Graph], arena_bytes: Callable[[str, Graph], int], small_code: bool
) -> Mapping[str, Graph]:
    """The graphs with Add(layer(x), y) turned into ResidualLayers.

    Nothing else may read what the layer gives, and no graph may take more memory for it. They are made where the
    largest of the graphs then takes less; or where they are worth their code, and code need not be small.

    It is for graphs whose gradients are there: none reads the output of a layer that has such a kernel.

    Args:
        arena_bytes: what a function takes, by name and graph.
    """
    fused = {name: _within_memory(graph, partial(arena_bytes, name), small_code) for name, graph in graphs.items()}
    if all(fused[name] is graph for name, graph in graphs.items()):
        return graphs
    before, after = (max(arena_bytes(name, graph) for name, graph in each.items()) for each in (graphs, fused))
    return fused if after < before or (not small_code and _worth_its_code(fused)) else graphs


def _worth_its_code(graphs: Mapping[str, Graph]) -> bool:
    """Whether the sums in layers save more of a function's instructions than their code takes of the flash."""
    functions = []
    for graph in graphs.values():
        macs, saves, bytes = 0, 0.0, {}
        for node in graph.nodes:
            assert isinstance(node.op, Op)
            types = [None if name is None else graph.type(name) for name in node.inputs]
            macs += node.op.macs(*types)
            if isinstance(node.op, ResidualLayer) and isinstance(node.op.layer, EndsInSum):
                for form in node.op.layer.ends_in_sum(*types[:-1]) or ():
                    saves += form.saves
                    bytes[form.macro] = form.bytes
        if any(isinstance(node.op, ResidualLayer) for node in graph.nodes):
            functions.append((macs, [Form("all of them", sum(bytes.values()), saves)]))
    flash = {name: value.nbytes for graph in graphs.values() for name, value in graph.data.items()}
    return bool(worthwhile(functions, sum(flash.values())))


def _within_memory(graph: Graph, arena_bytes: Callable[[Graph], int], small_code: bool) -> Graph:
    """The graph with ResidualLayers that take no more memory; of two layers before an Add, the later is tried first."""
    candidates = _candidates(graph, small_code)
    if not candidates:
        return graph
    most = arena_bytes(graph)
    fused = _fused(graph, {addition: layers[0] for addition, layers in candidates.items()})
    if arena_bytes(fused) <= most:
        return fused
    chosen: dict[str, str] = {}
    for addition, layers in candidates.items():
        for layer in layers:
            if arena_bytes(_fused(graph, {**chosen, addition: layer})) <= most:
                chosen[addition] = layer
                break
    return _fused(graph, chosen)


def _candidates(graph: Graph, small_code: bool) -> dict[str, tuple[str, ...]]:
    """Add -> the layers that it could be the end of, the latest first; all by name."""
    kept = {*graph.outputs, *graph.updates, *graph.updates.values(), graph.loss}
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    found: dict[str, tuple[str, ...]] = {}
    layers: dict[str, Node] = {}  # by what they give, as far as the nodes have come
    for node in graph.nodes:
        if isinstance(node.op, Add) and not node.after:
            first, second = (graph.type(name or "") for name in node.inputs)
            ending = [layer for value, layer in layers.items() if value in node.inputs]
            if ending and first == second:
                found[node.name] = tuple(layer.name for layer in reversed(ending))
        types = [None if name is None else graph.type(name) for name in node.inputs]
        forms = node.op.ends_in_sum(*types) if isinstance(node.op, EndsInSum) else None
        if forms is not None and (forms or not small_code):
            value = node.outputs[0]
            if readers[value] == 1 and value not in kept:
                layers[value] = node
    return found


def _fused(graph: Graph, chosen: Mapping[str, str]) -> Graph:
    """The graph with some of the candidates."""
    if not chosen:
        return graph
    layers = {layer: addition for addition, layer in chosen.items()}
    additions = {node.name: node for node in graph.nodes if node.name in chosen}
    nodes, gone = [], set()
    for node in graph.nodes:
        if node.name in additions:
            continue
        if node.name in layers:
            gone.add(node.outputs[0])
            node = _joined(node, additions[layers[node.name]])
        if node.after:
            node = replace(node, after=tuple(chosen.get(name, name) for name in node.after))
        nodes.append(node)
    tensors = {name: tensor for name, tensor in graph.tensors.items() if name not in gone}
    return replace(graph, nodes=_in_order(nodes), tensors=tensors)


def _in_order(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Nodes as they are given, but for those that come before what they need: they wait for it."""
    missing = {name for node in nodes for name in (node.name, *node.outputs)}
    waiting: list[Node] = []
    ordered: list[Node] = []
    for given in nodes:
        waiting.append(given)
        while ready := [node for node in waiting if missing.isdisjoint((*node.inputs, *node.after))]:
            ordered.append(ready[0])
            waiting.remove(ready[0])
            missing.difference_update((ready[0].name, *ready[0].outputs))
    assert not waiting, "a layer waits for what is added to it, and that for the layer"
    return tuple(ordered)


def _joined(layer: Node, addition: Node) -> Node:
    """Both in one node, under the name of the layer."""
    assert isinstance(layer.op, Op) and isinstance(layer.op, EndsInSum)
    value = layer.outputs[0]
    (addend,) = (name for name in addition.inputs if name != value)
    absent = (None,) * (layer.op.addend - len(layer.inputs))
    return replace(
        layer,
        op=ResidualLayer(layer.op),
        inputs=(*layer.inputs, *absent, addend),
        outputs=(*addition.outputs, *layer.outputs[1:]),
    )
