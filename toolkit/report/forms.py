"""Why a layer of 1-bit weights runs as it does: the forms it could take, their cost, and the choice."""

from __future__ import annotations

from typing import Any

from toolkit.errors import UserError
from toolkit.ir import Graph, Node
from toolkit.ops.fixed_sign_conv import FixedSignConv, FixedSignConvGradInput
from toolkit.ops.quantized_conv import QuantizedConv, QuantizedConvGradInput
from toolkit.ops.sign_forms import Choice
from toolkit.pipeline import Compiled
from toolkit.report.tables import table

WHERE = "--explain"


def explain_node(compiled: Compiled, name: str) -> tuple[dict[str, Any], str]:
    """The candidates for a node as data and as text.

    Raises:
        UserError: no node has this name, or it has one form only.
    """
    places = [(function, node) for function, graph in compiled.graphs.items() for node in graph.nodes]
    with_forms = sorted({node.name for function, node in places if _choice(compiled.graphs[function], node)})
    hint = f"of these it can say more: {', '.join(with_forms)}" if with_forms else _NONE
    named = [(function, node) for function, node in places if node.name == name]
    if not named:
        raise UserError(f"there is no node '{name}'", where=WHERE, hint=hint)
    functions: dict[str, Any] = {}
    lines: list[str] = []
    for function, node in named:
        choice = _choice(compiled.graphs[function], node)
        if choice is None:
            continue
        functions[function] = _data(choice)
        lines += ["", f"{name} in {function}: {choice.chosen.title}; {choice.why}", "", _table(choice)]
    if not functions:
        what = f"'{name}' is a {named[0][1].op.name}, which has one form"
        raise UserError(what, where=WHERE, hint=hint)
    return {"node": name, "functions": functions}, "\n".join(lines[1:])


_NONE = "no layer of this model has int8 codes and 1-bit weights; try --quant dorefa:w1a2g6"


def _choice(graph: Graph, node: Node) -> Choice | None:
    if not isinstance(node.op, QuantizedConv | QuantizedConvGradInput | FixedSignConv | FixedSignConvGradInput):
        return None
    x, w, *others = (None if name is None else graph.type(name) for name in node.inputs)
    assert x is not None and w is not None
    if isinstance(node.op, FixedSignConv | FixedSignConvGradInput):
        return node.op.form(x, w)
    return node.op.form(x, w, *others)


def _data(choice: Choice) -> dict[str, Any]:
    candidates = [
        {
            "form": form.title,
            "instructions_per_mac": round(form.per_mac, 3),
            "scratch_bytes": form.scratch,
            "chosen": form is choice.chosen,
        }
        for form in choice.candidates
    ]
    return {"candidates": candidates, "why": choice.why}


def _table(choice: Choice) -> str:
    rows = [
        (form.title, f"{form.per_mac:.2f}", form.scratch, "chosen" if form is choice.chosen else "")
        for form in choice.candidates
    ]
    return table(("form", "instructions per MAC (estimate)", "scratch bytes", ""), rows)
