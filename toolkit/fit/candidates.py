"""What may be tried: update schemes that suit a model, each in the forms that take less memory for the same."""

from __future__ import annotations

from dataclasses import dataclass, replace

from toolkit.errors import UserError
from toolkit.ir import Graph
from toolkit.pipeline import Options
from toolkit.quant import parse_plan
from toolkit.train.codecs import parse_save
from toolkit.train.codecs.codec import codecs
from toolkit.train.schemes import layers, read_scheme

# Of last:K and of blocks:K so many are tried, spread evenly.
_DEPTHS = 6
# Of light:K these are.
_HEAVY = (1, 2, 4, 8, 16)
# What --save may say for all tensors, where there is such a codec; "" keeps every tensor as it is.
_SAVES = ("", "recompute", "fp16", "int8")
# How far each of them is from the exact gradients.
_LOSSES = {"": 0, "recompute": 0, "fp16": 1, "int8": 2}


@dataclass(frozen=True)
class Candidate:
    """A way of training, as on the command line."""

    scheme: str
    save: str = ""
    quant: str = ""

    @property
    def words(self) -> str:
        """The options."""
        quant = f" --quant {self.quant}" if self.quant else ""
        return f"--train {self.scheme}" + (f" --save {self.save}" if self.save else "") + quant

    @property
    def loss(self) -> int:
        """How far it is from exact gradients and values: 0 for not at all."""
        return _LOSSES[self.save] + bool(self.quant)

    def options(self, base: Options) -> Options:
        """The options of a model with these in place; one that quantizes nothing leaves the model's method alone."""
        quant = parse_plan(self.quant) if self.quant else base.quant
        return replace(base, train=self.scheme, save=parse_save(self.save), quant=quant)

    def is_as_exact_as(self, other: Candidate) -> bool:
        """Whether this is another form of the same scheme that is no further from exact gradients and values."""
        same = self.scheme == other.scheme and (not self.quant or self.quant == other.quant)
        return same and _LOSSES[self.save] <= _LOSSES[other.save]


def forms(frozen: str) -> list[tuple[str, str]]:
    """What --save and --quant may say for a scheme, no form before one that is more exact.

    Args:
        frozen: a quantizer of what is not trained, which may be left out too; "" for none.
    """
    quants = ("", frozen) if frozen else ("",)
    found = [(save, quant) for save in saves() for quant in quants]
    return sorted(found, key=lambda form: (_LOSSES[form[0]], form[1]))


def saves() -> list[str]:
    """What --save may say for all tensors."""
    known = codecs()
    return [each for each in _SAVES if not each or each in known]


def schemes(graph: Graph) -> list[str]:
    """Schemes that suit a model, those that train most first; no two that train the same parameters."""
    count = len(layers(graph))
    words = ["all", *(f"last:{number}" for number in _spread(count - 1)), "bias"]
    words += [f"light:{number}" for number in _HEAVY if number < count - 1]
    for kind in ("blocks", "mobiletl"):
        words += [f"{kind}:{number}" for number in _spread(_most(graph, kind, count))]
    found: dict[object, str] = {}
    for each in words:
        try:
            selection = read_scheme(graph, each)
        except UserError:  # a model without biases, say
            continue
        found.setdefault((selection.trained, selection.mobiletl), each)
    return list(found.values())


def union(graph: Graph, first: str, second: str) -> str | None:
    """Both schemes joined; None where that trains no more than one of them, or they cannot be joined."""
    joined = f"{first}+{second}"
    try:
        alone = [read_scheme(graph, each).trained for each in (first, second)]
        return joined if read_scheme(graph, joined).trained not in alone else None
    except UserError:
        return None


def _most(graph: Graph, kind: str, limit: int) -> int:
    """The largest K that a scheme takes; 0 for none."""
    for number in range(1, limit + 1):
        try:
            read_scheme(graph, f"{kind}:{number}")
        except UserError:
            return number - 1
    return limit


def _spread(count: int) -> list[int]:
    """At most _DEPTHS numbers of 1..count, both ends among them, the largest first."""
    steps = min(count, _DEPTHS)
    if steps <= 1:
        return [1] * steps
    return sorted({1 + round(i * (count - 1) / (steps - 1)) for i in range(steps)}, reverse=True)
