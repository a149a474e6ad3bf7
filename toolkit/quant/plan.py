"""Which method quantizes which layer: one text for all layers, or a TOML file with patterns.

    dorefa:w1a2g6                       every layer that the method quantizes by default
    dorefa:w1a2g6,all                   the first and the last layer too
    layers.toml                         patterns, the most specific wins:

        default = "dorefa:w1a2g6"
        [layers]
        "/conv1" = "int8"
        "/fc*" = "dorefa:w2a4g8"
        "/fc3" = "none"

A pattern matches node names as file names are matched (* and ?). Of several that match, the one with the most
characters that are not wildcards counts, and of equals the later one. A layer named without wildcards is quantized even
where the method by default keeps the first or the last layer.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from toolkit.errors import UserError
from toolkit.ir import Graph, verify
from toolkit.quant.method import WHERE, Context, Method, is_layer, methods

NONE = "none"


@dataclass(frozen=True)
class QuantizationPlan:
    """Methods by pattern.

    Attributes:
        text: as the user gave it, for messages and for the manifest.
        default: for layers that no pattern matches; None leaves them alone.
        layers: pattern -> method, None to leave the layer alone.
    """

    text: str
    default: Method | None = None
    layers: Mapping[str, Method | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.default is not None or any(self.layers.values())

    @property
    def of_frozen(self) -> bool:
        """Whether it leaves alone all that is trained, so that it goes with any scheme that freezes something."""
        methods = [each for each in (self.default, *self.layers.values()) if each is not None]
        return bool(methods) and all(each.of_frozen for each in methods)

    def assign(self, graph: Graph) -> dict[str, Method]:
        """Layer (node name) -> method.

        Raises:
            UserError: a pattern matches no layer; nothing is left to quantize.
        """
        names = [node.name for node in graph.nodes if is_layer(node)]
        for pattern in self.layers:
            if not any(fnmatchcase(name, pattern) for name in names):
                near = get_close_matches(pattern, names, n=1)
                hint = f"did you mean {near[0]}?" if near else f"layers: {', '.join(names)}"
                raise UserError(f"no layer is called '{pattern}'", where=f"{WHERE} {self.text}", hint=hint)
        chosen: dict[str, Method] = {}
        for index, name in enumerate(names):
            matched, found = self._find(name)
            at_end = index in (0, len(names) - 1)
            if found is not None and (not at_end or not found.leaves_ends or matched == name):
                chosen[name] = found
        if not chosen:
            advice = f"add ',all' to quantize the first and the last layer: {self.text},all" if names else None
            raise UserError("there is no layer to quantize", where=f"{WHERE} {self.text}", hint=advice)
        return chosen

    def _find(self, name: str) -> tuple[str, Method | None]:
        best: tuple[int, str] | None = None
        for pattern in self.layers:
            literal = len(pattern.replace("*", "").replace("?", ""))
            if fnmatchcase(name, pattern) and (best is None or literal >= best[0]):
                best = (literal, pattern)
        return ("", self.default) if best is None else (best[1], self.layers[best[1]])


def parse_plan(text: str) -> QuantizationPlan:
    """A plan from its command line form.

    Raises:
        UserError: no such method or file; the file is not valid.
    """
    if not text or text == NONE:
        return QuantizationPlan(text)
    if text.endswith(".toml"):
        return _from_file(Path(text))
    return QuantizationPlan(text, parse_method(text))


def parse_method(text: str) -> Method | None:
    """A method with its options; None for `none`.

    Raises:
        UserError: there is no such method, or an option is wrong.
    """
    if text == NONE:
        return None
    keyword, _, options = text.partition(":")
    known = methods()
    if keyword not in known:
        near = get_close_matches(keyword, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}, or a .toml file"
        raise UserError(f"there is no quantization method '{keyword}'", where=f"{WHERE} {text}", hint=hint)
    parts = [part.strip() for part in options.split(",") if part.strip()]
    cls = known[keyword]
    if keyword != cls.keyword:
        parts.insert(0, keyword)
    made = cls.parse([part for part in parts if part != "all"])
    return replace(made, all=True) if "all" in parts else made  # type: ignore[type-var]


def _from_file(path: Path) -> QuantizationPlan:
    try:
        content = tomllib.loads(path.read_text())
    except OSError as problem:
        raise UserError(f"cannot be read: {problem.strerror}", where=f"{WHERE} {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise UserError(f"is not valid TOML: {problem}", where=f"{WHERE} {path}") from None
    unknown = sorted(set(content) - {"default", "layers"})
    if unknown:
        raise UserError(
            f"has the unknown key '{unknown[0]}'", where=f"{WHERE} {path}", hint="it takes default and [layers]"
        )
    layers = content.get("layers", {})
    entries = [content.get("default", NONE), *(layers.values() if isinstance(layers, dict) else [layers])]
    if not all(isinstance(entry, str) for entry in entries):
        raise UserError("a method is a text like \"dorefa:w1a2g6\"", where=f"{WHERE} {path}")
    return QuantizationPlan(
        str(path),
        parse_method(content.get("default", NONE)),
        {pattern: parse_method(entry) for pattern, entry in layers.items()},
    )


def quantize(graph: Graph, plan: QuantizationPlan, context: Context) -> Graph:
    """The graph with every layer quantized as planned; each method is one pass over all of its layers.

    Raises:
        UserError: the plan does not fit the model.
    """
    if not plan:
        return graph
    chosen = plan.assign(graph)
    for each in dict.fromkeys(chosen.values()):
        layers = frozenset(name for name, found in chosen.items() if found == each)
        graph = verify(each.rewrite(graph, layers, context))
    return graph
