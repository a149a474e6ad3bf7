"""StoredRule: the update of a parameter that is kept in 16 bits."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from zlib import crc32

from toolkit.errors import UserError
from toolkit.ir import Array
from toolkit.numerics.stored import StoredFormat
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.stored_sgd import StoredSgd
from toolkit.train.optimizers import Optimizer, SgdOptimizer
from toolkit.train.rules import UpdateRule


@dataclass(frozen=True)
class StoredRule(UpdateRule):
    """Plain SGD, rounded stochastically as it is stored; other optimizers keep states that 16 bits are too few for.

    Attributes:
        format: of the parameter.
        rate_scale: multiplies the learning rate.
        low, high: bounds of the weights.
    """

    format: StoredFormat = field(default_factory=StoredFormat)
    rate_scale: float = 1.0
    low: float = -inf
    high: float = inf

    def update(
        self, builder: GraphBuilder, optimizer: Optimizer, parameter: str, gradient: str, after: tuple[str, ...]
    ) -> None:
        weight_decay = require_plain_sgd(optimizer, parameter)
        seed, step = (builder.runtime(name, "uint32") for name in ("seed", "step"))
        stream = crc32(f"{parameter}.store".encode())
        op = StoredSgd(self.format, weight_decay, self.rate_scale, self.low, self.high, stream)
        inputs = (parameter, gradient, builder.runtime("learning_rate"), seed, step)
        builder.updates[parameter] = builder.apply(op, *inputs, name=f"{parameter}.update", after=after)[0]

    def decode(self, stored: Array) -> Array:
        return self.format.decode(stored)


def require_plain_sgd(optimizer: Optimizer, parameter: str) -> float:
    """The weight decay of SGD without momentum.

    Raises:
        UserError: the optimizer keeps states.
    """
    if not isinstance(optimizer, SgdOptimizer) or optimizer.momentum:
        raise UserError(
            f"{parameter} is kept in 16 bits, which only goes with plain SGD",
            where=f"--optimizer {optimizer}",
            hint="--optimizer sgd, or the option master=float32 of the method",
        )
    return optimizer.weight_decay
