"""The generated C: the same bytes every time, no warnings from any compiler, no libc, nothing outside its memory."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from codegen.board import load_board
from codegen.build import build_firmware, build_shared_library, find_host_compilers, find_riscv_compilers, host_flags
from codegen.emit import emit, generate
from codegen.program import Program
from codegen.project import project_files, write_project
from toolkit.pipeline import Options, compile_model
from toolkit.sim.host import HostBackend
from toolkit.train.step import TrainingOptions
from toolkit.zoo import build

ROOT = Path(__file__).resolve().parent.parent
# Seven models that together use every kernel family, each trained in another way.
MODELS = {
    "digits-cnn": Options(train="all", training=TrainingOptions(optimizer="adam", accumulate=2)),
    "mlp": Options(train="all", fma=False, training=TrainingOptions(optimizer="sgd:momentum=0.9")),
    "lenet": Options(train="last:2", training=TrainingOptions(atomic=True)),
    "small-resnet": Options(train="all", training=TrainingOptions(loss="squared-hinge")),
    "ds-cnn": Options(train="none"),
    "cnn": Options(train="all", batch=4, walk=2),
    "autoencoder": Options(train="bias", training=TrainingOptions(loss="mse")),
}


# The others are run where there is time: `-m "slow or not slow"`.
QUICK = ("digits-cnn", "small-resnet")
QUICK_FIRST = [model if model in QUICK else pytest.param(model, marks=pytest.mark.slow) for model in MODELS]


@pytest.fixture(scope="module")
def programs() -> dict[str, Program]:
    return {name: compile_model(name, options).program for name, options in MODELS.items()}


@pytest.mark.parametrize("model", MODELS)
def test_same_input_same_bytes(model: str, programs: dict[str, Program]) -> None:
    again = compile_model(model, MODELS[model]).program
    assert generate(again, "edgetrain") == generate(programs[model], "edgetrain")


def _hosts() -> list[Any]:
    """Models and compilers; zig, which is a clang, sees one model where there is little time."""
    quick = {(model, compiler) for model in QUICK for compiler in ("gcc", "clang")} | {("digits-cnn", "zig")}
    pairs = itertools.product(MODELS, ("gcc", "clang", "zig"))
    return [pair if pair in quick else pytest.param(*pair, marks=pytest.mark.slow) for pair in pairs]


@pytest.mark.parametrize(("model", "compiler"), _hosts())
def test_compiles_for_the_host_without_a_warning(
    model: str, compiler: str, programs: dict[str, Program], tmp_path: Path
) -> None:
    if compiler not in [c.name for c in find_host_compilers()]:
        pytest.skip(f"{compiler} is not installed")
    emit(programs[model], tmp_path, "edgetrain")
    build_shared_library(tmp_path, tmp_path / "model.so", compiler, optimize="-O1")


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("profile", ["rv32imac", "rv32imafc"])
@pytest.mark.parametrize("model", QUICK_FIRST)
def test_compiles_for_rv32_and_fits_the_plan_to_the_byte(
    model: str, profile: str, compiler: str, programs: dict[str, Program], tmp_path: Path
) -> None:
    if compiler not in [c.name for c in find_riscv_compilers()]:
        pytest.skip(f"{compiler} for RISC-V is not installed")
    board = load_board("qemu-rv32").with_profile(profile)
    program = programs[model]
    emit(program, tmp_path, "edgetrain")
    write_project(tmp_path, program, board, "edgetrain")
    image = build_firmware(tmp_path, board, compiler)
    assert image.sizes["arena"] == program.arena_bytes
    assert image.sizes["params"] == max(program.params_bytes, 1)
    assert _map_bytes(image.map, ".et_arena") == program.arena_bytes
    assert _map_bytes(image.map, ".et_params") == max(program.params_bytes, 1)


def _map_bytes(path: Path, section: str) -> int:
    """The size of an output section in a GNU or LLVM linker map."""
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        words = line.split()
        if words and words[0] == section:  # GNU: name, address, size; perhaps on the next line
            words = words[1:] or lines[number + 1].split()
            return int(words[1], 16)
        if len(words) == 5 and words[4] == section:  # LLVM: VMA, LMA, size, alignment, name
            return int(words[2], 16)
    return 0


@pytest.mark.parametrize("model", MODELS)
def test_needs_nothing_from_libc_or_libm(model: str, programs: dict[str, Program], tmp_path: Path) -> None:
    emit(programs[model], tmp_path, "edgetrain")
    compiler = "gcc" if shutil.which("gcc") else None
    library = build_shared_library(tmp_path, tmp_path / "model.so", compiler, HostBackend.optimize)
    listed = subprocess.run(["nm", "-D", "--undefined-only", str(library)], capture_output=True, text=True, check=True)
    needed = {line.split()[-1].split("@")[0] for line in listed.stdout.splitlines()}
    assert needed <= {"memcpy", "memset", "memmove", "__cxa_finalize", "__gmon_start__"} | {
        name for name in needed if name.startswith("_ITM_")
    }


_MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model.h"
int main(void)
{{
    static et_{name}_t model;
    /* On the heap, so that the sanitizer sees every byte outside. */
    void *arena = malloc(ET_{upper}_ARENA_BYTES + 4);
    et_{name}_params *params = malloc(sizeof *params);
    {buffers}
    memset(arena, 0xA5, ET_{upper}_ARENA_BYTES);
    if (et_{name}_init(&model, arena, params) != ET_OK) return 1;
    for (int i = 0; i < 2; i++) {{
        {calls}
    }}
    printf("done\\n");
    return 0;
}}
"""


