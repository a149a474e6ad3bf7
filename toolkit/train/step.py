"""The training step as a Graph: forward, loss, check, backward, updates; when accumulating, the update as another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from toolkit.errors import UserError
from toolkit.ir import Array, Graph, Node
from toolkit.ops.accumulate import Accumulate
from toolkit.ops.assign import Assign
from toolkit.ops.base import Op
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.check_finite import CheckFinite
from toolkit.ops.contexts import Training
from toolkit.ops.loss_scale import LOSS_SCALE
from toolkit.ops.scale import Scale
from toolkit.ops.zero import Zero
from toolkit.train.as_pytorch import AS_PYTORCH, LEAST, SAVES, save_as_pytorch
from toolkit.train.autodiff import differentiate, forward_nodes_for
from toolkit.train.decode_again import decode_again
from toolkit.train.fuse_update import fuse_updates
from toolkit.train.loss_scaling import check_gradients, growth_of
from toolkit.train.losses import Loss, find_loss
from toolkit.train.optimizers import Optimizer, parse_optimizer
from toolkit.train.pooled_masks import mask_behind_pools
from toolkit.train.rules import rule_of
from toolkit.train.sign_gradients import through_signs
from toolkit.train.stored_rule import real_gradient

NO_MASKS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class TrainingOptions:
    """How a model is trained.

    Attributes:
        loss: a name of losses.LOSSES.
        optimizer: see optimizers.
        accumulate: training calls per update; 1 updates in every call.
        atomic: keep all gradients until all are complete, so that a non-finite one drops the whole step (numerics N8).
        batch_norm: "batch" or "running" statistics for trained batch normalizations.
        save: "least", or "pytorch" to keep for the backward pass what PyTorch keeps, for comparison.
    """

    loss: str = "cross-entropy"
    optimizer: str = "sgd"
    accumulate: int = 1
    atomic: bool = False
    batch_norm: str = "batch"
    save: str = LEAST


@dataclass(frozen=True)
class TrainingGraphs:
    """The functions that training adds to a model.

    Attributes:
        train_step: updates at once, or accumulates.
        update: applies what was accumulated; None where train_step updates.
        discard: empties the accumulators; runs when update finds a non-finite gradient.
    """

    train_step: Graph
    update: Graph | None = None
    discard: Graph | None = None


def training_graphs(
    graph: Graph, trained: frozenset[str], options: TrainingOptions, masks: Mapping[str, str] = NO_MASKS
) -> TrainingGraphs:
    """Builds the training step of a model.

    Args:
        graph: the model in its inference form.
        trained: names of the parameters that change.
        masks: activation -> how its gradient is read off one bit (see sign_gradients).

    Raises:
        UserError: the options do not fit the model.
    """
    loss = find_loss(options.loss)
    optimizer = parse_optimizer(options.optimizer)
    if options.save not in SAVES:
        raise UserError(f"nothing is called '{options.save}'", where="save", hint=f"one of {', '.join(SAVES)}")
    if options.accumulate < 1:
        raise UserError("cannot accumulate over less than one step", where="--accumulate")
    if len(graph.outputs) != 1:
        raise UserError("only models with one output can be trained", where=graph.name, hint="cut it with --until NODE")

    builder = GraphBuilder(graph.name)
    builder.declare_from(graph)
    prediction = _rebuild_forward(builder, graph, loss, trained, options)
    statistics = dict(builder.updates)
    builder.updates.clear()
    loss_node, check = _add_loss(builder, prediction, loss)
    guard = (check,)
    for state, value in statistics.items():
        assigned = builder.apply(Assign(), state, value, name=f"{state}.assign", after=guard)
        builder.updates[state] = assigned[0]

    forward = [node for node in builder.nodes if node.name != check and not isinstance(node.op, Assign)]
    gradients: dict[str, str] = {}
    growth = growth_of(forward, options.accumulate)
    atomic = options.atomic or bool(growth)

    def consume(parameter: str, gradient: str) -> None:
        gradient = rule_of(builder.rules, parameter).part(builder, parameter, gradient)
        if options.accumulate > 1 or atomic:
            gradient = real_gradient(builder, parameter, gradient)
        gradients[parameter] = gradient
        if options.accumulate > 1:
            total = builder.state(_accumulator(parameter), np.zeros(builder.type(gradient).shape, np.float32))
            added = builder.apply(Accumulate(), total, gradient, name=f"{parameter}.accumulate", after=guard)
            builder.updates[total] = added[0]
        elif not atomic:
            rule_of(builder.rules, parameter).update(builder, optimizer, parameter, gradient, guard)

    differentiate(builder, forward, loss_node, trained, consume)
    missing = sorted(trained - set(gradients))
    if missing:
        raise UserError(
            f"no gradient reaches {', '.join(missing)}", where=graph.name, hint="leave it out of --train"
        )
    if LOSS_SCALE in builder.tensors:
        checked = check_gradients(builder, gradients.values(), growth, guard)
        for parameter, gradient in gradients.items():
            rule_of(builder.rules, parameter).update(builder, optimizer, parameter, gradient, (checked,))
    elif atomic and options.accumulate == 1:
        _update_all(builder, gradients, optimizer, guard)
    step = builder.finish().without_dead_nodes()
    if options.save == AS_PYTORCH:
        step = save_as_pytorch(through_signs(decode_again(step), masks))
    else:
        step = through_signs(decode_again(mask_behind_pools(step)), masks)
    if options.accumulate == 1:
        return TrainingGraphs(step if atomic else fuse_updates(step))
    return TrainingGraphs(step, _update_graph(graph, step, optimizer, options), _discard_graph(graph, step))


def _rebuild_forward(
    builder: GraphBuilder, graph: Graph, loss: Loss, trained: frozenset[str], options: TrainingOptions
) -> str:
    """Adds the model in its training form, less the final activation that the loss includes; gives the prediction."""
    prediction = graph.outputs[0]
    last = graph.producer(prediction)
    if last is not None and isinstance(last.op, loss.includes) and last.inputs[0] is not None:
        prediction = last.inputs[0]
    for node in forward_nodes_for(graph, prediction):
        op = node.op
        assert isinstance(op, Op)
        training = Training(builder, node, trained, {"batch_norm": options.batch_norm})
        if op.for_training(training) is None:
            builder.apply(op, *node.inputs, name=node.name, outputs=node.outputs)
    return prediction


def _add_loss(builder: GraphBuilder, prediction: str, loss: Loss) -> tuple[Node, str]:
    """Adds the loss and its check; gives the loss node and the name of the check."""
    type = builder.type(prediction)
    label = builder.labels("label", loss.label(type))
    builder.loss = builder.apply(loss.op, prediction, label, name="loss", outputs=("loss",))[0]
    loss_node = builder.nodes[-1]
    builder.apply(CheckFinite("ET_NONFINITE_LOSS"), builder.loss, name="check_loss")
    return loss_node, builder.nodes[-1].name


def _update_all(
    builder: GraphBuilder, gradients: dict[str, str], optimizer: Optimizer, guard: tuple[str, ...]
) -> None:
    """Checks every gradient, then updates every parameter."""
    checks = list(guard)
    for parameter, gradient in gradients.items():
        builder.apply(CheckFinite("ET_NONFINITE_GRADIENT"), gradient, name=f"{parameter}.check")
        checks.append(builder.nodes[-1].name)
    for parameter, gradient in gradients.items():
        rule_of(builder.rules, parameter).update(builder, optimizer, parameter, gradient, tuple(checks))


def _update_graph(graph: Graph, step: Graph, optimizer: Optimizer, options: TrainingOptions) -> Graph:
    """Checks the accumulated gradients, applies their mean, and empties the accumulators."""
    builder = GraphBuilder(graph.name)
    builder.rules.update(graph.rules)
    gradients: dict[str, str] = {}
    for parameter in graph.parameters():
        accumulator = _accumulator(parameter)
        if accumulator in step.updates:
            builder.parameter(parameter, graph.data[parameter], graph.origins.get(parameter))
            value: Array = step.data[accumulator]
            builder.state(accumulator, value)
            mean = builder.apply(Scale(1.0 / options.accumulate), accumulator, name=f"{parameter}.mean_gradient")
            gradients[parameter] = mean[0]
    _update_all(builder, gradients, optimizer, ())
    for parameter in gradients:
        accumulator = _accumulator(parameter)
        # Its mean was taken first: the Zero waits for all readers of the old value.
        emptied = builder.apply(Zero(), accumulator, name=f"{accumulator}.empty", after=(f"{parameter}.update",))
        builder.updates[accumulator] = emptied[0]
    return builder.finish()


def _discard_graph(graph: Graph, step: Graph) -> Graph:
    """Empties the accumulators."""
    builder = GraphBuilder(graph.name)
    for parameter in graph.parameters():
        accumulator = _accumulator(parameter)
        if accumulator in step.updates:
            builder.state(accumulator, step.data[accumulator])
            builder.updates[accumulator] = builder.apply(Zero(), accumulator, name=f"{accumulator}.empty")[0]
    return builder.finish()


def _accumulator(parameter: str) -> str:
    return f"{parameter}.accumulated"
