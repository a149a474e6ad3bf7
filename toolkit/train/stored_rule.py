"""StoredRule: the update of a parameter that is kept in 16 bits."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from zlib import crc32

from toolkit.errors import UserError
from toolkit.ir import Array, Node
from toolkit.numerics.stored import StoredFormat
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.fixed_real import FixedReal
from toolkit.ops.fixed_sgd import FixedOuterSgd, FixedSgd
from toolkit.ops.half_layer import HalfGradWeight
from toolkit.ops.half_outer_sgd import HalfOuterSgd
from toolkit.ops.reshape import Reshape
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
        lines: see StoredSgd.
    """

    format: StoredFormat = field(default_factory=StoredFormat)
    rate_scale: float = 1.0
    low: float = -inf
    high: float = inf
    lines: bool = False

    def update(
        self, builder: GraphBuilder, optimizer: Optimizer, parameter: str, gradient: str, after: tuple[str, ...]
    ) -> None:
        weight_decay = require_plain_sgd(optimizer, parameter)
        seed, step = (builder.runtime(name, "uint32") for name in ("seed", "step"))
        stream = crc32(f"{parameter}.store".encode())
        op = StoredSgd(self.format, weight_decay, self.rate_scale, self.low, self.high, stream, self.lines)
        inputs = (parameter, gradient, builder.runtime("learning_rate"), seed, step)
        builder.updates[parameter] = builder.apply(op, *inputs, name=f"{parameter}.update", after=after)[0]

    def decode(self, stored: Array) -> Array:
        return self.format.decode(stored)


@dataclass(frozen=True)
class FixedRule(StoredRule):
    """A StoredRule that takes integer gradients as they are: no gradient in float32 is made."""

    def update(
        self, builder: GraphBuilder, optimizer: Optimizer, parameter: str, gradient: str, after: tuple[str, ...]
    ) -> None:
        weight_decay = require_plain_sgd(optimizer, parameter)
        if builder.type(gradient).dtype == "float32" or weight_decay:
            super().update(builder, optimizer, parameter, real_gradient(builder, parameter, gradient), after)
            return
        producer = _producer(builder, gradient)
        exponent, stream = self.format.exponent, crc32(f"{parameter}.store".encode())
        scalars = (builder.runtime("learning_rate"), *(builder.runtime(name, "uint32") for name in ("seed", "step")))
        x, g, x_scale, g_scale = producer.inputs
        assert x is not None and g is not None
        inputs: tuple[str | None, ...]
        op: FixedSgd | FixedOuterSgd
        if builder.type(x).size * builder.type(g).size == builder.type(parameter).size:  # one pixel, one tap
            op, inputs = FixedOuterSgd(exponent, stream), (x, g, x_scale, g_scale)
        else:
            op, inputs = FixedSgd(exponent, stream), producer.outputs
        made = builder.apply(op, parameter, *inputs, *scalars, name=f"{parameter}.update", after=after)
        builder.updates[parameter] = made[0]


@dataclass(frozen=True)
class HalfRule(StoredRule):
    """A StoredRule for layers with sums of binary16: on one sample factors are rounded, not weights.

    Not where the gradient is wanted by itself, to be added to others or to be checked before anything is changed.
    """

    def update(
        self, builder: GraphBuilder, optimizer: Optimizer, parameter: str, gradient: str, after: tuple[str, ...]
    ) -> None:
        producer = _producer(builder, gradient)
        alone = not any(gradient in node.inputs for node in builder.nodes)
        if alone and isinstance(producer.op, HalfGradWeight) and not require_plain_sgd(optimizer, parameter):
            x, dy = (name or "" for name in producer.inputs)
            if builder.type(x).size * builder.type(dy).size == builder.type(parameter).size:  # one pixel, one tap
                op = HalfOuterSgd(producer.op.scale, crc32(f"{parameter}.store".encode()))
                scalars = (builder.runtime("learning_rate"), *(builder.runtime(n, "uint32") for n in ("seed", "step")))
                inputs = (x, dy, parameter, *scalars)
                builder.updates[parameter] = builder.apply(op, *inputs, name=f"{parameter}.update", after=after)[0]
                return
        super().update(builder, optimizer, parameter, gradient, after)


def real_gradient(builder: GraphBuilder, parameter: str, gradient: str) -> str:
    """The gradient of a parameter as float32; integer ones have their scale beside them."""
    if builder.type(gradient).dtype == "float32":
        return gradient
    scale = _producer(builder, gradient).outputs[1]
    return builder.apply(FixedReal(), gradient, scale, name=f"{parameter}.gradient")[0]


def _producer(builder: GraphBuilder, name: str) -> Node:
    """The node that computed a tensor, before it was reshaped."""
    node = next(node for node in reversed(builder.nodes) if name in node.outputs)
    return _producer(builder, node.inputs[0] or "") if isinstance(node.op, Reshape) else node


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
