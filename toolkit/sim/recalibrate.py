"""Takes the statistics of batch normalizations again, with the weights of inference.

Training that draws weights leaves running statistics of layers that inference does not have. Here the model of
inference runs over training samples, each normalization with the statistics of the batch, and the means over all
batches of what was seen replace what is kept. Batches follow from a seed alone, so the result is reproducible.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from toolkit.errors import UserError
from toolkit.ir import Array, Graph
from toolkit.ops.base import Op
from toolkit.ops.batch_normalization import BatchNormalization, BatchNormTraining
from toolkit.ops.builder import GraphBuilder
from toolkit.pipeline import Compiled, compile_graph, compile_model
from toolkit.quant import QuantizationPlan
from toolkit.quant.binaryconnect import with_test
from toolkit.sim.backend import Backend, open_backend
from toolkit.sim.trainer import accuracy, batch_size, inward

SAMPLES = 2000
WHERE = "--recalibrate-batch-norm"


def normalizations(compiled: Compiled) -> dict[str, tuple[str, str]]:
    """Node name -> its running mean and variance, for the batch normalizations whose statistics training changes."""
    kept = compiled.graphs["train_step"].updates if compiled.trainable else {}
    return {
        node.name: (str(node.inputs[3]), str(node.inputs[4]))
        for node in compiled.model.nodes
        if isinstance(node.op, BatchNormalization) and {node.inputs[3], node.inputs[4]} <= set(kept)
    }


def recalibrate(
    backend: Backend, x: Array, samples: int = SAMPLES, seed: int = 0, compiler: str | None = None
) -> int:
    """Replaces the running statistics in the backend's state; gives how many normalizations have new ones.

    Args:
        x: float32 [N, ...] of training samples, in the ONNX layout of the model's input; they are shuffled.
        samples: how many of them to look at, as whole batches; at least one batch.
        seed: of the shuffle.
        compiler: for C on this PC, which does the work for every backend but the reference.

    Raises:
        UserError: there are fewer samples than one batch.
    """
    compiled = backend.compiled
    found = normalizations(compiled)
    if not found:
        return 0
    batch = batch_size(backend)
    count = min(max(samples // batch, 1), len(x) // batch)
    if count == 0:
        raise UserError(f"{len(x)} samples are fewer than a batch of {batch}", where=WHERE)
    order = np.random.default_rng(seed).permutation(len(x))
    graph = _statistics_graph(compiled.model, backend.state(), found)
    options = replace(compiled.options, train="none", quant=QuantizationPlan(""))
    measuring = compile_graph(graph, options, compiled.source)
    on = "reference" if backend.name == "reference" else "host"
    with open_backend(measuring, on, compiler=compiler) as measured:
        totals = [np.zeros(graph.type(name).shape, np.float64) for name in graph.outputs]
        for number in range(count):
            chosen = order[number * batch : (number + 1) * batch]
            for total, value in zip(totals, measured.infer([inward(backend, x[chosen])]), strict=True):
                total += value
    names = [name for pair in found.values() for name in pair]
    backend.set_state({name: (total / count).astype(np.float32) for name, total in zip(names, totals, strict=True)})
    return len(found)


def compare_weights(
    trained: Backend,
    x: Array,
    evaluation: tuple[Array, Array],
    samples: int = SAMPLES,
    seed: int = 0,
    compiler: str | None = None,
) -> dict[str, float]:
    """Accuracy with sign weights and with real ones, for a model that was trained with weights drawn between them.

    Args:
        trained: its weights and states are used; it stays as it is.
        x, samples, seed: to take statistics on again, as for `recalibrate`; not where `samples` is 0.
        evaluation: samples and labels.
    """
    compiled, state = trained.compiled, trained.state()
    found = {}
    for test, name in (("signs", "sign"), ("real", "real")):
        plan = with_test(compiled.options.quant, test)
        variant = compile_model(compiled.source, replace(compiled.options, quant=plan))
        with open_backend(variant, "host", compiler=compiler) as other:
            other.set_state(state)
            if samples:
                recalibrate(other, x, samples, seed, compiler)
            found[name] = accuracy(other, *evaluation)
    return found


def _statistics_graph(model: Graph, state: Mapping[str, Array], found: Mapping[str, tuple[str, str]]) -> Graph:
    """The model with the state's values, whose outputs are mean and unbiased variance of each batch, in order."""
    builder = GraphBuilder(model.name)
    builder.declare_from(model)
    builder.data.update({name: value for name, value in state.items() if name in model.data})
    seen: list[str] = []
    for node in model.nodes:
        op = node.op
        assert isinstance(op, Op)
        if node.name in found and isinstance(op, BatchNormalization):
            training = BatchNormTraining(op.epsilon)
            _, mean, _, variance = builder.apply(training, *node.inputs[:3], name=node.name, outputs=node.outputs)
            seen += [mean, variance]
        else:
            builder.apply(op, *node.inputs, name=node.name, outputs=node.outputs, after=node.after)
    builder.outputs = seen
    return builder.finish().without_dead_nodes()
