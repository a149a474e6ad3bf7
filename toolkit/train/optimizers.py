"""Optimizers as they are asked for: `sgd`, `sgd:momentum=0.9,nesterov,weight_decay=1e-4`, `adam:beta1=0.9,eps=1e-8`.

Each adds, for one parameter, the node that computes its next value and the states that it keeps. The learning rate is a
scalar of the context, set at run time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, ClassVar

import numpy as np

from toolkit.errors import UserError
from toolkit.ops.adam import Adam, AdamAdvance
from toolkit.ops.base import Op
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.sgd import Sgd

Wrap = Callable[[Op], Op]


def as_it_is(op: Op) -> Op:
    """The update of a whole parameter."""
    return op


class Optimizer(ABC):
    """Common base. Subclasses are frozen dataclasses whose fields are the options."""

    keyword: ClassVar[str]
    default_learning_rate: ClassVar[float]

    @abstractmethod
    def update(
        self, builder: GraphBuilder, parameter: str, gradient: str, after: tuple[str, ...], wrap: Wrap = as_it_is
    ) -> None:
        """Adds the update of one parameter; states have the shape of the gradient.

        Args:
            wrap: makes of the update's op the one that is applied.
        """

    def __str__(self) -> str:
        options = [
            f.name if value is True else f"{f.name}={value:g}"
            for f in fields(self)  # type: ignore[arg-type]
            if (value := getattr(self, f.name)) != f.default
        ]
        return f"{self.keyword}:{','.join(options)}" if options else self.keyword


@dataclass(frozen=True)
class SgdOptimizer(Optimizer):
    """Stochastic gradient descent with momentum, Nesterov's form and weight decay, as PyTorch defines them."""

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    keyword = "sgd"
    default_learning_rate = 0.02

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise UserError("nesterov needs momentum", where="--optimizer", hint="sgd:momentum=0.9,nesterov")

    def update(
        self, builder: GraphBuilder, parameter: str, gradient: str, after: tuple[str, ...], wrap: Wrap = as_it_is
    ) -> None:
        op = Sgd(self.momentum, self.nesterov, self.weight_decay)
        rate = builder.runtime("learning_rate")
        inputs = [parameter, gradient, rate]
        if self.momentum:
            inputs.append(builder.state(f"{parameter}.velocity", _zeros(builder, gradient)))
        results = builder.apply(wrap(op), *inputs, name=f"{parameter}.update", after=after)
        builder.updates[parameter] = results[0]
        if self.momentum:
            builder.updates[inputs[3]] = results[1]


@dataclass(frozen=True)
class AdamOptimizer(Optimizer):
    """Adam with bias correction (Kingma and Ba, arXiv 1412.6980, algorithm 1), weight decay added to the gradient."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    keyword = "adam"
    default_learning_rate = 0.005

    def update(
        self, builder: GraphBuilder, parameter: str, gradient: str, after: tuple[str, ...], wrap: Wrap = as_it_is
    ) -> None:
        rate = builder.runtime("learning_rate")
        powers = "adam.powers"
        if powers not in builder.tensors:
            builder.state(powers, np.ones(2, np.float32))
            builder.updates[powers] = builder.apply(
                AdamAdvance(self.beta1, self.beta2), powers, name="adam.advance", after=after
            )[0]
        first = builder.state(f"{parameter}.mean", _zeros(builder, gradient))
        second = builder.state(f"{parameter}.variance", _zeros(builder, gradient))
        op = Adam(self.beta1, self.beta2, self.eps, self.weight_decay)
        inputs = (parameter, gradient, rate, first, second, builder.updates[powers])
        results = builder.apply(wrap(op), *inputs, name=f"{parameter}.update", after=after)
        for name, value in zip((parameter, first, second), results, strict=True):
            builder.updates[name] = value


OPTIMIZERS: dict[str, type[Optimizer]] = {cls.keyword: cls for cls in (SgdOptimizer, AdamOptimizer)}


def parse_optimizer(text: str) -> Optimizer:
    """An optimizer from its command line form.

    Raises:
        UserError: unknown name, option or value.
    """
    keyword, _, rest = text.partition(":")
    if keyword not in OPTIMIZERS:
        raise UserError(f"unknown optimizer '{keyword}'", where="--optimizer", hint=f"one of {', '.join(OPTIMIZERS)}")
    cls = OPTIMIZERS[keyword]
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    options: dict[str, Any] = {}
    for part in (p.strip() for p in rest.split(",") if p.strip()):
        name, equals, value = part.partition("=")
        name = name.replace("-", "_")
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
            raise UserError(f"{keyword} has no option '{name}'", where="--optimizer", hint=hint)
        try:
            options[name] = float(value) if equals else True
        except ValueError:
            raise UserError(f"'{value}' is not a number", where=f"--optimizer {part}") from None
        if equals and isinstance(known[name].default, bool):
            options[name] = bool(options[name])
        elif not equals and not isinstance(known[name].default, bool):
            raise UserError(f"{name} needs a value", where="--optimizer", hint=f"{keyword}:{name}=...")
    return cls(**options)


def _zeros(builder: GraphBuilder, gradient: str) -> np.ndarray[Any, Any]:
    return np.zeros(builder.type(gradient).shape, np.float32)
