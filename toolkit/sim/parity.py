"""The only place that compares, and it compares bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from codegen.program import Array, Port
from toolkit.pipeline import Compiled
from toolkit.sim.backend import Backend, open_backend

Progress = Callable[[str, int, int], None]
Sample = tuple[list[Array], Array | None]


@dataclass(frozen=True)
class Difference:
    """The first bit that differs.

    Attributes:
        step: number of the training step (or of the inference), from 0.
        tensor: its name; "status" and "loss" are what train_step returns.
        index: of the element.
        values: backend -> {"hex", "decimal"}.
        node, kernel: what wrote it, where known.
    """

    step: int
    tensor: str
    index: tuple[int, ...]
    values: dict[str, dict[str, str]]
    node: str | None = None
    kernel: str | None = None


@dataclass
class ParityReport:
    """What was compared, and what came out."""

    on: list[str]
    steps: int
    compared_bits: int = 0
    differing_bits: int = 0
    first_difference: Difference | None = None
    fma: bool = True
    statuses: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {
            "compared_bits": self.compared_bits,
            "differing_bits": self.differing_bits,
            "steps": self.steps,
            "on": self.on,
            "fma": self.fma,
            "first_difference": asdict(self.first_difference) if self.first_difference else None,
        }


def verify_bits(
    compiled: Compiled,
    on: Sequence[str],
    steps: int,
    seed: int = 0,
    profile: str | None = None,
    progress: Progress | None = None,
    compiler: str | None = None,
    samples: Iterator[Sample] | None = None,
    learning_rate: float = 0.01,
) -> ParityReport:
    """Runs the same steps everywhere and compares outputs, status, loss, weights and states after each.

    Args:
        on: backends; the first is what the others are compared with.
        steps: training steps, or inferences for a model compiled for inference only.
        samples: what to run on; random values (standard normal, uniform labels) where None.

    Raises:
        UserError: a backend cannot be opened.
    """
    report = ParityReport(list(on), steps, fma=compiled.program.fma)
    source = samples if samples is not None else random_samples(compiled, seed)
    with ExitStack() as stack:
        backends = [stack.enter_context(open_backend(compiled, name, profile, compiler)) for name in on]
        for backend in backends:
            backend.seed = seed
            backend.learning_rate = learning_rate
        for step in range(steps):
            inputs, label = next(source)
            observed = []
            for backend in backends:
                observed.append(_observe(backend, inputs, label, step))
                if progress is not None:
                    progress(backend.name, step + 1, steps)
            for backend, seen in zip(backends[1:], observed[1:], strict=True):
                _compare(report, compiled, step, (backends[0].name, observed[0]), (backend.name, seen))
    return report


def differing_bits(first: Array, second: Array) -> Array:
    """For each element, how many bits differ. Two NaN are the same: their payloads are outside the contract."""
    if first.shape != second.shape or first.dtype != second.dtype:
        raise AssertionError(f"{first.dtype}{list(first.shape)} against {second.dtype}{list(second.shape)}")
    width = first.dtype.itemsize
    a = np.ascontiguousarray(first).reshape(-1).view(np.uint8).reshape(-1, width)
    b = np.ascontiguousarray(second).reshape(-1).view(np.uint8).reshape(-1, width)
    counts = np.unpackbits(a ^ b, axis=1).sum(axis=1).reshape(first.shape) if first.size else np.zeros(first.shape, int)
    if first.dtype.kind == "f":
        counts = np.where(np.isnan(first) & np.isnan(second), 0, counts)
    return np.asarray(counts)


def random_samples(compiled: Compiled, seed: int) -> Iterator[Sample]:
    """Inputs and labels without end, the same for the same seed."""
    program = compiled.program
    generator = np.random.default_rng(seed)
    classes = program.outputs[0].shape[-1] if program.outputs else 1
    while True:
        inputs = [generator.standard_normal(port.shape).astype(np.float32) for port in program.inputs]
        yield inputs, None if program.label is None else _random_label(generator, program.label, classes)


def _random_label(generator: np.random.Generator, port: Port, classes: int) -> Array:
    if port.dtype == "int32":
        return generator.integers(0, classes, port.shape).astype(np.int32)
    values = generator.random(port.shape).astype(np.float32)
    return np.asarray(values / values.sum(axis=-1, keepdims=True, dtype=np.float32))


def _observe(backend: Backend, inputs: list[Array], label: Array | None, step: int) -> dict[str, Array]:
    """All that a step lets one see, by name."""
    program = backend.compiled.program
    outputs = backend.infer(inputs)
    seen = {f"output {port.name}": value for port, value in zip(program.outputs, outputs, strict=True)}
    if label is not None:
        status, loss = backend.train_step(inputs, label)
        seen["status"] = np.frombuffer(status.ljust(24).encode(), np.uint8)
        seen["loss"] = np.array([loss], np.float32)
        if (step + 1) % backend.compiled.options.training.accumulate == 0:
            seen["update status"] = np.frombuffer(backend.update().ljust(24).encode(), np.uint8)
        seen.update(backend.state())
    return seen


def _compare(
    report: ParityReport,
    compiled: Compiled,
    step: int,
    first: tuple[str, dict[str, Array]],
    second: tuple[str, dict[str, Array]],
) -> None:
    for tensor, expected in first[1].items():
        found = second[1][tensor]
        counts = differing_bits(expected, found)
        report.compared_bits += expected.size * expected.dtype.itemsize * 8
        wrong = int(counts.sum())
        if wrong and report.first_difference is None:
            index = tuple(int(i) for i in np.argwhere(counts)[0])
            values = {name: _shown(array[index]) for name, array in ((first[0], expected), (second[0], found))}
            node, kernel = _writer(compiled, tensor)
            report.first_difference = Difference(step, tensor, index, values, node, kernel)
        report.differing_bits += wrong


def _shown(value: Any) -> dict[str, str]:
    raw = np.asarray(value)
    return {"hex": "0x" + raw.tobytes()[::-1].hex(), "decimal": repr(raw.item())}


def _writer(compiled: Compiled, tensor: str) -> tuple[str | None, str | None]:
    """Node and kernel that write a tensor or its next value."""
    name = tensor.removeprefix("output ")
    for function, graph in compiled.graphs.items():
        value = graph.updates.get(name, name)
        for step in compiled.program.functions[function].steps:
            if value in step.writes():
                return step.node, step.kernel
    return None, None
