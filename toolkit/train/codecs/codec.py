"""What a codec is, and how a text like `mask:2` becomes one.

A codec is one file of this folder: a frozen dataclass registered with @codec. It is a ValueCodec, which gives every
reader in the backward pass the tensor again (to the bit, or nearly), or a GradientCodec, which takes the place of the
gradients that read the tensor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pkgutil import iter_modules
from typing import ClassVar, TypeVar

from toolkit.errors import UserError
from toolkit.ir import Node
from toolkit.ops.builder import GraphBuilder
from toolkit.train.codecs.saved import Saved, Step

WHERE = "--save"


class Codec(ABC):
    """Base of the codecs.

    Attributes:
        keyword: how the command line names it.
        summary: one line for people.
    """

    keyword: ClassVar[str]
    summary: ClassVar[str]

    @classmethod
    def parse(cls, options: Sequence[str]) -> Codec:
        """The codec with the words that follow its keyword.

        Raises:
            UserError: they are not understood.
        """
        if options:
            raise UserError(f"{cls.keyword} has no options", where=f"{WHERE} {':'.join([cls.keyword, *options])}")
        return cls()

    @abstractmethod
    def refusal(self, step: Step, saved: Saved) -> str | None:
        """Why a tensor cannot be kept so; None where it can."""

    def worth_it(self, step: Step, saved: Saved, chosen: Mapping[str, Codec]) -> bool:
        """Whether to use it where no pattern asks for this very tensor. Called where there is no refusal.

        Args:
            chosen: the codecs of the tensors before it.
        """
        return True

    @abstractmethod
    def keep(self, builder: GraphBuilder, saved: Saved) -> tuple[str, ...]:
        """Adds the nodes that make what is kept, and gives its tensors."""


@dataclass(frozen=True)
class Again:
    """How nodes of the forward part run again in the backward part.

    Attributes:
        after: what each node waits for, so that no order of steps brings it forward.
        run: gives an output of a node, by name, made again from tensors that the backward part has.
    """

    after: tuple[str, ...]
    run: Callable[[Node, str], str]


class ValueCodec(Codec):
    """A codec that gives the tensor again."""

    @abstractmethod
    def restore(self, builder: GraphBuilder, saved: Saved, kept: tuple[str, ...], again: Again) -> str:
        """Adds the nodes that make the tensor from what was kept."""


class GradientCodec(Codec):
    """A codec that takes the place of gradients that read the tensor."""

    before_producer: ClassVar[bool] = False  # whether `keep` reads what the producer of the tensor may overwrite

    @abstractmethod
    def serves(self, saved: Saved, reader: Node) -> bool:
        """Whether it takes the place of this reader; the others go on reading the tensor."""

    @abstractmethod
    def gradient(self, saved: Saved, kept: tuple[str, ...], reader: Node) -> Node:
        """The node in place of a reader that it serves: the same name, outputs and order."""


_CodecClass = TypeVar("_CodecClass", bound=type[Codec])
_CODECS: dict[str, type[Codec]] = {}


def codec(cls: _CodecClass) -> _CodecClass:
    """Registers a codec under its keyword."""
    _CODECS[cls.keyword] = cls
    return cls


def codecs() -> Mapping[str, type[Codec]]:
    """Every codec by keyword. Imports every file of this folder once."""
    import toolkit.train.codecs

    for module in iter_modules(toolkit.train.codecs.__path__):
        import_module(f"toolkit.train.codecs.{module.name}")
    return dict(sorted(_CODECS.items()))


def parse_codec(text: str) -> Codec:
    """The codec that a text like `fp16` or `mask:2` names.

    Raises:
        UserError: there is no such codec, or its options are not understood.
    """
    known = codecs()
    words = text.split(":")
    count = 2 if ":".join(words[:2]) in known else 1  # some have two words for their keyword, like mask:helu
    keyword, options = ":".join(words[:count]), words[count:]
    if keyword not in known:
        near = get_close_matches(keyword, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"
        raise UserError(f"there is no codec '{keyword}'", where=f"{WHERE} {text}", hint=hint)
    return known[keyword].parse(options)
