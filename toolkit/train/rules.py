"""Update rules: what a quantizer does to a parameter's update besides what the optimizer does.

BinaryConnect clips the real weights after each step, A&B BNN clips gradients before it, a 16-bit master weight rounds
stochastically as it is stored. A rule is kept in `Graph.rules` under the name of its parameter; parameters without one
are updated by the optimizer alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from toolkit.ir import Array
from toolkit.ops.builder import GraphBuilder
from toolkit.train.optimizers import Optimizer


class UpdateRule:
    """The plain rule: float32 weights, updated by the optimizer. Subclasses are frozen dataclasses."""

    def update(
        self, builder: GraphBuilder, optimizer: Optimizer, parameter: str, gradient: str, after: tuple[str, ...]
    ) -> None:
        """Adds the nodes that compute the parameter's next value, and sets `builder.updates[parameter]`.

        Args:
            gradient: float32, in the shape of the values that the parameter stands for.
            after: names of nodes, checks among them, that must have run before anything is changed.

        Raises:
            UserError: the rule does not go together with this optimizer.
        """
        optimizer.update(builder, parameter, gradient, after)

    def part(self, builder: GraphBuilder, parameter: str, gradient: str) -> str:
        """What `update` wants of a parameter's complete gradient; may add nodes that compute it in another way."""
        return gradient

    def decode(self, stored: Array) -> Array:
        """The float32 values that a stored parameter stands for."""
        return np.asarray(stored, np.float32)


PLAIN = UpdateRule()


def rule_of(rules: Mapping[str, Any], parameter: str) -> UpdateRule:
    """The rule of a parameter."""
    rule = rules.get(parameter, PLAIN)
    assert isinstance(rule, UpdateRule)
    return rule
