"""Update schemes: which parameters a training step changes.

    all             every parameter
    head            the last layer (the same as last:1)
    last:K          the last K layers
    bias            every bias (of layers, and of normalizations)
    layers:a,b      the layers or parameters of these names; * and ? match as in file names
    none            nothing: inference only

Several may be joined with +. A layer is a node with a weight of two or more axes, together with the vector parameters
of the nodes that follow it (biases added apart, normalizations, slopes).
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from toolkit.errors import UserError
from toolkit.ir import Graph, Kind
from toolkit.ops.base import Op

SCHEMES = ("all", "head", "last:K", "bias", "layers:a,b", "none")


@dataclass(frozen=True)
class Layer:
    """A layer as schemes see it: the name of its node, and its trainable parameters."""

    name: str
    parameters: tuple[str, ...]
    biases: tuple[str, ...]


def layers(graph: Graph) -> tuple[Layer, ...]:
    """The layers of a model, in order. A parameter belongs to the first layer that uses it."""
    found: list[tuple[str, list[str], list[str]]] = []
    seen: set[str] = set()
    for node in graph.nodes:
        op = node.op
        assert isinstance(op, Op)
        names = [
            (index, name)
            for index, name in enumerate(node.inputs)
            if name is not None
            and graph.kind(name) is Kind.PARAMETER
            and index not in op.statistics_inputs
            and name not in seen
        ]
        if not names:
            continue
        seen.update(name for _, name in names)
        if not found or any(len(graph.type(name).shape) >= 2 for index, name in names if index not in op.bias_inputs):
            found.append((node.name, [], []))
        found[-1][1].extend(name for _, name in names)
        found[-1][2].extend(name for index, name in names if index in op.bias_inputs)
    return tuple(Layer(name, tuple(parameters), tuple(biases)) for name, parameters, biases in found)


def select(graph: Graph, scheme: str) -> frozenset[str]:
    """The parameters that a scheme trains.

    Raises:
        UserError: the scheme is not understood, or it names nothing.
    """
    chosen: set[str] = set()
    for part in scheme.split("+"):
        chosen.update(_select_one(graph, part.strip()))
    return frozenset(chosen)


def _select_one(graph: Graph, scheme: str) -> set[str]:
    model = layers(graph)
    kind, _, argument = scheme.partition(":")
    if scheme == "none":
        return set()
    if not model:
        raise UserError("the model has no trainable parameter", where=graph.name, hint="use --train none")
    if scheme == "all":
        return {name for layer in model for name in layer.parameters}
    if scheme == "bias":
        biases = {name for layer in model for name in layer.biases}
        if not biases:
            raise UserError("the model has no biases", where=f"--train {scheme}", hint="use --train last:K")
        return biases
    if scheme == "head":
        return set(model[-1].parameters)
    if kind == "last" and argument.isdigit() and int(argument) > 0:
        if int(argument) > len(model):
            count = len(model)
            raise UserError(f"the model has only {count} layers", where=f"--train {scheme}", hint="use --train all")
        return {name for layer in model[-int(argument) :] for name in layer.parameters}
    if kind == "layers" and argument:
        return _by_name(model, argument, scheme)
    raise UserError(f"unknown update scheme '{scheme}'", where="--train", hint=f"one of {', '.join(SCHEMES)}")


def _by_name(model: tuple[Layer, ...], patterns: str, scheme: str) -> set[str]:
    chosen: set[str] = set()
    for pattern in (text.strip() for text in patterns.split(",")):
        hits = {name for layer in model if fnmatchcase(layer.name, pattern) for name in layer.parameters}
        hits |= {name for layer in model for name in layer.parameters if fnmatchcase(name, pattern)}
        if not hits:
            known = [layer.name for layer in model]
            parameters = [name for layer in model for name in layer.parameters]
            near = get_close_matches(pattern, known + parameters, n=1)
            raise UserError(
                f"no layer or parameter is called '{pattern}'",
                where=f"--train {scheme}",
                hint=f"did you mean {near[0]}?" if near else f"layers: {', '.join(known)}",
            )
        chosen |= hits
    return chosen
