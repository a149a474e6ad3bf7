"""Who writes and who reads each tensor of a graph, looked up at once: for passes that follow chains of nodes."""

from __future__ import annotations

from toolkit.ir import Graph, Kind, Node


class Wiring:
    """A graph with its producers and readers. Positions are those of `graph.nodes`."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.position = {node.name: index for index, node in enumerate(graph.nodes)}
        self._producers = {name: node for node in graph.nodes for name in node.outputs}
        self._readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in dict.fromkeys(name for name in node.inputs if name is not None):
                self._readers.setdefault(name, []).append(node)

    def producer(self, tensor: str | None) -> Node | None:
        """The node that writes a tensor, if any."""
        return self._producers.get(tensor) if tensor is not None else None

    def readers(self, tensor: str) -> list[Node]:
        """The nodes that read a tensor."""
        return self._readers.get(tensor, [])

    def only_reader(self, tensor: str) -> Node | None:
        """The node that alone reads a tensor; None where several do, or the caller of the model too."""
        readers = self.readers(tensor)
        return readers[0] if len(readers) == 1 and tensor not in self.graph.outputs else None

    def private_producer(self, tensor: str | None) -> Node | None:
        """The node that writes a tensor for one reader alone."""
        return self.producer(tensor) if tensor is not None and self.only_reader(tensor) is not None else None

    def ancestors(self) -> dict[str, int]:
        """For each computed tensor, the positions of the nodes that it depends on, as bits of an integer."""
        found: dict[str, int] = {}
        for index, node in enumerate(self.graph.nodes):
            bits = 1 << index
            for name in node.inputs:
                bits |= found.get(name or "", 0)
            found.update(dict.fromkeys(node.outputs, bits))
        return found

    def descendants(self, tensor: str) -> set[str]:
        """Names of the nodes that depend on a tensor."""
        reached, found = {tensor}, set()
        for node in self.graph.nodes:
            if any(name in reached for name in node.inputs):
                reached.update(node.outputs)
                found.add(node.name)
        return found

    def is_computed(self, tensor: str | None) -> bool:
        """Whether a tensor depends on the input: it is computed, or the input itself."""
        return tensor is not None and self.graph.kind(tensor) in (Kind.COMPUTED, Kind.INPUT)
