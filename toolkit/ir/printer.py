"""A Graph as text that a person can read."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

from toolkit.ir.graph import Graph, Node


def format_graph(graph: Graph) -> str:
    """One line a node: outputs with their types, op with its attributes, inputs."""
    lines = [f"graph {graph.name}({', '.join(f'{name}: {graph.type(name)}' for name in graph.inputs)})"]
    lines += [f"  {_node(graph, node)}" for node in graph.nodes]
    lines += [f"  {name} <- {value}" for name, value in graph.updates.items()]
    lines.append(f"  return {', '.join(graph.outputs)}")
    return "\n".join(lines)


def _node(graph: Graph, node: Node) -> str:
    outputs = ", ".join(f"{name}: {graph.type(name)}" for name in node.outputs)
    attributes = ""
    if is_dataclass(node.op):
        values = [(f.name, getattr(node.op, f.name), f.default) for f in fields(node.op)]
        shown = [f"{name}={value}" for name, value, default in values if value != default]
        attributes = f"[{', '.join(shown)}]" if shown else ""
    inputs = ", ".join("-" if name is None else name for name in node.inputs)
    after = f"  after {', '.join(node.after)}" if node.after else ""
    return f"{outputs} = {node.op.name}{attributes}({inputs}){after}"
