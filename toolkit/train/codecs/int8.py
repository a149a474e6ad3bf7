"""int8: a tensor is kept as affine codes of 8 bits, with a scale and a zero found anew in every step (EncodeRange).

The error is at most half of (largest - smallest) / 255. What is smaller than that half becomes 0: a gradient that asks
a ReLU's output for its sign then stops there.
"""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.ops.affine_range import DecodeRange, EncodeRange
from toolkit.ops.builder import GraphBuilder
from toolkit.train.codecs.codec import Again, ValueCodec, codec
from toolkit.train.codecs.saved import Saved, Step


@codec
@dataclass(frozen=True)
class Int8(ValueCodec):
    """8 bits an element, and 8 bytes."""

    keyword = "int8"
    summary = "affine codes of 8 bits, range found in every step"

    def refusal(self, step: Step, saved: Saved) -> str | None:
        return None if saved.type.dtype == "float32" else f"it is {saved.type.dtype}, not float32"

    def keep(self, builder: GraphBuilder, saved: Saved) -> tuple[str, ...]:
        return builder.apply(EncodeRange(), saved.name, name=f"{saved.producer.name}.save")

    def restore(self, builder: GraphBuilder, saved: Saved, kept: tuple[str, ...], again: Again) -> str:
        name = f"{saved.producer.name}.restore"
        return builder.apply(DecodeRange(), *kept, name=name, after=again.after)[0]
