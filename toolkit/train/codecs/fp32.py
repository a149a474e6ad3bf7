"""fp32: a tensor is kept as it is, also where it would be kept in another form by default."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.ops.builder import GraphBuilder
from toolkit.train.codecs.codec import Again, ValueCodec, codec
from toolkit.train.codecs.saved import Saved, Step


@codec
@dataclass(frozen=True)
class Identity(ValueCodec):
    """32 bits an element, exact."""

    keyword = "fp32"
    summary = "as it is"

    def refusal(self, step: Step, saved: Saved) -> str | None:
        return None if saved.type.dtype == "float32" else f"it is {saved.type.dtype}"

    def keep(self, builder: GraphBuilder, saved: Saved) -> tuple[str, ...]:
        return (saved.name,)

    def restore(self, builder: GraphBuilder, saved: Saved, kept: tuple[str, ...], again: Again) -> str:
        return kept[0]
