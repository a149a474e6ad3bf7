"""Cross entropy on a PC, which takes 16 samples at a time where it can: the bits of the reference."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import numpy as np
import pytest

from codegen.kernels import runtime_for
from tests.support import assert_same_bits, build_kernels, floats, floats_with_special
from tests.test_kernels_conv import RUNTIME, Build, can_run
from toolkit.ops.base import Run
from toolkit.ops.softmax_cross_entropy import SoftmaxCrossEntropy

BUILDS = (
    Build("gcc", "-O3 -march=native", 1),
    Build("gcc", "-O1 -march=native -fsanitize=undefined -fno-sanitize-recover=all", 1),
    Build("clang-19", "-O2 -mavx512f -mavx512bw -mavx512vl -mfma", 1),
    Build("gcc", "-O1 -DET_FORCE_SCALAR", 1),
)
SHAPES = [(15, 10), (16, 1), (32, 10), (16, 16), (37, 17), (16, 64), (16, 65)]


@pytest.mark.parametrize("build", BUILDS, ids=[f"{b.compiler} {b.flags}" for b in BUILDS])
def test_losses_of_many_samples_have_the_bits_of_the_reference(build: Build, tmp_path: Path) -> None:
    if shutil.which(build.compiler) is None or not can_run(build.flags):
        pytest.skip(f"needs {build.compiler}, and a PC that runs {build.flags}")
    sources = [RUNTIME / name for name in runtime_for(["et_cross_entropy_f32"]).sources]
    library = ctypes.CDLL(str(build_kernels(tmp_path, sources, {"ET_FMA": 1}, build.flags, build.compiler)))
    library.et_cross_entropy_f32.argtypes = [ctypes.c_int32] * 2 + [ctypes.c_float] + [ctypes.c_void_p] * 4
    for n, classes in SHAPES:
        for seed in range(6):
            scores = (floats if seed % 2 == 0 else floats_with_special)(seed, n, classes)
            with np.errstate(over="ignore"):
                scores *= np.float32(30 if seed % 3 == 0 else 1)  # of 30, exponentials are subnormal or 0
            labels = np.random.default_rng(seed).integers(0, classes, n).astype(np.int32)
            loss, probabilities = SoftmaxCrossEntropy().run(Run(), scores, labels)
            found_loss, found = np.zeros(1, np.float32), scores.copy()  # in place
            pointers = [array.ctypes.data for array in (found, labels, found_loss, found)]
            assert library.et_cross_entropy_f32(n, classes, np.float32(1 / n), *pointers) == 0
            assert_same_bits(found_loss.reshape(loss.shape), loss, f"loss of {n} x {classes}, seed {seed}")
            assert_same_bits(found, probabilities, f"probabilities of {n} x {classes}, seed {seed}")
