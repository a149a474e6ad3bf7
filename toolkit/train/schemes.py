"""Update schemes: which parameters a training step changes.

    all             every parameter
    head            the last layer (the same as last:1)
    last:K          the last K layers
    bias            every bias (of layers, and of normalizations)
    light:K         every layer but the K whose parameters are most; the last layer always
    blocks:K        the last K residual blocks, and all layers after the first of them
    mobiletl:K      the same for inverted residual blocks, whose normalizations and activations are trained as MobileTL
                    has it (see mobiletl.py)
    mobiletl:K:sign the same with the other reading of the paper's ReLU6 mask (see sign_gradients.py)
    layers:a,b      the layers or parameters of these names; * and ? match as in file names
    NAME@R          only the first part of the output channels, R of them rounded up (0 < R <= 1)
    NAME@R:norm     the same number of channels, those whose weights have the largest L2 norm before training
    none            nothing: inference only

Several may be joined with +: a parameter is then trained in all channels that any part names. A layer is a node with a
weight of two or more axes, together with the vector parameters of the nodes that follow it (biases added apart,
normalizations, slopes). A ratio may follow each name of layers:a,b too; where NAME is a layer, the ratio is that of its
weights of two or more axes, and its vectors are trained whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TypeVar

from toolkit.errors import UserError
from toolkit.ir import Graph, Kind
from toolkit.ops.base import Op
from toolkit.train.blocks import Block, InvertedResidual, find_blocks, find_inverted_residuals
from toolkit.train.channels import picked_channels, split_ratio
from toolkit.train.mobiletl import no_blocks, parameters_of_block
from toolkit.train.sign_gradients import EXACT, SIGN
from toolkit.train.wiring import Wiring

_B = TypeVar("_B", bound=Block)
SCHEMES = (
    "all", "head", "last:K", "bias", "light:K", "blocks:K", "mobiletl:K", "layers:a,b", "NAME@RATIO", "none"
)


@dataclass(frozen=True)
class Selection:
    """What a scheme trains.

    Attributes:
        trained: parameters, in whole or in part.
        channels: parameter -> its trained output channels, ascending; only of those that are trained in part.
        mobiletl: the blocks that are trained as MobileTL has it.
        reading: of their masks; see sign_gradients.
    """

    trained: frozenset[str] = frozenset()
    channels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    mobiletl: tuple[InvertedResidual, ...] = ()
    reading: str = EXACT


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
    """The parameters that a scheme trains, in whole or in part.

    Raises:
        UserError: the scheme is not understood, or it names nothing.
    """
    return read_scheme(graph, scheme).trained


def read_scheme(graph: Graph, scheme: str) -> Selection:
    """What a scheme trains.

    Raises:
        UserError: the scheme is not understood, or it names nothing.
    """
    whole: set[str] = set()
    parts: dict[str, set[int]] = {}
    blocks: dict[str, InvertedResidual] = {}
    readings: set[str] = set()
    for part in _parts(scheme):
        found = _read_one(graph, part)
        whole.update(found.trained - set(found.channels))
        for name, picked in found.channels.items():
            parts.setdefault(name, set()).update(picked)
        blocks.update((block.output, block) for block in found.mobiletl)
        readings.add(found.reading)
    channels = {
        name: tuple(sorted(union))
        for name, union in parts.items()
        if name not in whole and len(union) < graph.type(name).shape[-1]
    }
    reading = SIGN if SIGN in readings else EXACT
    return Selection(frozenset(whole | set(parts)), channels, tuple(blocks.values()), reading)


def _parts(scheme: str) -> list[str]:
    return [part.strip() for part in scheme.split("+")]


def _read_one(graph: Graph, scheme: str) -> Selection:
    model = layers(graph)
    kind, _, argument = scheme.partition(":")
    if scheme == "none":
        return Selection()
    if not model:
        raise UserError("the model has no trainable parameter", where=graph.name, hint="use --train none")
    if scheme == "all":
        return Selection(frozenset(name for layer in model for name in layer.parameters))
    if scheme == "bias":
        biases = frozenset(name for layer in model for name in layer.biases)
        if not biases:
            raise UserError("the model has no biases", where=f"--train {scheme}", hint="use --train last:K")
        return Selection(biases)
    if scheme == "head":
        return Selection(frozenset(model[-1].parameters))
    if kind == "layers" and argument:
        return _by_names(graph, model, argument, scheme)
    if "@" in scheme:
        return _by_names(graph, model, scheme, scheme)
    if kind == "mobiletl" and argument.endswith(f":{SIGN}"):
        count = argument.removesuffix(f":{SIGN}")
        if count.isdigit() and int(count) > 0:
            return _mobiletl(graph, int(count), SIGN)
    counted = {"last": _last, "light": _light, "blocks": _blocks, "mobiletl": _mobiletl}
    if kind in counted and argument.isdigit() and int(argument) > 0:
        return counted[kind](graph, int(argument))
    raise UserError(f"unknown update scheme '{scheme}'", where="--train", hint=_near_scheme(model, scheme))


def _near_scheme(model: tuple[Layer, ...], scheme: str) -> str:
    """What a scheme that is none may have meant."""
    names = [layer.name for layer in model] + [name for layer in model for name in layer.parameters]
    if any(fnmatchcase(name, scheme) for name in names):
        return f"did you mean layers:{scheme}?"
    words = {each.partition(":")[0]: each for each in SCHEMES if "@" not in each}
    kind = scheme.partition(":")[0]
    near = [words[kind]] if kind in words else [words[word] for word in get_close_matches(kind, words, n=1)]
    near = near or [f"layers:{name}" for name in get_close_matches(scheme, names, n=1)]
    known = f"one of {', '.join(SCHEMES)}"
    return f"did you mean {near[0]}? It is {known}" if near else known


def _last(graph: Graph, count: int) -> Selection:
    model = layers(graph)
    if count > len(model):
        raise UserError(f"the model has only {len(model)} layers", where=f"--train last:{count}", hint="--train all")
    return Selection(frozenset(name for layer in model[-count:] for name in layer.parameters))


def _light(graph: Graph, count: int) -> Selection:
    """Of layers of the same size the later ones are left out first."""
    model = layers(graph)
    if count >= len(model):
        what = f"the model has only {len(model) - 1} layers below the last"
        raise UserError(what, where=f"--train light:{count}", hint="--train head")
    sizes = [sum(graph.type(name).size for name in layer.parameters) for layer in model]
    heaviest = sorted(range(len(model) - 1), key=lambda index: (-sizes[index], -index))[:count]
    return Selection(frozenset(n for i, layer in enumerate(model) if i not in heaviest for n in layer.parameters))


def _blocks(graph: Graph, count: int) -> Selection:
    scheme, found = f"--train blocks:{count}", find_blocks(graph)
    if not found:
        raise UserError(
            "the model has no residual blocks", where=scheme,
            hint="they are additions of two values that come from one; use --train last:K",
        )
    return Selection(_from_block_on(graph, _top(found, count, scheme)[0], "residual blocks"))


def _mobiletl(graph: Graph, count: int, reading: str = EXACT) -> Selection:
    scheme, finding = f"--train mobiletl:{count}", find_inverted_residuals(graph)
    if not finding.blocks:
        raise no_blocks(finding, scheme)
    chosen = _top(finding.blocks, count, scheme)
    inside = {name for block in chosen for name in block.nodes}
    everything = _from_block_on(graph, chosen[0], "inverted residual blocks")
    of_blocks = _parameters(graph, inside)
    trained = everything - of_blocks
    for block in chosen:
        trained |= parameters_of_block(graph, block)
    return Selection(frozenset(trained), mobiletl=chosen, reading=reading)


def _top(found: tuple[_B, ...], count: int, scheme: str) -> tuple[_B, ...]:
    """The last blocks. Raises UserError where there are fewer."""
    if count > len(found):
        kind = scheme.split()[-1].partition(":")[0]
        raise UserError(
            f"the model has only {len(found)} blocks", where=scheme, hint=f"--train {kind}:{len(found)}, or --train all"
        )
    return found[-count:]


def _from_block_on(graph: Graph, block: Block, what: str) -> frozenset[str]:
    """The parameters of a block and of all that depends on it."""
    chosen = _parameters(graph, {*block.nodes, *Wiring(graph).descendants(block.output)})
    if not chosen:
        raise UserError(f"the {what} have no trainable parameter", where=graph.name, hint="use --train last:K")
    return chosen


def _parameters(graph: Graph, nodes: set[str]) -> frozenset[str]:
    """The trainable parameters that some nodes read."""
    found: set[str] = set()
    for node in graph.nodes:
        op = node.op
        assert isinstance(op, Op)
        if node.name in nodes:
            found.update(
                name
                for index, name in enumerate(node.inputs)
                if name is not None and graph.kind(name) is Kind.PARAMETER and index not in op.statistics_inputs
            )
    return frozenset(found)


def _by_names(graph: Graph, model: tuple[Layer, ...], items: str, scheme: str) -> Selection:
    """Of names joined by commas, each with a ratio or without."""
    whole: set[str] = set()
    channels: dict[str, set[int]] = {}
    for item in (text.strip() for text in items.split(",")):
        pattern, ratio = split_ratio(item, f"--train {scheme}")
        of_layers = {name for layer in model if fnmatchcase(layer.name, pattern) for name in layer.parameters}
        named = {name for layer in model for name in layer.parameters if fnmatchcase(name, pattern)}
        if not of_layers | named:
            raise _unknown_name(model, pattern, scheme)
        for name in of_layers | named:
            if ratio is None or (name not in named and len(graph.type(name).shape) < 2):
                whole.add(name)
            else:
                channels.setdefault(name, set()).update(picked_channels(graph.data[name], ratio))
    partly = {name: tuple(sorted(picked)) for name, picked in channels.items() if name not in whole}
    return Selection(frozenset(whole | set(channels)), partly)


def _unknown_name(model: tuple[Layer, ...], pattern: str, scheme: str) -> UserError:
    known = [layer.name for layer in model]
    near = get_close_matches(pattern, known + [name for layer in model for name in layer.parameters], n=3)
    return UserError(
        f"no layer or parameter is called '{pattern}'",
        where=f"--train {scheme}",
        hint=f"did you mean {' or '.join(near)}?" if near else f"layers: {', '.join(known)}",
    )
