"""The NumPy reference: runs a Graph node by node. It is the specification of every bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from toolkit.ir import Array, Graph, GraphError
from toolkit.ops.base import Op, Run, StepAborted


def run_graph(
    graph: Graph,
    values: Mapping[str, Array],
    fma: bool = True,
    order: Sequence[str] | None = None,
    commit: dict[str, Array] | None = None,
) -> dict[str, Array]:
    """Runs all nodes of a graph.

    Args:
        graph: any function of a model.
        values: inputs, label and runtime scalars by name, and whatever shall replace the graph's own data.
        fma: whether multiply-adds round once.
        order: node names in the order of the Program's steps; matters when a step is abandoned half-way.
        commit: updated parameters and states are written here the moment they are computed, as C does.

    Returns:
        Every tensor by name.

    Raises:
        StepAborted: a check failed; `commit` holds what was updated before.
    """
    environment: dict[str, Array] = {**graph.data, **values}
    replaced_by: dict[str, list[str]] = {}
    for name, value in graph.updates.items():
        replaced_by.setdefault(value, []).append(name)
    run = Run(fma=fma)
    nodes = graph.nodes
    if order is not None:
        by_name = {node.name: node for node in graph.nodes}
        listed = [by_name[name] for name in dict.fromkeys(order) if name in by_name]
        # Views need no step: they run as soon as they can, which is before whatever reads them.
        silent = [node for node in graph.nodes if node.name not in set(order)]
        nodes = tuple(_merge(listed, silent, set(environment)))
    for node in nodes:
        assert isinstance(node.op, Op)
        try:
            arrays = node.op.run(run, *(None if name is None else environment[name] for name in node.inputs))
        except StepAborted as stop:
            stop.seen = environment
            raise
        for name, array in zip(node.outputs, arrays, strict=True):
            environment[name] = array
            if commit is not None:
                for state in replaced_by.get(name, ()):
                    commit[state] = array
    return environment


def _merge(listed: Sequence, silent: Sequence, known: set[str]) -> list:  # type: ignore[type-arg]
    """`listed` in its order, each of `silent` as soon as its inputs are there."""
    waiting = list(silent)
    result = []

    def release() -> None:
        progress = True
        while progress:
            progress = False
            for node in list(waiting):
                if all(name is None or name in known for name in node.inputs):
                    result.append(node)
                    known.update(node.outputs)
                    waiting.remove(node)
                    progress = True

    release()
    for node in listed:
        missing = [name for name in node.inputs if name is not None and name not in known]
        if missing:
            raise GraphError(f"{node.name} is scheduled before {', '.join(missing)}")
        result.append(node)
        known.update(node.outputs)
        release()
    return result


class Reference:
    """A model run by the reference, with the interface that host and emulator have too (see toolkit.sim.session)."""

    def __init__(self, graphs: Mapping[str, Graph], orders: Mapping[str, Sequence[str]], fma: bool) -> None:
        """
        Args:
            graphs: function name -> graph, as in the Program.
            orders: function name -> node names in the order of the steps.
        """
        self.graphs = graphs
        self.orders = orders
        self.fma = fma
        self.state: dict[str, Array] = {}
        self.learning_rate = 0.0
        self.seed = 0
        self.step = 0
        self.init()

    def init(self) -> None:
        """Weights and states as they were compiled in."""
        self.state = {
            name: graph.data[name].copy() for graph in self.graphs.values() for name in graph.updates
        }
        self.step = 0

    def infer(self, inputs: Sequence[Array]) -> list[Array]:
        """Outputs for inputs, both in the model's inner layout."""
        graph = self.graphs["infer"]
        values = run_graph(graph, {**self._scalars(), **self.state, **dict(zip(graph.inputs, inputs, strict=True))}, self.fma)
        return [values[name] for name in graph.outputs]

    def train_step(self, inputs: Sequence[Array], label: Array) -> tuple[str, np.float32]:
        """One training step. Returns the status as C names it, and the loss."""
        graph = self.graphs["train_step"]
        assert graph.label is not None and graph.loss is not None
        given = {**dict(zip(graph.inputs, inputs, strict=True)), graph.label: label}
        seen: dict[str, Array] = {}
        status = self._run("train_step", given, seen)
        if status == "ET_OK":
            self.step = (self.step + 1) & 0xFFFFFFFF
        return status, np.float32(seen.get(graph.loss, np.float32(np.nan)))

    def update(self) -> str:
        """Applies what was accumulated; an abandoned update empties the accumulators."""
        if "update" not in self.graphs:
            return "ET_OK"
        status = self._run("update", {}, {})
        if status != "ET_OK":
            self._run("discard", {}, {})
        return status

    def _run(self, function: str, given: Mapping[str, Array], seen: dict[str, Array]) -> str:
        graph = self.graphs[function]
        environment = {**self._scalars(), **self.state, **given}
        try:
            seen.update(run_graph(graph, environment, self.fma, self.orders[function], self.state))
        except StepAborted as stop:
            seen.update(stop.seen)
            return stop.status
        return "ET_OK"

    def _scalars(self) -> dict[str, Array]:
        return {
            "learning_rate": np.array(self.learning_rate, np.float32),
            "seed": np.array(self.seed, np.uint32),
            "step": np.array(self.step, np.uint32),
        }
