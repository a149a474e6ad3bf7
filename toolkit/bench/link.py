"""What the serial line costs: how much of it the link uses, and its part of a training step."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codegen.board import Board, extensions, list_boards, load_board
from codegen.build import FirmwareImage, build_firmware
from codegen.emit import emit
from codegen.project import write_project
from toolkit import __version__
from toolkit.link.codes import MOST, Codes
from toolkit.link.frames import Frame, encode
from toolkit.link.messages import ANSWER, RUN, WRITE_HEADER, Region, Request
from toolkit.pipeline import Compiled, Options, compile_model
from toolkit.sim.device import DeviceBackend
from toolkit.sim.parity import random_samples
from toolkit.zoo.single import LayerShape, single_layer

EMULATED = "qemu-rv32"
BAUD = 921_600
# Start bit, eight of data, stop bit.
BITS_PER_BYTE = 10
# Of a training step that the link may take.
BAR = 0.05
# Bytes that are sent to measure what the line carries.
_PIECE = 16_384
_PATIENCE = 60.0
_MAGIC = 0x0BAD11E5  # of bare_line.c
# Values in a sample, coded or not: of ds-cnn, of MNIST, and the most that a frame of 4 KiB takes with its label.
_SAMPLES = ((490, True), (784, True), (4092, True), (1023, False))


@dataclass(frozen=True)
class Throughput:
    """Bytes per second over an emulated line, samples one after another; of several measurements.

    Attributes:
        what: how large the samples are.
        bare: what the line carries to a board that only reads it; median.
        used: what TRAIN frames carry on the line in the same direction, answers waited for; median.
        share: used / bare of measurements that follow each other, median.
        best: the most that was used / the most that the bare line carried, for a machine with other things to do.
    """

    what: str
    bare: float
    used: float
    share: float
    best: float


@dataclass(frozen=True)
class Overhead:
    """One training step at batch 1, on a board that retires an instruction in each cycle of its clock.

    No core among the boards retires more than one, so that a real step takes no less time, and the line no larger part.

    Attributes:
        profile: of qemu-rv32, on which instructions were counted: with or without a floating-point unit.
        samples: "uint8" where they travel as codes, else "float32".
        mhz, clock: of the board, and who says so.
        line_bytes: both ways: request, sample, label and answer.
        step_instructions, link_instructions: of the training step; of receiving and answering the requests for it.
        step_ms, line_ms, link_ms: of these, at the board's clock and at BAUD.
        overhead: (line_ms + link_ms) / step_ms.
        most_mhz: the clock at which the overhead is BAR.
    """

    board: str
    profile: str
    samples: str
    mhz: float
    clock: str
    line_bytes: int
    step_instructions: int
    link_instructions: int

    @property
    def step_ms(self) -> float:
        return self.step_instructions / self.mhz / 1000

    @property
    def line_ms(self) -> float:
        return 1000 * self.line_bytes * BITS_PER_BYTE / BAUD

    @property
    def link_ms(self) -> float:
        return self.link_instructions / self.mhz / 1000

    @property
    def overhead(self) -> float:
        return (self.line_ms + self.link_ms) / self.step_ms

    @property
    def most_mhz(self) -> float:
        return (BAR * self.step_instructions - self.link_instructions) / self.line_ms / 1000

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        computed = {name: getattr(self, name) for name in ("step_ms", "line_ms", "link_ms", "overhead", "most_mhz")}
        return {**asdict(self), **{name: round(value, 5) for name, value in computed.items()}}


@dataclass(frozen=True)
class _Case:
    """A largest payload, and whether samples travel as codes."""

    payload_bytes: int
    coded: bool


def measure_throughput(
    pieces: int, compiler: str | None = None, progress: Callable[[int, int], None] | None = None
) -> list[Throughput]:
    """TRAIN frames around a model that computes next to nothing, and the bare line, by turns."""
    rows = []
    for number, (values, coded) in enumerate(_SAMPLES):
        if progress is not None:
            progress(number, len(_SAMPLES))
        rows.append(_measure_samples(values, coded, pieces, compiler))
    return rows


def measure_overhead(model: str, compiler: str | None = None) -> list[Overhead]:
    """The line's part of a training step on every board whose clock is known, for both ways of samples.

    Args:
        model: with one float32 input and class labels.
    """
    boards = [board for board in map(load_board, list_boards()) if board.cpu.f_hz]
    cases = [_Case(size, coded) for size in sorted({b.link.frame_bytes for b in boards}) for coded in (True, False)]
    counted = {profile: _count(model, profile, cases, compiler) for profile in ("rv32imafc", "rv32imac")}
    rows = []
    for coded in (True, False):
        for board in boards:
            profile = "rv32imafc" if "f" in extensions(board.cpu.isa) else "rv32imac"
            step, values, label, link = counted[profile]
            case = _Case(board.link.frame_bytes, coded)
            rows.append(
                Overhead(
                    board.board.id, profile, "uint8" if coded else "float32", (board.cpu.f_hz or 0) / 1e6,
                    f"f_hz of targets/{board.board.id}/target.toml",
                    line_bytes(values if coded else 4 * values, label, case.payload_bytes), step, link[case],
                )
            )  # fmt: skip
    return rows


def line_bytes(inputs: int, label: int, payload_bytes: int) -> int:
    """Bytes both ways of one training step without retries: what one frame takes goes with TRAIN, the rest before it.

    Without zeros in the sample, which is the longest that COBS makes of it.

    Args:
        inputs, label: their bytes.
        payload_bytes: the most in one frame.
    """
    tail = min(payload_bytes - label, inputs)
    head, most = inputs - tail, payload_bytes - WRITE_HEADER
    writes = [min(most, head - start) for start in range(0, head, most)]
    frames = [(Request.WRITE, WRITE_HEADER + size, 1) for size in writes]
    frames.append((Request.TRAIN, tail + label, 1 + RUN.size))
    return sum(
        1 + len(encode(Frame(request, 1, b"\1" * asked))) + len(encode(Frame(request | ANSWER, 1, b"\1" * answer)))
        for request, asked, answer in frames
    )


def throughput_markdown(rows: Sequence[Throughput]) -> str:
    """A table."""
    lines = ["| samples | line kB/s | bare line kB/s | share | share of the best |", "|---|---:|---:|---:|---:|"]
    for t in rows:
        lines.append(f"| {t.what} | {t.used / 1000:.1f} | {t.bare / 1000:.1f} | {t.share:.0%} | {t.best:.0%} |")
    return "\n".join(lines)


def overhead_markdown(rows: Sequence[Overhead]) -> str:
    """A table."""
    lines = [
        f"| board | samples | MHz | step ms | line ms at {BAUD:,} baud | link ms | overhead | {BAR:.0%} up to |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for o in rows:
        times = f"{o.step_ms:,.1f} | {o.line_ms:.2f} | {o.link_ms:.2f}"
        lines.append(
            f"| {o.board} | {o.samples} | {o.mhz:g} | {times} | {o.overhead:.2%} | {o.most_mhz:,.0f} MHz |"
        )
    return "\n".join(lines)


def _measure_samples(values: int, coded: bool, pieces: int, compiler: str | None) -> Throughput:
    with tempfile.TemporaryDirectory(prefix="edgetrain-") as folder:
        path = Path(folder) / "single.onnx"
        path.write_bytes(single_layer(LayerShape(values, (1, 1), 2, (1, 1), pads=(0, 0, 0, 0))).SerializeToString())
        compiled = compile_model(str(path), Options("bias"))
    generator = np.random.default_rng(0)
    table = generator.standard_normal(MOST).astype(np.float32)
    inputs, label = [generator.choice(table, (1, values))], np.zeros(1, np.int32)
    with _WithHook(compiled, "bare_line.c", "", load_board(EMULATED), compiler) as device:
        device.use_codes(Codes.of(table) if coded else None)
        traffic = device.session.traffic
        bare, used = [], []
        samples = math.ceil(_PIECE / len((device._sample(inputs, label) or device.bytes_of(inputs)).inputs))
        for _ in range(pieces):
            bare.append(_PIECE / _bare_seconds(device, _PIECE))
            before, start = traffic.sent, time.monotonic()
            for _ in range(samples):
                device.train_step(inputs, label)
            used.append((traffic.sent - before) / (time.monotonic() - start))
    shares = [u / b for u, b in zip(used, bare, strict=True)]
    return Throughput(
        f"{values:,} values as {'uint8' if coded else 'float32'}",
        round(statistics.median(bare)), round(statistics.median(used)), round(statistics.median(shares), 3),
        round(max(used) / max(bare), 3),
    )  # fmt: skip


def _bare_seconds(device: DeviceBackend, count: int) -> float:
    """How long the line takes to carry so many bytes to bare_line.c."""
    device.session.write_region(Region.INPUT, np.array([_MAGIC, count], "<u4").tobytes())
    _sent_until_answered(device, b"\x55")
    start = time.monotonic()
    _sent_until_answered(device, b"\x55" * count)
    return time.monotonic() - start


def _sent_until_answered(device: DeviceBackend, data: bytes) -> None:
    """Sends, and a single byte more for each second in which no answer comes: the first may have come too early."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        device.emulator.stream.send(data)
        if device.emulator.stream.receive(1.0):
            return
        data = data[:1]
    raise AssertionError("the board does not read")


