"""Retired instructions of whole models on emulated RISC-V, and the memory they need: exact, and the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from codegen.board import load_board
from toolkit.ir import Array, TensorType
from toolkit.pipeline import Compiled, Options, compile_model
from toolkit.quant import parse_plan
from toolkit.sim.device import DeviceBackend
from toolkit.sim.parity import random_samples
from toolkit.train.step import TrainingOptions

TARGET = "qemu-rv32"
LOSS = {"autoencoder": "mse"}
CALIBRATION_SAMPLES = 32
PATIENCE_SECONDS = 30.0  # with the emulator, on a machine that has much else to do
SOFT_FLOAT_IS_TOO_LONG = frozenset({"mobilenetv1-0.25", "resnet8", "resnet8-bn"})


@dataclass(frozen=True)
class Row:
    """One phase of one model.

    Attributes:
        phase: "infer", compiled for inference alone (weights packed in flash), or "train", one step at batch 1.
        macs: multiply-accumulates that the float32 form of this phase needs; the same for every method.
        forward_macs: of one inference.
        text_bytes: code of the firmware, link and start-up included.
        weight_bytes: constants and initial weights in flash.
        flash_bytes: the firmware's whole image.
        ram_bytes: weights in RAM, arena and the deepest stack that was seen.
    """

    model: str
    quant: str
    scheme: str
    phase: str
    target: str
    profile: str
    instructions: int
    macs: int
    instructions_per_mac: float
    forward_macs: int
    instructions_per_forward_mac: float
    text_bytes: int
    weight_bytes: int
    flash_bytes: int
    ram_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def measure(
    model: str,
    quant: str = "none",
    scheme: str = "all",
    profile: str = "rv32imafc",
    compiler: str | None = None,
    optimizer: str = "sgd",
    batch_norm: str = "batch",
    opt: Literal["speed", "size"] = "speed",
) -> list[Row]:
    """Inference, and one training step unless the scheme is "none" or the method does not train."""
    training = training_of(model, optimizer, batch_norm)
    plain = compile_for(model, "none", scheme, profile, training)
    forward = plain.program.functions["infer"].macs
    rows = []
    for phase in ("infer", "train"):
        train = scheme if phase == "train" else "none"
        if phase == "train" and (scheme == "none" or quant.startswith("int8")):
            continue
        compiled = compile_for(model, quant, train, profile, training, opt)
        macs = plain.program.functions["train_step"].macs if phase == "train" else forward
        rows.append(_run(compiled, model, quant, train, phase, profile, compiler, macs, forward))
    return rows


def training_of(model: str, optimizer: str, batch_norm: str) -> TrainingOptions:
    """How a model of the zoo is trained here."""
    return TrainingOptions(LOSS.get(model, "cross-entropy"), optimizer, batch_norm=batch_norm)


def compile_for(
    model: str, quant: str, train: str, profile: str, training: TrainingOptions, opt: Literal["speed", "size"] = "speed"
) -> Compiled:
    """A model for a profile of the target; methods that want samples get random ones."""
    board = load_board(TARGET).with_profile(profile)
    plan = parse_plan(quant)
    options = Options(train, training, board.fma, quant=plan, samples=_samples, isa=board.cpu.isa, opt=opt)
    return compile_model(model, options)


def _samples(input_type: TensorType) -> Array:
    shape = (CALIBRATION_SAMPLES * input_type.shape[0], *input_type.shape[1:])
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _run(
    compiled: Compiled,
    model: str,
    quant: str,
    scheme: str,
    phase: str,
    profile: str,
    compiler: str | None,
    macs: int,
    forward: int,
) -> Row:
    program = compiled.program
    inputs, label = next(random_samples(compiled, 0))
    with DeviceBackend(compiled, load_board(TARGET), profile, compiler, timeout=PATIENCE_SECONDS) as device:
        device.learning_rate = 0.01
        if phase == "infer":
            device.infer(inputs)
        else:
            assert label is not None
            status, loss = device.train_step(inputs, label)
            assert status == "ET_OK" and np.isfinite(loss), status
        stats = device.stats()
        image = device.image
    return Row(
        model, quant, scheme, phase, TARGET, profile, stats.instructions, macs, round(stats.instructions / macs, 3),
        forward, round(stats.instructions / forward, 3), image.sizes["text"], program.flash_bytes,
        image.flash_bytes, program.params_bytes + program.arena_bytes + stats.stack_bytes,
    )  # fmt: skip


_COLUMNS = {
    "model": "model", "quant": "method", "phase": "phase", "instructions": "instructions",
    "instructions_per_mac": "per MAC", "instructions_per_forward_mac": "per forward MAC", "weight_bytes": "weights B",
    "text_bytes": "code B", "ram_bytes": "RAM B",
}  # fmt: skip


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table."""
    lines = [f"| {' | '.join(_COLUMNS.values())} |", "|---" * len(_COLUMNS) + "|"]
    for row in rows:
        values = [getattr(row, name) for name in _COLUMNS]
        lines.append("| " + " | ".join(f"{v:,}" if isinstance(v, int) else str(v) for v in values) + " |")
    return "\n".join(lines)
