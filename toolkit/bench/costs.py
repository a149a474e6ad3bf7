"""What kernels cost: formulas fitted to counts in the emulator; by them `plan` says what a model takes.

    instructions of a step = a + b * MACs + c * bytes read + d * bytes written

with a, b, c, d >= 0 of its kernel, for cores with float instructions and for those without; the fit makes the relative
errors of single steps small. Cycles are instructions times the mean cycles per instruction of the kernel on a core
(`toolkit.bench.blocks`). How far that is off is found by leaving each model out once: what the others say of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from codegen.board import load_board
from codegen.compilers import find
from codegen.cores import list_cores, load_core
from toolkit.bench.blocks import Ran, instructions, plugin, read, total_cycles
from toolkit.bench.layers import FUNCTIONS, CountedDevice, run_counted
from toolkit.bench.rv32 import PATIENCE_SECONDS, TARGET, compile_for, training_of
from toolkit.report.work import PROFILES, features
from toolkit.sim.device import DeviceBackend
from toolkit.sim.emulator import Emulator

# Profile -> whether cores with a table of cycles have it. None of them has float instructions.
_WITH_CYCLES = {PROFILES[True]: False, PROFILES[False]: True}
# Features of `toolkit.report.work`, those first that a kernel of which little was seen most likely goes by.
_BY_WORTH = (1, 3, 2, 0)
_SMALL = ("digits-cnn", "mlp", "cnn", "lenet", "small-resnet", "mnist-cnn", "ab-net", "ds-cnn", "ds-cnn-bn")
_LARGE = ("autoencoder", "mobilenetv3-small", "mobilenetv2", "mobilenetv1-0.25", "resnet8")
_METHODS = ("int8", "fixed8", "fixed16", "dorefa:w1a2g6", "dorefa:w1a2g6,master=int16", "binaryconnect:det", "fp16")


@dataclass(frozen=True)
class Case:
    """A model, trained in whole, with a method of quantization."""

    model: str
    quant: str = "none"


CASES = (
    *(Case(model) for model in (*_SMALL, *_LARGE)),
    *(Case("mnist-cnn", method) for method in _METHODS),
    *(Case("lenet", method) for method in ("int8", "fixed8", "dorefa:w1a2g6,master=int16")),
    *(Case("ds-cnn", method) for method in ("int8", "fixed8")),
    Case("ab-net", "ab-bnn"),
)


@dataclass(frozen=True)
class Sample:
    """One step of one model.

    Attributes:
        case: model, method and phase.
        cycles: core -> cycles.
    """

    case: str
    kernel: str
    features: tuple[float, ...]
    instructions: int
    cycles: Mapping[str, int] = field(default_factory=dict)


class _TracedDevice(CountedDevice):
    """A counted board whose emulator says what ran between two readings of the counter."""

    trace: Path

    def _emulate(self, flash: Path | None) -> Emulator:
        self.trace = self._folder / "blocks.txt"
        return Emulator(self.image.elf, self.target, flash, ("-plugin", f"{plugin()},out={self.trace}"))


def sample(case: Case, profile: str, compiler: str | None = None) -> list[Sample]:
    """All steps of one inference and, where the method trains, of one training step."""
    training = training_of(case.model, "sgd", "batch")
    traced = _WITH_CYCLES[profile]
    found: list[Sample] = []
    for phase, name in FUNCTIONS.items():
        if phase == "train" and case.quant.startswith("int8"):
            continue
        compiled = compile_for(case.model, case.quant, "all" if phase == "train" else "none", profile, training)
        kind = _TracedDevice if traced else CountedDevice
        device = kind(compiled, load_board(TARGET), profile, compiler, timeout=PATIENCE_SECONDS)
        function = compiled.program.functions[name]
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder) / "blocks.txt"

            def keep(device: DeviceBackend, kept: Path = kept) -> None:
                if isinstance(device, _TracedDevice):
                    kept.write_bytes(device.trace.read_bytes())

            _, counts = run_counted(device, compiled, phase, function, keep)
            ran = _aligned(read(kept), counts) if traced else []
        for number, (step, count) in enumerate(zip(function.steps, counts, strict=True)):
            cycles = {core: total_cycles(ran[number], load_core(core)) for core in list_cores()} if ran else {}
            words = f"{case.model} {case.quant} {phase}"
            found.append(Sample(words, step.kernel, features(function, step), count, cycles))
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


def fit(samples: Sequence[Sample]) -> tuple[float, ...]:
    """Factors of a kernel, none below zero, for the smallest squares of relative errors."""
    matrix = np.array([each.features for each in samples]) / [[each.instructions] for each in samples]
    best, least = np.zeros(matrix.shape[1]), float(len(samples))
    distinct = len({each.features for each in samples})
    for size in range(1, min(matrix.shape[1], max(distinct - 1, 1)) + 1):
        for chosen in combinations(_BY_WORTH, size):
            part = matrix[:, chosen]
            factors = np.linalg.lstsq(part, np.ones(len(samples)), rcond=None)[0]
            error = float(np.sum((part @ factors - 1) ** 2))
            if (factors >= 0).all() and error < least * (1 - 1e-6):
                best, least = np.zeros(matrix.shape[1]), error
                best[list(chosen)] = factors
    return tuple(float(f"{factor:.5g}") for factor in best)


def fit_all(samples: Sequence[Sample]) -> dict[str, Any]:
    """Everything that is known of a profile: kernel -> factors, and core -> kernel -> cycles per instruction."""
    kernels = sorted({each.kernel for each in samples})
    own = {kernel: [each for each in samples if each.kernel == kernel and each.instructions > 0] for kernel in kernels}
    found: dict[str, Any] = {"kernels": {kernel: fit(own[kernel]) for kernel in kernels if own[kernel]}, "cycles": {}}
    for core in sorted({core for each in samples for core in each.cycles}):
        found["cycles"][core] = {
            kernel: round(sum(s.cycles[core] for s in own[kernel]) / sum(s.instructions for s in own[kernel]), 3)
            for kernel in kernels if own[kernel]
        }  # fmt: skip
    return found


def left_out(samples: Sequence[Sample]) -> dict[str, float]:
    """Case -> relative error of its sum where the formulas are fitted to the other models; only where they know all."""
    errors = {}
    for case in dict.fromkeys(each.case for each in samples):
        model = case.split()[0]
        known = fit_all([each for each in samples if each.case.split()[0] != model])["kernels"]
        own = [each for each in samples if each.case == case]
        if all(each.kernel in known for each in own):
            told = sum(float(np.dot(known[each.kernel], each.features)) for each in own)
            errors[case] = told / sum(each.instructions for each in own) - 1
    return errors


def record(samples: Mapping[str, Sequence[Sample]], compiler: str | None) -> dict[str, Any]:
    """The file that `plan` reads: profile -> what `fit_all` gives, with its errors."""
    profiles = {}
    for profile, own in samples.items():
        errors = left_out(own)
        sizes = sorted(abs(error) for error in errors.values())
        profiles[profile] = fit_all(own) | {
            "median_error": round(median(sizes), 3) if sizes else None,
            "largest_error": round(sizes[-1], 3) if sizes else None,
        }
    return {"compiler": find(compiler, "riscv").version(), "profiles": profiles}
