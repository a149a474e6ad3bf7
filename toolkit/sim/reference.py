"""The NumPy reference: runs a Graph node by node. It is the specification of every bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from toolkit.ir import Array, Graph, GraphError, Node
from toolkit.ops.base import Op, Run, StepAborted
from toolkit.pipeline import Compiled
from toolkit.sim.backend import Backend


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
        scheduled = set(order)
        silent = [node for node in graph.nodes if node.name not in scheduled]
        nodes = tuple(_merge(listed, silent, set(environment)))
    for node in nodes:
        assert isinstance(node.op, Op)
        stopped: StepAborted | None = None
        try:
            arrays = node.op.run(run, *(None if name is None else environment[name] for name in node.inputs))
        except StepAborted as stop:
            stopped, arrays = stop, stop.updated
        for name, array in zip(node.outputs, arrays, strict=stopped is None):
            environment[name] = array
            if commit is not None:
                for state in replaced_by.get(name, ()):
                    commit[state] = array
        if stopped is not None:
            stopped.seen = environment
            raise stopped
    return environment


def _merge(listed: Sequence[Node], silent: Sequence[Node], known: set[str]) -> list[Node]:
    """`listed` in its order, each of `silent` as soon as its inputs are there."""
    waiting = list(silent)
    result: list[Node] = []

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


class ReferenceBackend(Backend):
    """A model run by the reference."""

    name = "reference"

    def __init__(self, compiled: Compiled) -> None:
        super().__init__(compiled)
        self.graphs = compiled.graphs
        self.orders = compiled.orders()
        self.fma = compiled.program.fma
        self.learning_rate = 0.01
        self.seed = 0
        self.init()

    def init(self) -> None:
        self._state = {name: graph.data[name].copy() for graph in self.graphs.values() for name in graph.updates}
        self.step = 0

    def infer(self, inputs: Sequence[Array]) -> list[Array]:
        graph = self.graphs["infer"]
        given = dict(zip(graph.inputs, inputs, strict=True))
        values = run_graph(graph, {**self._scalars(), **self._state, **given}, self.fma)
        return [values[name] for name in graph.outputs]

    def train_step(self, inputs: Sequence[Array], label: Array) -> tuple[str, np.float32]:
        graph = self.graphs["train_step"]
        assert graph.label is not None and graph.loss is not None
        given = {**dict(zip(graph.inputs, inputs, strict=True)), graph.label: label}
        status, seen = self._run("train_step", given)
        if status == "ET_OK":
            self.step = (self.step + 1) & 0xFFFFFFFF
        return status, np.float32(seen.get(graph.loss, np.float32(np.nan)))

    def update(self) -> str:
        if "update" not in self.graphs:
            return "ET_OK"
        status, _ = self._run("update", {})
        if status != "ET_OK":
            self._run("discard", {})
        return status

    def state(self) -> dict[str, Array]:
        return {name: value.copy() for name, value in self._state.items()}

    def set_state(self, values: dict[str, Array]) -> None:
        for name, value in values.items():
            self._state[name] = np.ascontiguousarray(value, self._state[name].dtype).reshape(self._state[name].shape)

    def _run(self, function: str, given: Mapping[str, Array]) -> tuple[str, Mapping[str, Array]]:
        """Runs a function, keeping what it updates; gives the status and all tensors computed."""
        environment = {**self._scalars(), **self._state, **given}
        try:
            seen = run_graph(self.graphs[function], environment, self.fma, self.orders[function], self._state)
        except StepAborted as stop:
            return stop.status, stop.seen
        return "ET_OK", seen

    def _scalars(self) -> dict[str, Array]:
        return {
            "learning_rate": np.array(self.learning_rate, np.float32),
            "seed": np.array(self.seed, np.uint32),
            "step": np.array(self.step, np.uint32),
        }
