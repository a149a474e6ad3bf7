"""The generated C on this PC: compiled to a shared library, called through cffi's ABI mode."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from codegen.build import build_shared_library
from codegen.emit import arena_bytes, emit
from codegen.program import Array, Port, Program
from toolkit import __version__
from toolkit.pipeline import Compiled
from toolkit.sim.backend import STATUS, Backend, read_params


class HostBackend(Backend):
    """A model in a shared library of its own.

    Attributes:
        optimize: the compiler's flag; the bits are the same for any.
    """

    name = "host"
    optimize = "-O3"

    def __init__(
        self, compiled: Compiled, compiler: str | None = None, sanitize: bool = False, threads: int = 1
    ) -> None:
        """Emits, compiles and loads the model.

        Args:
            threads: that share the work of each step, or walk over the batch, each in an arena of its own; the bits are
                the same for any number. No more than there are samples in the model's batch are made, for they would
                wait for each other.

        Raises:
            BackendError: no compiler, or it refuses the code.
        """
        super().__init__(compiled)
        threads = min([threads, *(port.shape[0] if port.shape else 1 for port in compiled.program.inputs)])
        self._folder = Path(tempfile.mkdtemp(prefix="edgetrain-"))
        self._guarded: tuple[_Guarded, ...] = ()
        self._threads = 1
        try:
            emit(compiled.program, self._folder, f"edgetrain {__version__}", threads=threads > 1, arenas=threads)
            library = self._folder / f"lib{compiled.program.name}.so"
            settings: dict[str, Any] = dict(_SANITIZE) if sanitize else {"optimize": self.optimize}
            if threads > 1:
                settings["extra"] = (*settings.get("extra", ()), *THREADS)
            build_shared_library(self._folder, library, compiler=compiler, **settings)
            self._open(compiled.program, library, threads)
        except BaseException:
            self.close()
            raise
        self.init()
        self.learning_rate = 0.01
        self.seed = 0

    def _open(self, program: Program, library: Path, threads: int) -> None:
        from cffi import FFI

        self._ffi: Any = FFI()
        self._ffi.cdef(declarations(program))
        self._library: Any
        if threads > 1:
            # Threads of a library that nobody has closed go on when it is let go: its code stays then.
            self._ffi.cdef("void et_threads_set(int32_t);")
            self._library = self._ffi.dlopen(str(library), os.RTLD_NOW | os.RTLD_NODELETE)
            self._library.et_threads_set(threads)
            self._threads = threads
        else:
            self._library = self._ffi.dlopen(str(library))
        self._prefix = f"et_{program.name}_"
        # Guards of a whole cache line on both sides show whether anything is written outside.
        self._arena = _Guarded(arena_bytes(program, threads))
        self._params = _Guarded(max(program.params_bytes, 1))
        self._guarded = (self._arena, self._params)
        self._model: Any = self._ffi.new("et_model *")
        self._outputs = [np.zeros(port.shape, port.dtype) for port in program.outputs]

    def init(self) -> None:
        self._check(self._call("init", self._arena.pointer(self._ffi), self._params.pointer(self._ffi)))

    @property
    def learning_rate(self) -> float:
        """The context's learning rate."""
        return float(self._model.learning_rate)

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._model.learning_rate = value

    @property
    def seed(self) -> int:
        """The context's seed."""
        return int(self._model.seed)

    @seed.setter
    def seed(self, value: int) -> None:
        self._model.seed = value

    @property
    def step(self) -> int:
        """The context's step counter."""
        return int(self._model.step)

    @step.setter
    def step(self, value: int) -> None:
        self._model.step = value

    @property
    def failed_step(self) -> int:
        """Step of the function that gave the last status other than ET_OK."""
        return int(self._model.failed_step)

    def infer(self, inputs: Sequence[Array]) -> list[Array]:
        given = self._given(inputs)
        self._check(self._call("infer", *(p for _, p in given), *(self._pointer(o) for o in self._outputs)))
        return [output.copy() for output in self._outputs]

    def train_step(self, inputs: Sequence[Array], label: Array) -> tuple[str, np.float32]:
        given = self._given(inputs)
        port = self.compiled.program.label
        assert port is not None
        label = np.ascontiguousarray(label, port.dtype).reshape(port.shape)
        loss = np.full(1, np.nan, np.float32)
        status = self._call("train_step", *(p for _, p in given), self._pointer(label), self._pointer(loss))
        return STATUS[status], np.float32(loss[0])

    def bound(self, inputs: Sequence[Array], label: Array | None = None) -> Callable[[], int]:
        """Calls the C again and again with the same samples, for measurements: a training step where there is a label.

        What is returned gives the status as a number; outputs and loss are overwritten by each call.
        """
        given = self._given(inputs)
        held: list[Array] = [array for array, _ in given]
        if label is None:
            function, last = "infer", [self._pointer(output) for output in self._outputs]
        else:
            port = self.compiled.program.label
            assert port is not None
            held += [np.ascontiguousarray(label, port.dtype).reshape(port.shape), np.zeros(1, np.float32)]
            function, last = "train_step", [self._pointer(array) for array in held[-2:]]
        arguments = (*(pointer for _, pointer in given), *last)
        run = partial(getattr(self._library, self._prefix + function), self._model, *arguments)
        vars(run)["keeps"] = self, held
        return run

    def update(self) -> str:
        return STATUS[self._call("update")]

    def state(self) -> dict[str, Array]:
        return read_params(self.compiled.program, self._params.content())

    def set_state(self, values: dict[str, Array]) -> None:
        offsets = self.compiled.program.param_offsets()
        for buffer in self.compiled.program.params:
            if buffer.name in values:
                self._params.write(offsets[buffer.name], buffer.pack(values[buffer.name]).tobytes())

    def close(self) -> None:
        """Removes the library, ends its threads, and makes sure that the C has kept to its memory."""
        if self._threads > 1:
            self._library.et_threads_set(1)
        shutil.rmtree(self._folder, ignore_errors=True)
        if not all(memory.intact() for memory in self._guarded):
            raise AssertionError(f"{self.compiled.program.name} has written outside of its arena or its params")

    def _given(self, inputs: Sequence[Array]) -> list[tuple[Array, Any]]:
        """Inputs as contiguous arrays (kept alive beside their pointers)."""
        ports = self.compiled.program.inputs
        arrays = [_as_port(value, port) for value, port in zip(inputs, ports, strict=True)]
        return [(array, self._pointer(array)) for array in arrays]

    def _pointer(self, array: Array) -> Any:
        return self._ffi.cast("void *", self._ffi.from_buffer(array))

    def _call(self, function: str, *arguments: Any) -> int:
        return int(getattr(self._library, self._prefix + function)(self._model, *arguments))

    def _check(self, status: int) -> None:
        if status:
            raise AssertionError(f"the generated code refused a call: {STATUS[status]}")


