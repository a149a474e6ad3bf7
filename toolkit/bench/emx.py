"""A model file as emx-onnx-cgen makes C of it, where that tool is installed: inference, compiled for this PC."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from codegen.compilers import Compiler, run_tool
from codegen.errors import BackendError
from toolkit.ir import Array

_MODULE = "emx_onnx_cgen"
# No files or heap for weights and temporaries, and pointers that are known not to overlap: its fastest code.
_OPTIONS = ("--large-temp-threshold", "0", "--large-weight-threshold", "0", "--restrict-arrays")
# As edgetrain's own C is compiled, but for what says how its multiply-adds are rounded.
OPTIMIZE = "-O3"


class EmxModel:
    """Inference with one input and one output.

    Raises:
        ImportError: the tool is not installed.
        BackendError: the tool or the compiler refuses the model.
    """

    def __init__(self, path: Path, folder: Path, compiler: Compiler, output_shape: tuple[int, ...]) -> None:
        import_module(_MODULE)
        self.version = version(_MODULE.replace("_", "-"))
        self.flags = (OPTIMIZE, *compiler.native_flags())
        source, library = folder / "emx.c", folder / "libemx.so"
        command = [sys.executable, "-m", _MODULE, "compile", str(path), str(source), "--model-name", "emx_model"]
        made = subprocess.run([*command, *_OPTIONS, "--input-dim", "N=1"], capture_output=True, text=True, check=False)
        if made.returncode:
            raise BackendError(f"{_MODULE} failed: {(made.stderr or made.stdout).strip().splitlines()[-1:]}")
        built = run_tool(
            [*compiler.command, *self.flags, "-shared", "-fPIC", "-w", str(source), "-o", str(library), "-lm"]
        )
        if built.returncode:
            raise BackendError(f"{compiler.name} failed:\n{built.stderr}")
        from cffi import FFI

        self._ffi: Any = FFI()
        self._ffi.cdef("void emx_model(const float *, float *);")
        self._library: Any = self._ffi.dlopen(str(library))
        self._output = np.zeros(output_shape, np.float32)

    def call(self, x: Array) -> Callable[[], object]:
        """Runs once, from buffer to buffer."""
        given, output = (self._ffi.cast("float *", self._ffi.from_buffer(array)) for array in (x, self._output))
        function = self._library.emx_model

        def run(_keeps: tuple[object, ...] = (self, x)) -> None:
            function(given, output)

        return run

    def output(self) -> Array:
        """Of the last call."""
        return self._output.copy()