def _harness(program: Program) -> str:
    """A main that calls every function on heap buffers of exactly the right size."""
    buffers, given, taken = [], [], []
    for number, port in enumerate(program.inputs):
        buffers.append(f"float *in{number} = calloc({port.bytes}, 1);")
        buffers.append(f"for (int i = 0; i < {port.bytes // 4}; i++) in{number}[i] = (float)(i % 17) / 17.0f - 0.5f;")
        given.append(f"in{number}")
    for number, port in enumerate(program.outputs):
        buffers.append(f"float *out{number} = malloc({port.bytes});")
        taken.append(f"out{number}")
    calls = [f"if (et_{program.name}_infer({', '.join(['&model', *given, *taken])}) != ET_OK) return 2;"]
    if program.label:
        ctype = "int32_t" if program.label.dtype == "int32" else "float"
        buffers.append(f"{ctype} *label = calloc({program.label.bytes}, 1); float loss = 0.0f;")
        arguments = ", ".join(["&model", *given, "label", "&loss"])
        calls.append(f"if (et_{program.name}_train_step({arguments}) != ET_OK) return 3;")
        calls.append(f"if (et_{program.name}_update(&model) != ET_OK) return 4;")
    return _MAIN.format(
        name=program.name, upper=program.name.upper(), buffers="\n    ".join(buffers), calls="\n        ".join(calls)
    )


@pytest.mark.parametrize("model", QUICK_FIRST)
def test_sanitizers_find_nothing(model: str, programs: dict[str, Program], tmp_path: Path) -> None:
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    program = programs[model]
    emit(program, tmp_path, "edgetrain")
    (tmp_path / "harness.c").write_text(_harness(program))
    command = [
        "gcc", *[flag for flag in host_flags("-O0") if flag != "-Werror"], "-g", "-mfma",  # every access is left in
        "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-o", str(tmp_path / "harness"),
        *sorted(str(p) for p in tmp_path.glob("*.c")),
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode and "mfma" in built.stderr:
        command.remove("-mfma")
        built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[:2000]
    environment = {"ASAN_OPTIONS": "detect_leaks=0"}
    ran = subprocess.run([str(tmp_path / "harness")], capture_output=True, text=True, check=False, env=environment)
    assert ran.returncode == 0 and ran.stdout == "done\n", ran.stderr[:2000]


def test_a_byte_outside_of_the_memory_is_noticed() -> None:
    backend = HostBackend(compile_model("digits-cnn", Options(train="head")))
    backend._params.write(backend.compiled.program.params_bytes, b"x")
    with pytest.raises(AssertionError, match="outside"):
        backend.close()


def test_project_files_are_the_same_every_time(programs: dict[str, Program]) -> None:
    board = load_board("qemu-rv32")
    first = project_files(programs["digits-cnn"], board, "edgetrain")
    assert first == project_files(programs["digits-cnn"], board, "edgetrain")


# What qemu-rv32's builds is compared in test_board.
@pytest.mark.parametrize("target", ["host", "hifive1", pytest.param("qemu-rv32", marks=pytest.mark.slow)])
def test_the_makefile_builds_offline(target: str, programs: dict[str, Program], tmp_path: Path) -> None:
    if not shutil.which("make") or (target != "host" and not find_riscv_compilers()):
        pytest.skip("make or a RISC-V compiler is not installed")
    import sys

    board = load_board(target)
    program = compile_model("digits-cnn", Options(train="head", fma=board.fma)).program
    emit(program, tmp_path, "edgetrain")
    write_project(tmp_path, program, board, "edgetrain")
    made = subprocess.run(
        ["make", "-C", str(tmp_path), f"PYTHON={sys.executable}"], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr[:2000]


def test_a_model_may_be_called_like_a_file_of_the_runtime(programs: dict[str, Program]) -> None:
    """base.onnx, device.onnx ...: no header of a model may switch off one of the runtime by the name of its guard."""
    guard = re.compile(r"^#ifndef (ET_MODEL_)?\w+_H$", re.MULTILINE)
    files = generate(programs["digits-cnn"], "edgetrain")
    own = [guard.findall(text) for name, text in files.items() if name in ("model.h", "weights.h")]
    assert own == [["ET_MODEL_"]] * 2
    others = (path for place in ("runtime_c", "targets/common") for path in (ROOT / place).glob("*.h"))
    assert {found for path in others for found in guard.findall(path.read_text())} == {""}


@pytest.mark.parametrize("name", ["board", "sink", "half-conv"])
def test_a_model_whose_functions_would_be_called_like_others_gets_another_name(name: str, tmp_path: Path) -> None:
    """et_board_init is the board's."""
    path = tmp_path / f"{name}.onnx"
    path.write_bytes(build("mlp").SerializeToString())
    program = compile_model(path, Options("all")).program
    assert program.name == f"{name.replace('-', '_')}_model"
    board, firmware = load_board("qemu-rv32"), tmp_path / "firmware"
    firmware.mkdir()
    emit(program, firmware, "edgetrain")
    write_project(firmware, program, board, "edgetrain")
    build_firmware(firmware, board)