def _count(
    model: str, profile: str, cases: Sequence[_Case], compiler: str | None
) -> tuple[int, int, int, dict[_Case, int]]:
    """Instructions of a training step; values of the inputs, bytes of the label; instructions of the link by case."""
    board = load_board(EMULATED).with_profile(profile)
    compiled = compile_model(model, Options("all", fma=board.fma, isa=board.cpu.isa))
    inputs, label = next(random_samples(compiled, 0))
    program = compiled.program
    assert label is not None and program.label is not None
    frames = ", ".join(f"{{{case.payload_bytes}u, {str(case.coded).lower()}}}" for case in cases)
    sizes = {"INPUT_BYTES": f"{program.inputs[0].bytes}u", "LABEL_BYTES": f"{program.label.bytes}u", "FRAMES": frames}
    defines = "".join(f"#define {name} {value}\n" for name, value in sizes.items())
    with _WithHook(compiled, "count_link.c", defines, load_board(EMULATED), compiler, profile) as device:
        counts = np.frombuffer(device.session.read_region(Region.INPUT, 8 * len(cases)), "<u8")
        device.learning_rate = 0.01
        device.train_step(inputs, label)
        values, step = program.inputs[0].bytes // 4, device.stats().instructions
    return step, values, program.label.bytes, dict(zip(cases, map(int, counts), strict=True))


class _WithHook(DeviceBackend):
    """Firmware with a file of this folder beside it, which defines et_on_sample()."""

    def __init__(
        self, compiled: Compiled, hook: str, defines: str, board: Board, compiler: str | None,
        profile: str | None = None,
    ) -> None:  # fmt: skip
        self._hook, self._defines = hook, defines
        super().__init__(compiled, board, profile, compiler, direct=False)

    def _build(self, compiled: Compiled, compiler: str | None) -> FirmwareImage:
        program, tool = compiled.program, f"edgetrain {__version__}"
        emit(program, self._folder, tool)
        write_project(self._folder, program, self.target, tool)
        (self._folder / self._hook).write_text(self._defines + (Path(__file__).parent / self._hook).read_text())
        return build_firmware(self._folder, self.target, compiler, program.optimize)
