"""The intermediate representation: frozen tensors, nodes and graphs, a verifier and a printer."""

from __future__ import annotations

from toolkit.ir.graph import SAVED, Array, Graph, Interface, Kind, Node, Operator, Origin, Tensor, TensorType
from toolkit.ir.printer import format_graph
from toolkit.ir.verify import GraphError, verify

__all__ = [
    "SAVED", "Array", "Graph", "GraphError", "Interface", "Kind", "Node", "Operator", "Origin", "Tensor",
    "TensorType", "format_graph", "verify",
]
