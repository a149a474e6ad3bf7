"""`edgetrain demo`: train on the PC, build the firmware, train on in the emulator, compare all bits."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from toolkit.cli.options import examples, json_option
from toolkit.cli.output import Progress, note, progress, result

if TYPE_CHECKING:
    from codegen.board import Board
    from toolkit.data import Dataset
    from toolkit.ir import Array
    from toolkit.pipeline import Compiled
    from toolkit.report.memory import Memory
    from toolkit.sim.backend import Backend

TARGET = "qemu-rv32"
MODEL = "digits-cnn"
# Enough of each to see that it works, little enough to watch.
PC_EPOCHS, PC_BATCH, PC_RATE = 40, 32, 0.005
BOARD_EPOCHS, BOARD_RATE = 1, 0.02
PARITY_STEPS = 100


@click.command(epilog=examples("edgetrain demo"))
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@json_option
def command(seed: int, as_json: bool) -> None:
    """Train a small CNN on handwritten digits, on this PC and then on an emulated RISC-V board.

    On the PC in generated C; then on in the firmware, over its serial link, as if the board's camera had been mounted
    turned by 90 degrees. Last, training steps are run on reference, host and emulator, and all bits are compared.
    """
    from codegen.board import load_board
    from toolkit.data.digits import load_digits, turned

    start = time.monotonic()
    board = load_board(TARGET)
    training, test = load_digits().split(0.2, seed)
    note(f"{len(training) + len(test):,} digits of 8x8 pixels, {len(test)} of them kept to measure accuracy on")
    data: dict[str, Any] = {"model": MODEL, "seed": seed}
    lines: list[str] = []
    with progress() as bar, tempfile.TemporaryDirectory(prefix="edgetrain-demo-") as place:
        model = Path(place) / "digits.onnx"
        untrained, trained = _train_on_pc(training, test, model, seed, bar)
        where = "On this PC, in generated C"
        lines.append(f"{where:<34}  accuracy {untrained:.1%} before, {trained:.1%} after training")
        data["accuracy"] = {"untrained": untrained, "trained_on_pc": trained}
        left_out = _left_out(board)
        compiled = _compile_for(board, model)
        with _open(compiled, board, left_out, bar) as backend:
            memory = _memory(compiled, board, backend)
            before, after, seconds = _train_on_board(backend, turned(training), turned(test), seed, bar)
        data["accuracy"] |= {"turned_before": before, "turned_after": after}
        data |= memory.as_dict()
        where = f"On {backend.name}" if left_out else f"On {backend.name}, over its serial link"
        lines.append(f"{where:<34}  accuracy {before:.1%} before, {after:.1%} after training on")
        steps = BOARD_EPOCHS * len(training)
        lines.append(f"  with digits turned by 90 degrees: {steps:,} training steps in {seconds:.1f} s")
        lines += _memory_lines(memory, board, left_out)
        on = ["reference", "host"] if left_out else ["reference", "host", TARGET]
        report = _parity(compiled, on, turned(training), bar)
    data |= {"on": on, "compared_bits": report.compared_bits, "differing_bits": report.differing_bits}
    data |= {"left_out": left_out, "seconds": round(time.monotonic() - start, 1)}
    compared = f"{', '.join(on[:-1])} and {on[-1]} after each of {PARITY_STEPS} training steps"
    lines.append(f"{report.differing_bits:,} of {report.compared_bits:,} bits differ between {compared}")
    lines += [f"Left out: {left_out}"] if left_out else []
    result(as_json, data, "\n".join(lines))
    if report.differing_bits:
        click.get_current_context().exit(1)


def _left_out(board: Board) -> str | None:
    """Why there is no firmware in this demo, and how to have it; None where there is."""
    from codegen.compilers import find_riscv_compilers
    from toolkit.sim.spike import spike_command

    if not find_riscv_compilers():
        return "the emulator, for want of a RISC-V compiler; have one with: pip install ziglang pyelftools"
    assert board.run is not None and board.run.emulator is not None
    if shutil.which(board.run.emulator) is None and spike_command() is None:
        have = "apt-get install --no-install-recommends qemu-system-misc, or pip install --pre spike fdt"
        return f"the emulator {board.run.emulator}; have it with: {have}"
    return None


def _train_on_pc(
    training: Dataset, test: Dataset, output: Path, seed: int, bar: Progress
) -> tuple[float, float]:
    """Accuracy before and after; writes the trained model."""
    from toolkit.frontend.export import export_model
    from toolkit.pipeline import Options, compile_model
    from toolkit.sim.backend import open_backend
    from toolkit.sim.trainer import accuracy, train
    from toolkit.train.step import TrainingOptions

    bar("compiling for this PC", 0, None)
    compiled = compile_model(MODEL, Options("all", TrainingOptions(optimizer="adam"), batch=PC_BATCH))
    with open_backend(compiled) as backend:
        bar("compiling for this PC", 1, 1)
        before = accuracy(backend, test.x, test.y)
        epochs = train(
            backend, training.x, training.y, PC_EPOCHS, PC_RATE, "linear", seed,
            progress=lambda epoch, done, total, loss: bar("training on this PC", done, total),
        )
        for _ in epochs:
            pass
        after = accuracy(backend, test.x, test.y)
        export_model(MODEL, compiled.model, backend.state(), output)
    return before, after


def _compile_for(board: Board, model: Path) -> Compiled:
    """The trained model as firmware that goes on training: one sample at a time, plain SGD."""
    from toolkit.pipeline import Options, compile_model

    return compile_model(model, Options("all", fma=board.fma, batch=1, name="digits"))


def _open(compiled: Compiled, board: Board, left_out: str | None, bar: Progress) -> Backend:
    from toolkit.sim.backend import open_backend
    from toolkit.sim.device import DeviceBackend

    if left_out is not None:
        return open_backend(compiled)
    bar("building the firmware", 0, None)
    backend = DeviceBackend(compiled, board, direct=False)
    bar("building the firmware", 1, 1)
    return backend


def _train_on_board(
    backend: Backend, training: Dataset, test: Dataset, seed: int, bar: Progress
) -> tuple[float, float, float]:
    """Accuracy before and after, and the seconds that training took."""
    from toolkit.sim.trainer import accuracy, train

    before = accuracy(backend, test.x, test.y)
    start = time.monotonic()
    epochs = train(
        backend, training.x, training.y, BOARD_EPOCHS, BOARD_RATE, "linear", seed,
        progress=lambda epoch, done, total, loss: bar(f"training on {backend.name}", done, total),
    )
    for _ in epochs:
        pass
    return before, accuracy(backend, test.x, test.y), time.monotonic() - start


def _memory(compiled: Compiled, board: Board, backend: Backend) -> Memory:
    from toolkit.report.memory import memory_of
    from toolkit.sim.device import DeviceBackend

    sizes = backend.image.sizes if isinstance(backend, DeviceBackend) else None
    return memory_of(compiled.program, board, sizes)


def _memory_lines(memory: Memory, board: Board, left_out: str | None) -> list[str]:
    link = f" + link {memory.link:,}" if left_out is None else ""
    text = f"code {memory.text:,} + " if left_out is None else ""
    return [
        f"  RAM   {memory.ram:>7,} B: weights {memory.weights:,} + arena {memory.arena:,}"
        f" + stack {memory.stack:,} (reserved){link}",
        f"  flash {memory.flash:>7,} B: {text}weights {memory.flash_weights:,}",
    ]


def _parity(compiled: Compiled, on: list[str], data: Dataset, bar: Progress) -> Any:
    from toolkit.sim.parity import verify_bits

    return verify_bits(
        compiled, on, PARITY_STEPS, progress=bar, samples=_samples(compiled, data), learning_rate=BOARD_RATE
    )


def _samples(compiled: Compiled, data: Dataset) -> Iterator[tuple[list[Array], Array]]:
    side = compiled.model.interface[compiled.model.inputs[0]]
    for x, y in zip(data.x, data.y, strict=True):
        yield [side.inward(x[np.newaxis])], np.array([y], np.int32)
