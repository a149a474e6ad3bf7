"""`edgetrain inspect`: what a model consists of, and what training it would need."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from toolkit.cli.options import Request, examples, json_option, model_command
from toolkit.cli.output import progress, result

SCHEMES = ("none", "bias", "head", "all")


@click.command(epilog=examples("edgetrain inspect lenet", "edgetrain inspect model.onnx --batch 8 --json"))
@model_command()
@json_option
def command(request: Request, as_json: bool) -> None:
    """Operators, shapes, parameters, multiply-accumulates and bytes of MODEL (an ONNX file, or a name of the zoo)."""
    from toolkit.errors import UserError
    from toolkit.pipeline import compile_graph, layer_names, load

    options = request.options()
    with progress() as bar:
        graph = load(request.model, options)
        compiled = compile_graph(graph, replace(options, train="none"), request.model)
        schemes = dict.fromkeys((*SCHEMES, request.train))
        training: dict[str, Any] = {}
        for number, scheme in enumerate(schemes):
            bar("update schemes", number, len(schemes))
            try:
                program = compile_graph(graph, replace(options, train=scheme), request.model).program
            except UserError as error:
                training[scheme] = {"not_possible": error.what}
                continue
            step = program.functions.get("train_step")
            training[scheme] = {
                "weights": program.params_bytes,
                "arena": program.arena_bytes,
                "arena_lower_bound": program.lower_bound,
                "macs": step.macs if step else 0,
            }
    model, infer = compiled.model, compiled.program.functions["infer"]
    macs: dict[str, int] = {}
    for each in infer.steps:
        macs[each.node] = macs.get(each.node, 0) + each.macs
    nodes: list[dict[str, Any]] = [
        {
            "name": node.name,
            "op": node.op.name,
            "output": list(model.type(node.outputs[0]).shape),
            "parameters": sum(
                model.type(name).size for name in node.inputs if name is not None and name in model.parameters()
            ),
            "macs": macs.get(node.name, 0),
            "bytes": model.type(node.outputs[0]).bytes,
        }
        for node in model.nodes
    ]
    sides = [model.interface[name] for name in (*model.inputs, *model.outputs)]
    data = {
        "model": request.model,
        "inputs": {side.name: list(side.shape) for side in sides[: len(model.inputs)]},
        "outputs": {side.name: list(side.shape) for side in sides[len(model.inputs) :]},
        "nodes": nodes,
        "layers": list(layer_names(graph)),
        "parameters": sum(node["parameters"] for node in nodes),
        "macs": infer.macs,
        "activation_bytes": sum(node["bytes"] for node in nodes),
        "arena": infer.peak,
        "training": training,
    }
    result(as_json, data, _text(data))


def _text(data: dict[str, Any]) -> str:
    from toolkit.report.tables import table

    def shapes(sides: dict[str, list[int]]) -> str:
        return " · ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in sides.items())

    nodes = [
        (node["name"], node["op"], "x".join(map(str, node["output"])), node["parameters"], node["macs"], node["bytes"])
        for node in data["nodes"]
    ]
    training = [
        (f"--train {name}", *(needs[key] for key in ("weights", "arena", "arena_lower_bound", "macs")))
        for name, needs in data["training"].items()
        if "not_possible" not in needs
    ]
    refused = [
        f"--train {name}: {needs['not_possible']}"
        for name, needs in data["training"].items()
        if "not_possible" in needs
    ]
    return "\n".join(
        [
            f"{data['model']}: {shapes(data['inputs'])} -> {shapes(data['outputs'])}",
            f"{data['parameters']:,} parameters · {data['macs']:,} MACs · {data['activation_bytes']:,} B of activations"
            f" · {data['arena']:,} B of arena for inference",
            "",
            table(("node", "operator", "output (channels last)", "parameters", "MACs", "bytes"), nodes),
            "",
            table(("RAM in bytes", "weights", "arena", "lower bound", "MACs a step"), training),
            *refused,
        ]
    )
