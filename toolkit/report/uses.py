"""What each piece of memory is for: saved tensors, gradients, scratch, weights, states of the optimizer."""

from __future__ import annotations

from dataclasses import dataclass

from codegen.program import Function, aligned
from codegen.schedule import Lifetime, lifetimes
from toolkit.pipeline import Compiled
from toolkit.report.memory import peak_function, peak_step

SAVED, ACTIVATION, GRADIENT, SCRATCH = "saved tensors", "activations", "gradients", "scratch"
ARENA_USES = (SAVED, ACTIVATION, GRADIENT, SCRATCH)
WEIGHTS, OPTIMIZER, ACCUMULATED, STATISTICS = "weights", "optimizer", "gradients", "statistics"
PARAMS_USES = (WEIGHTS, OPTIMIZER, ACCUMULATED, STATISTICS)


@dataclass(frozen=True)
class Piece:
    """A storage of the arena over its life.

    Attributes:
        span: bytes, first and last step.
        use: one of ARENA_USES: a saved tensor is written by the forward pass and read by the backward pass.
        tensors: all that it holds, one after another.
        written, read: steps that do.
    """

    span: Lifetime
    use: str
    tensors: tuple[str, ...]
    written: tuple[int, ...]
    read: tuple[int, ...]

    @property
    def label(self) -> str:
        """For people: the tensor that gives it its size."""
        return self.span.name.removesuffix(".out")

    def alive(self, step: int) -> bool:
        """Whether it holds something during a step."""
        return self.span.first <= step <= self.span.last


def pieces(compiled: Compiled, function: Function) -> list[Piece]:
    """The storages of a function's arena, in the order of first use."""
    forward = forward_steps(compiled, function)
    written: dict[str, list[int]] = {}
    read: dict[str, list[int]] = {}
    tensors: dict[str, list[str]] = {}
    for number, step in enumerate(function.steps):
        for names, steps in ((step.writes(), written), (step.reads(), read)):
            for name in names:
                root = function.storage.get(name, name)
                steps.setdefault(root, []).append(number)
                if name not in tensors.setdefault(root, []):
                    tensors[root].append(name)
    found = []
    for span in lifetimes(function):
        writers, readers = written.get(span.name, []), read.get(span.name, [])
        if not readers:
            use = SCRATCH
        elif not forward[span.first] or not function.kept.isdisjoint(tensors[span.name]):
            use = GRADIENT  # or the sums of some, over the parts of a walk
        else:
            use = ACTIVATION if all(forward[number] for number in readers) else SAVED
        found.append(Piece(span, use, tuple(tensors[span.name]), tuple(writers), tuple(readers)))
    return found


def forward_steps(compiled: Compiled, function: Function) -> list[bool]:
    """For each step, whether it belongs to the forward pass: up to the loss."""
    if function.name != "train_step":
        return [function.name == "infer"] * len(function.steps)
    graph = compiled.graphs["train_step"]
    of_loss = {node.name for node in graph.nodes if graph.loss in node.outputs}
    last = max((number for number, step in enumerate(function.steps) if step.node in of_loss), default=-1)
    # By place, not by name: what codecs do to a tensor before the loss is of the forward pass too.
    return [number <= last for number in range(len(function.steps))]


def arena_uses(compiled: Compiled) -> dict[str, int]:
    """Bytes of the arena by use, at its peak; "unused" is what the placement leaves between them."""
    function = peak_function(compiled.program)
    uses = dict.fromkeys(ARENA_USES, 0)
    if function.steps:
        step = peak_step(function)
        for piece in pieces(compiled, function):
            if piece.alive(step):
                uses[piece.use] += piece.span.bytes
    uses["unused"] = function.peak - sum(uses.values())
    return uses


def params_uses(compiled: Compiled) -> dict[str, int]:
    """Bytes of the params struct by use."""
    uses = dict.fromkeys(PARAMS_USES, 0)
    for buffer in compiled.program.params:
        if buffer.trained:
            use = WEIGHTS
        elif buffer.name.endswith(".accumulated"):
            use = ACCUMULATED
        else:
            use = STATISTICS if buffer.name in compiled.model.data else OPTIMIZER
        uses[use] += aligned(buffer.bytes)
    return uses


def largest_saved(compiled: Compiled) -> Piece | None:
    """The largest saved tensor among those alive at the peak of the arena."""
    function = peak_function(compiled.program)
    if function.name != "train_step":
        return None
    step = peak_step(function)
    saved = [piece for piece in pieces(compiled, function) if piece.use == SAVED and piece.alive(step)]
    return max(saved, key=lambda piece: piece.span.bytes, default=None)


def served(compiled: Compiled, node: str) -> list[str]:
    """Trained parameters that a node of the training step changes, directly or through what is computed from it."""
    graph = compiled.graphs["train_step"]
    parameter_of = {value: name for name, value in graph.updates.items()}
    reached: set[str] = set()
    found: set[str] = set()
    for each in graph.nodes:
        if each.name == node or reached.intersection(name for name in each.inputs if name is not None):
            reached.update(each.outputs)
            found.update(parameter_of[name] for name in each.outputs if name in parameter_of)
    return sorted(name.removesuffix(".accumulated") for name in found if name.removesuffix(".accumulated") in
                  compiled.trained)


def weight_gradients_from(compiled: Compiled, piece: Piece) -> list[str]:
    """Trained parameters whose own gradient is computed from what a piece keeps."""
    function = compiled.program.functions["train_step"]
    forward = forward_steps(compiled, function)
    readers = dict.fromkeys(function.steps[number].node for number in piece.read if not forward[number])
    alone = [served(compiled, node) for node in readers]
    return sorted({names[0] for names in alone if len(names) == 1})