# What the C of `emit(..., threads=True)` is compiled with.
THREADS = ("-DET_THREADS=1", "-pthread")
_SANITIZE: dict[str, Any] = {
    "optimize": "-O1", "extra": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"),
}


def declarations(program: Program) -> str:
    """What cffi must know; sizes are held by static assertions in model.c."""
    name = program.name
    inputs = ["const void *" for _ in program.inputs]
    outputs = ["void *" for _ in program.outputs]
    lines = [
        "typedef struct { void *arena; void *params; float learning_rate; uint32_t seed; uint32_t step;"
        " int32_t failed_step; } et_model;",
        f"int et_{name}_init(et_model *, void *, void *);",
        f"int et_{name}_infer({', '.join(['et_model *', *inputs, *outputs])});",
    ]
    if "train_step" in program.functions:
        arguments = ", ".join(["et_model *", *inputs, "const void *", "void *"])
        lines.append(f"int et_{name}_train_step({arguments});")
        lines.append(f"int et_{name}_update(et_model *);")
    return "\n".join(lines)


CACHE_LINE = 64  # bytes, on every host that we know


def at_cache_line(value: Array) -> Array:
    """A copy that begins at a cache line."""
    memory = np.empty(value.nbytes + CACHE_LINE, np.uint8)
    first = -memory.ctypes.data % CACHE_LINE
    copy = memory[first : first + value.nbytes].view(value.dtype).reshape(value.shape)
    copy[...] = value
    return copy


class _Guarded:
    """Memory that begins at a cache line, with painted guards before and after."""

    _GUARD = CACHE_LINE
    _PAINT = 0xA5

    def __init__(self, size: int) -> None:
        self._size = size
        self._memory = at_cache_line(np.full(size + 2 * self._GUARD, self._PAINT, np.uint8))

    def pointer(self, ffi: Any) -> Any:
        return ffi.cast("void *", ffi.from_buffer(self._memory[self._GUARD :]))

    def content(self) -> bytes:
        return self._memory[self._GUARD : self._GUARD + self._size].tobytes()

    def write(self, offset: int, data: bytes) -> None:
        start = self._GUARD + offset
        self._memory[start : start + len(data)] = np.frombuffer(data, np.uint8)

    def intact(self) -> bool:
        before, after = self._memory[: self._GUARD], self._memory[self._GUARD + self._size :]
        return bool((before == self._PAINT).all() and (after == self._PAINT).all())


def _as_port(value: Array, port: Port) -> Array:
    array = np.ascontiguousarray(value, port.dtype).reshape(np.shape(value))  # NumPy would make scalars vectors
    if array.shape != port.shape:
        raise AssertionError(f"{port.name} is {array.shape}, not {port.shape}")
    return array
