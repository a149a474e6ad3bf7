"""Retired instructions step by step: which layer of a model costs what, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from codegen.board import extensions, load_board
from codegen.build import FirmwareImage, build_firmware
from codegen.emit import emit
from codegen.program import Function
from codegen.project import write_project
from toolkit import __version__
from toolkit.bench.rv32 import PATIENCE_SECONDS, TARGET, compile_for, training_of
from toolkit.pipeline import Compiled
from toolkit.report.plot_layers import Bar, LayerPanel, plot_layers
from toolkit.sim.device import DeviceBackend
from toolkit.sim.parity import random_samples

FUNCTIONS = {"infer": "infer", "train": "train_step"}
VECTOR_LANES = 16  # that one instruction works on: four registers of 128 bits
OUTSIDE = "(between the steps)"


@dataclass(frozen=True)
class Layer:
    """One step of a phase: one call of a kernel.

    Attributes:
        phase: "infer" or "train", as `toolkit.bench.rv32.Row` has it.
        step: its number; -1 for what no step is: passing arguments, and the call of the whole function.
        layer: the node of the model that it belongs to.
        macs: multiply-accumulates of the method's own form.
        instructions_per_mac: None where there are no MACs.
        bytes: of all that it reads and all that it writes, each buffer once.
    """

    model: str
    quant: str
    scheme: str
    phase: str
    target: str
    profile: str
    step: int
    layer: str
    kernel: str
    instructions: int
    macs: int
    instructions_per_mac: float | None
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class CountedDevice(DeviceBackend):
    """A board whose model says how far the count of instructions was after each step."""

    def _build(self, compiled: Compiled, compiler: str | None) -> FirmwareImage:
        program, tool = compiled.program, f"edgetrain {__version__}"
        emit(program, self._folder, tool, counted=True)
        write_project(self._folder, program, self.target, tool)
        return build_firmware(self._folder, self.target, compiler, program.optimize)

    def counts(self, function: Function) -> list[int]:
        """Instructions between the ends of the steps of the last call."""
        size = 8 * (len(function.steps) + 1)
        ends = np.frombuffer(self.emulator.peek(self.image.symbols["et_step_ends"], size), "<u8")
        return [int(count) for count in np.diff(ends)]


def measure_layers(
    model: str,
    quant: str = "none",
    scheme: str = "all",
    profile: str = "rv32imafc",
    compiler: str | None = None,
    optimizer: str = "sgd",
    batch_norm: str = "batch",
    loss: str | None = None,
    phases: Sequence[str] = tuple(FUNCTIONS),
) -> list[Layer]:
    """Every step of one inference, and of one training step unless the scheme is "none" or the method does not train.

    `loss` is that of `training_of` for None.

    The sum over a phase is what `measure` counts of it: what reading the counter costs is found by running the model
    with and without it, and taken off.
    """
    training = training_of(model, optimizer, batch_norm)
    board = load_board(TARGET)
    layers: list[Layer] = []
    if loss is not None:
        training = replace(training, loss=loss)
    for phase in phases:
        name = FUNCTIONS[phase]
        train = scheme if phase == "train" else "none"
        if phase == "train" and (scheme == "none" or quant.startswith("int8")):
            continue
        compiled = compile_for(model, quant, train, profile, training)
        function = compiled.program.functions[name]
        device = DeviceBackend(compiled, board, profile, compiler, timeout=PATIENCE_SECONDS)
        plain, _ = run_counted(device, compiled, phase)
        device = CountedDevice(compiled, board, profile, compiler, timeout=PATIENCE_SECONDS)
        counted, raw = run_counted(device, compiled, phase, function)
        reading = (counted - plain) // (len(raw) + 1)
        counts = [count - reading for count in raw]
        sizes = [_bytes_moved(function, number) for number in range(len(raw))]
        rows = [
            (number, step.node, step.kernel, count, step.macs, moved)
            for number, (step, count, moved) in enumerate(zip(function.steps, counts, sizes, strict=True))
        ]
        rows.append((-1, OUTSIDE, "", plain - sum(counts), 0, 0))
        layers += [
            Layer(model, quant, train, phase, TARGET, profile, number, node, kernel, count, macs,
                  round(count / macs, 3) if macs else None, moved)
            for number, node, kernel, count, macs, moved in rows
        ]  # fmt: skip
    return layers


def run_counted(
    device: DeviceBackend,
    compiled: Compiled,
    phase: str,
    function: Function | None = None,
    look: Callable[[DeviceBackend], None] = lambda device: None,
) -> tuple[int, list[int]]:
    """Instructions of one call, and of its steps on a counted device; `look` sees the device before it goes."""
    inputs, label = next(random_samples(compiled, 0))
    with device:
        device.learning_rate = 0.01
        if phase == "infer":
            device.infer(inputs)
        else:
            assert label is not None
            status, loss = device.train_step(inputs, label)
            assert status == "ET_OK" and np.isfinite(loss), status
        total = device.stats().instructions
        counts = device.counts(function) if isinstance(device, CountedDevice) and function is not None else []
        look(device)
    return total, counts


def _bytes_moved(function: Function, number: int) -> int:
    step = function.steps[number]
    return sum(function.buffers[name].bytes for name in (*step.reads(), *step.writes()))


def draw_layers(layers: Sequence[Layer], path: Path) -> None:
    """The picture of `toolkit.report.plot_layers`, one line for each model, method and phase."""
    panels = []
    for (model, quant, phase), own in _by_phase(layers).items():
        total, macs = sum(layer.instructions for layer in own), sum(layer.macs for layer in own)
        bars = [
            Bar(f"{layer.layer}  {layer.kernel.removeprefix('et_')}", layer.kernel, layer.instructions, layer.macs,
                layer.bytes)
            for layer in own
        ]  # fmt: skip
        method = "" if quant == "none" else f" {quant}"
        title = f"{model}{method}, {phase}, {own[0].profile}: {total / max(macs, 1):.2f} instructions a MAC"
        isa = load_board(TARGET).with_profile(own[0].profile).cpu.isa
        panels.append(LayerPanel(title, bars, VECTOR_LANES if "v" in extensions(isa) else 1))
    plot_layers(panels, path)


def _by_phase(layers: Sequence[Layer]) -> dict[tuple[str, str, str], list[Layer]]:
    groups: dict[tuple[str, str, str], list[Layer]] = {}
    for layer in layers:
        groups.setdefault((layer.model, layer.quant, layer.phase), []).append(layer)
    return groups


def layers_markdown(layers: Sequence[Layer]) -> str:
    """One table per model and phase, with a line for the whole."""
    parts = []
    for (model, quant, phase), own in _by_phase(layers).items():
        total, macs = sum(layer.instructions for layer in own), sum(layer.macs for layer in own)
        method = "" if quant == "none" else f" {quant}"
        whole = f"{total:,} instructions, {total / max(macs, 1):.3f} per MAC"
        lines = [
            f"**{model}{method}, {phase}**, {own[0].profile}: {whole}",
            "", "| step | layer | kernel | instructions | share | MACs | per MAC | bytes |", "|---" * 8 + "|",
        ]  # fmt: skip
        for layer in own:
            each = "" if layer.instructions_per_mac is None else f"{layer.instructions_per_mac:.3f}"
            step = "" if layer.step < 0 else str(layer.step)
            lines.append(
                f"| {step} | {layer.layer} | {layer.kernel} | {layer.instructions:,} | "
                f"{100 * layer.instructions / total:.1f} % | {layer.macs:,} | {each} | {layer.bytes:,} |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
