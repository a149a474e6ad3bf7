"""fp16 and bf16: a tensor is kept rounded to 16 bits, to the nearest, ties to even (toolkit.numerics.half).

fp16 has 11 significant bits from 6.1e-5 to 65504, above which a value becomes infinite; bf16 has 8 over the range of
float32.
"""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.ops.builder import GraphBuilder
from toolkit.ops.half_codes import FromHalf, ToHalf
from toolkit.train.codecs.codec import Again, ValueCodec, codec
from toolkit.train.codecs.saved import Saved, Step


class _Half(ValueCodec):
    """16 bits an element."""

    def refusal(self, step: Step, saved: Saved) -> str | None:
        return None if saved.type.dtype == "float32" else f"it is {saved.type.dtype}, not float32"

    def keep(self, builder: GraphBuilder, saved: Saved) -> tuple[str, ...]:
        return builder.apply(ToHalf(self.keyword), saved.name, name=f"{saved.producer.name}.save")

    def restore(self, builder: GraphBuilder, saved: Saved, kept: tuple[str, ...], again: Again) -> str:
        name = f"{saved.producer.name}.restore"
        return builder.apply(FromHalf(self.keyword), *kept, name=name, after=again.after)[0]


@codec
@dataclass(frozen=True)
class Fp16(_Half):
    """IEEE binary16."""

    keyword = "fp16"
    summary = "rounded to IEEE binary16"


@codec
@dataclass(frozen=True)
class Bf16(_Half):
    """bfloat16."""

    keyword = "bf16"
    summary = "rounded to bfloat16"
