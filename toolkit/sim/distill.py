"""Distillation: labels are what a teacher says of each sample (A&B BNN trains on ImageNet like this).

The teacher is an ordinary model, compiled for inference and run on this PC. What it gives is turned into probabilities,
unless its last op does that already; soft-cross-entropy then compares the student with them, without a temperature.
"""

from __future__ import annotations

from collections.abc import Callable

from toolkit.errors import UserError
from toolkit.ir import Array
from toolkit.ops.base import Op, Run
from toolkit.ops.softmax import Softmax
from toolkit.pipeline import Options, compile_model
from toolkit.sim.backend import open_backend
from toolkit.sim.trainer import predict

BATCH = 32


def soft_labels(
    teacher: str,
    x: Array,
    output: tuple[int, ...],
    compiler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Array:
    """Probabilities float32 [N, classes] of a teacher for samples.

    Args:
        teacher: an ONNX file, or the name of a zoo model.
        x: float32 [N, ...], samples as the student gets them.
        output: shape of what the student gives for one sample.

    Raises:
        UserError: the teacher takes other samples than the student, or knows other classes.
    """
    compiled = compile_model(teacher, Options(batch=BATCH))
    model = compiled.model
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UserError("a teacher has one input and one output", where=f"--teacher {teacher}")
    taken, given = (model.interface[name].shape[1:] for name in (model.inputs[0], model.outputs[0]))
    if (taken, given) != (x.shape[1:], output):
        raise UserError(
            f"the teacher makes {_words(given)} of {_words(taken)}; the student makes {_words(output)} of "
            f"{_words(x.shape[1:])}",
            where=f"--teacher {teacher}",
        )
    with open_backend(compiled, "host", compiler=compiler) as backend:
        scores = predict(backend, x, progress)
    last = model.producer(model.outputs[0])
    if last is not None and isinstance(last.op, Softmax):
        return scores
    softmax: Op = Softmax(axis=1)
    return softmax.run(Run(), scores)[0]


def _words(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"
