"""What the tests of the ops on integers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tests.support import StepRunner, assert_same_bits, run_nodes
from toolkit.ir import Array, TensorType
from toolkit.lower import Memory, lower_function
from toolkit.ops.base import Op
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.fixed_sgd import FixedOuterSgd, FixedSgd


def check(op: Op, inputs: Sequence[Array | None], states: Mapping[int, int] | None = None) -> dict[str, Array]:
    """The same bits in the reference and in C; float32 scalars are tensors here, others are of the context."""
    builder = GraphBuilder("one")
    names: list[str | None] = []
    for index, value in enumerate(inputs):
        name = f"in{index}"
        if value is None:
            names.append(None)
        elif index in (states or {}):
            names.append(builder.state(name, value))
        elif value.ndim == 0 and (value.dtype == np.uint32 or index == _rate_of(op)):
            names.append(builder.runtime(name, str(value.dtype)))
        elif value.ndim == 0:
            names.append(builder.constant(name, value))
        else:
            names.append(builder.input(name, TensorType(value.shape, str(value.dtype))))
    outputs = builder.apply(op, *names, name="node")
    builder.outputs = list(outputs)
    builder.updates = {f"in{index}": outputs[output] for index, output in (states or {}).items()}
    graph = builder.finish()
    values = {f"in{index}": value for index, value in enumerate(inputs) if value is not None}
    expected: dict[str, Array] = {}
    for fma in (True, False):
        expected = run_nodes(graph, dict(values), fma)
        for in_place in (None, 0):
            function = lower_function("infer", graph, Memory(frozenset(graph.updates), frozenset()), with_outputs=False)
            runner = StepRunner(function, values, fma, in_place)
            assert runner.run() == "ET_OK"
            for name in graph.outputs:
                assert_same_bits(runner.result(name), expected[name], f"{op} {name} fma={fma} in_place={in_place}")
    return {name: expected[name] for name in graph.outputs}


def _rate_of(op: Op) -> int:
    return {FixedSgd: 3, FixedOuterSgd: 5}.get(type(op), -1)


def mantissas(seed: int, *shape: int, largest: int = 127, zeros: float = 0.3) -> Array:
    """int8 values, some of them 0."""
    random = np.random.default_rng(seed)
    values = random.integers(-largest, largest + 1, shape)
    return np.where(random.random(shape) < zeros, 0, values).astype(np.int8)


def scale(exponent: int) -> Array:
    return np.array(2.0**exponent, np.float32)


NAN = np.array(np.nan, np.float32)
DRAW = (np.array(5, np.uint32), np.array(77, np.uint32))
