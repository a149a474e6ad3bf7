"""mask:helu: the gradient of a ReLU passes where its input is above -alpha (HeLU, arXiv 2411.10573).

What comes out of the ReLU stays the same. Its output cannot tell, so 1 bit of its input is kept beside whatever the
next layer needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from toolkit.errors import UserError
from toolkit.ir import Node
from toolkit.ops.activation_mask import PASS_MASKED, ActivationMask
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.relu import Relu, ReluGrad
from toolkit.train.codecs.codec import WHERE, GradientCodec, codec
from toolkit.train.codecs.saved import Saved, Step


@codec
@dataclass(frozen=True)
class Helu(GradientCodec):
    """1 bit an element.

    Attributes:
        alpha: positive.
    """

    alpha: float = 0.05

    keyword = "mask:helu"
    summary = "the gradient of a ReLU passes a little below 0 too"
    before_producer = True

    @classmethod
    def parse(cls, options: Sequence[str]) -> Helu:
        if not options:
            return cls()
        where = f"{WHERE} mask:helu:{':'.join(options)}"
        try:
            alpha = np.float32(options[0])
        except ValueError:
            alpha = np.float32(0)
        if len(options) > 1 or not (alpha > 0 and np.isfinite(alpha)):
            raise UserError("alpha is one positive number", where=where, hint="mask:helu:0.05")
        return cls(float(alpha))

    def refusal(self, step: Step, saved: Saved) -> str | None:
        if not isinstance(saved.producer.op, Relu):
            return f"{saved.producer.name} is not a ReLU"
        if not any(self.serves(saved, reader) for reader in saved.readers):
            return f"no gradient goes back through {saved.producer.name}"
        return None

    def serves(self, saved: Saved, reader: Node) -> bool:
        return isinstance(reader.op, ReluGrad) and reader.inputs[1] in saved.views

    def keep(self, builder: GraphBuilder, saved: Saved) -> tuple[str, ...]:
        mask = ActivationMask(1, (-self.alpha,), (0, 1))
        return builder.apply(mask, saved.producer.inputs[0], name=f"{saved.producer.name}.mask")

    def gradient(self, saved: Saved, kept: tuple[str, ...], reader: Node) -> Node:
        return replace(reader, op=PASS_MASKED, inputs=(reader.inputs[0], *kept))
