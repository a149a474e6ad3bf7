"""What kernels cost: formulas fitted to counts in the emulator; by them `plan` says what a model takes.

    instructions of a step = sum over some terms of a factor >= 0 of its kernel * the term

The terms are MACs, bytes read and written, and how often loops begin (`toolkit.report.terms`); which of them a kernel
goes by, `toolkit.bench.formulas` finds. There are factors for each way that a step may take through a kernel, for each
compiler, and for cores with float instructions, with those for halves too, and with none. Cycles are instructions times
the mean cycles per instruction of the kernel on a core (`toolkit.bench.blocks`). How far that is off is found by taking
each model out once: what the others say of it. Single layers of odd shapes take part in the fit, not in the errors.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from codegen.board import load_board
from codegen.compilers import find, require_extensions
from codegen.cores import list_cores, load_core
from codegen.errors import BackendError
from toolkit.bench.blocks import Ran, instructions, plugin, read, total_cycles
from toolkit.bench.formulas import Sample, errors, formulas, left_out
from toolkit.bench.layers import FUNCTIONS, CountedDevice, run_counted
from toolkit.bench.rv32 import PATIENCE_SECONDS, TARGET, compile_for, training_of
from toolkit.bench.shapes import SHAPES
from toolkit.errors import UserError
from toolkit.pipeline import Compiled
from toolkit.report.terms import NAMES, terms, way
from toolkit.report.work import PROFILES
from toolkit.sim.device import DeviceBackend
from toolkit.sim.emulator import Emulator
from toolkit.zoo.single import single_layer

_HALVES, _, _TRACED = PROFILES  # the cores with a table of cycles have it: none of them has float instructions
_SMALL = ("digits-cnn", "mlp", "cnn", "lenet", "small-resnet", "mnist-cnn", "ab-net", "ds-cnn", "ds-cnn-bn")
_LARGE = ("autoencoder", "mobilenetv3-small", "mobilenetv2", "mobilenetv1-0.25", "resnet8")
_NATIVE = ("fp16:accumulate=native", "fp16:accumulate=native,master=stored")
_DOREFA = ("dorefa:w1a2g6", "dorefa:w1a2g6,master=int16")
_METHODS = {
    "mnist-cnn": ("int8", "fixed8", "fixed16", *_DOREFA, "binaryconnect:det", "fp16"),
    "lenet": ("int8", "fixed8", "fixed16", *_DOREFA, "binaryconnect:det", "fp16"),
    "cnn": ("int8", "fixed8", *_DOREFA, "binaryconnect:det", "fp16"),
    "mlp": ("int8", "fixed8", _DOREFA[1], "binaryconnect:det", "fp16"),
    "ds-cnn": ("int8", "fixed8", "binaryconnect:det", "fp16"),
    "small-resnet": ("int8", "fixed8", "binaryconnect:det", "fp16"),
    "autoencoder": ("int8",),
    "mobilenetv2": ("int8",),
    "resnet8": ("int8",),
    "ab-net": ("ab-bnn",),
}  # fmt: skip
SINGLE = "single"  # models of one layer
_SINGLE_METHODS = (
    "fixed8", "fixed16", *(f"{method},all" for method in _DOREFA), "binaryconnect:det", "fp16", "int8",
)  # fmt: skip
_EVERY = 3  # of the shapes: with a method


@dataclass(frozen=True)
class Case:
    """A model, trained in whole, with a method of quantization.

    Attributes:
        shape: number of a shape of `toolkit.bench.shapes`, where the model is SINGLE.
    """

    model: str
    quant: str = "none"
    shape: int | None = None

    @property
    def words(self) -> str:
        """Model and method."""
        return f"{self.model}{'' if self.shape is None else self.shape} {self.quant}"


def cases(profile: str) -> tuple[Case, ...]:
    """What the formulas of a profile are fitted to."""
    some = range(0, len(SHAPES), _EVERY)
    if profile == _HALVES:
        halves = ("mobilenetv1-0.25", "resnet8", *(model for model in _SMALL if model != "ab-net"))
        native = tuple(Case(model, quant) for model in halves for quant in _NATIVE)
        stored = tuple(Case(model, quant) for model in ("mnist-cnn", "lenet", "ds-cnn", "mlp") for quant in
                       ("fp16", "fp16:master=stored"))  # fmt: skip
        return *native, *stored, *(Case(SINGLE, method, each) for method in ("fp16", *_NATIVE) for each in some)
    methods = tuple(Case(model, quant) for model, quants in _METHODS.items() for quant in quants)
    native = tuple(Case(model, quant) for model in ("mnist-cnn", "lenet", "ds-cnn") for quant in _NATIVE)
    single = [Case(SINGLE, shape=number) for number in range(len(SHAPES))]
    single += [Case(SINGLE, method, each) for method in _SINGLE_METHODS for each in some]
    return *(Case(model) for model in (*_SMALL, *_LARGE)), *methods, *native, *single


class _TracedDevice(CountedDevice):
    """A counted board whose emulator says what ran between two readings of the counter."""

    trace: Path

    def _emulate(self, flash: Path | None) -> Emulator:
        self.trace = self._folder / "blocks.txt"
        return Emulator(self.image.elf, self.target, flash, ("-plugin", f"{plugin()},out={self.trace}"))


def builds(compiler: str | None, profile: str) -> bool:
    """Whether a compiler knows the instructions of a profile."""
    board = load_board(TARGET).with_profile(profile)
    try:
        require_extensions(find(compiler, "riscv", board.toolchain.compilers), board)
    except BackendError:
        return False
    return True


def sample(case: Case, profile: str, compiler: str | None = None) -> list[Sample]:
    """All steps of an inference and, where the method trains, of a training step; of a single layer only the latter."""
    with tempfile.TemporaryDirectory(prefix="edgetrain-") as folder:
        source = case.model
        training = training_of(case.model, "sgd", "batch")
        if case.shape is not None:
            path = Path(folder) / "single.onnx"
            # Behind it, int8 codes go on as codes.
            path.write_bytes(single_layer(SHAPES[case.shape], case.quant == "int8").SerializeToString())
            source, training = str(path), replace(training, loss="mse")
        found: list[Sample] = []
        for phase, name in FUNCTIONS.items():
            trains = not case.quant.startswith("int8")
            if (phase == "train" and not trains) or (phase == "infer" and trains and case.shape is not None):
                continue
            try:
                compiled = compile_for(source, case.quant, "all" if phase == "train" else "none", profile, training)
            except UserError:
                if case.shape is None:
                    raise
                continue  # a method need not take every shape
            traced = profile == _TRACED and case.shape is None
            found += _sample(compiled, phase, name, f"{case.words} {phase}", profile, compiler, traced)
        return found


def _sample(
    compiled: Compiled, phase: str, name: str, words: str, profile: str, compiler: str | None, traced: bool
) -> list[Sample]:
    kind = _TracedDevice if traced else CountedDevice
    device = kind(compiled, load_board(TARGET), profile, compiler, timeout=PATIENCE_SECONDS)
    function, forms = compiled.program.functions[name], compiled.program.forms
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "blocks.txt"

        def keep(device: DeviceBackend) -> None:
            if isinstance(device, _TracedDevice):
                kept.write_bytes(device.trace.read_bytes())

        _, counts = run_counted(device, compiled, phase, function, keep)
        ran = _aligned(read(kept), counts) if traced else []
    found = []
    for number, (step, count, features) in enumerate(zip(function.steps, counts, terms(function), strict=True)):
        cycles = {core: total_cycles(ran[number], load_core(core)) for core in list_cores()} if ran else {}
        found.append(Sample(words, step.kernel, features, count, cycles, way(step, forms), count / sum(counts)))
    return found


def _aligned(readings: Sequence[list[Ran]], counts: Sequence[int]) -> Sequence[list[Ran]]:
    """The readings that belong to the steps: the counter is also read before and after them."""
    totals = [instructions(each) for each in readings]
    starts = range(len(totals) - len(counts) + 1)
    distance: Callable[[int], int] = lambda start: sum(  # noqa: E731
        abs(total - count) for total, count in zip(totals[start:], counts, strict=False)
    )
    best = min(starts, key=distance)
    if distance(best) > 0.02 * sum(counts) + 100 * len(counts):
        raise RuntimeError("the emulator's blocks do not add up to what the firmware has counted")
    return readings[best : best + len(counts)]


def record(samples: Mapping[str, Sequence[Sample]], compiler: str | None) -> dict[str, Any]:
    """What `plan` reads of a compiler: of each profile formulas, their errors, and cycles per instruction of cores."""
    profiles = {}
    for profile, own in samples.items():
        counted = [each for each in own if each.instructions > 0]
        kernels = formulas(counted)
        profiles[profile] = {
            "kernels": {
                kernel: {name: _named(factors) for name, factors in ways.items()} for kernel, ways in kernels.items()
            },
            "cycles": _cycles(counted),
            **_sizes("error", left_out(counted, SINGLE)),
            **_sizes("error_seen", errors(kernels, [each for each in counted if not each.model.startswith(SINGLE)])),
        }
    return {"compiler": find(compiler, "riscv").version(), "profiles": profiles}


def _sizes(name: str, errors: Mapping[str, float]) -> dict[str, float | None]:
    """The middle one and the largest."""
    sizes = sorted(abs(error) for error in errors.values())
    return {
        f"median_{name}": round(median(sizes), 3) if sizes else None,
        f"largest_{name}": round(sizes[-1], 3) if sizes else None,
    }


def _named(factors: Sequence[float]) -> dict[str, float]:
    return {name: factor for name, factor in zip(NAMES, factors, strict=True) if factor}


def _cycles(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    sums: dict[str, dict[str, list[int]]] = {}
    for each in samples:
        for core, count in each.cycles.items():
            of_kernel = sums.setdefault(core, {}).setdefault(each.kernel, [0, 0])
            of_kernel[0] += count
            of_kernel[1] += each.instructions
    return {
        core: {kernel: round(cycles / count, 3) for kernel, (cycles, count) in sorted(own.items()) if count}
        for core, own in sorted(sums.items())
    }  # fmt: skip
