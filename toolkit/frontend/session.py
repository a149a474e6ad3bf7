"""A model file run by onnxruntime, where that is installed: what others make of the same file."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from toolkit.ir import Array


class Session:
    """A model with one input and one output on the CPU, float32, with buffers that are bound once.

    Raises:
        ImportError: onnxruntime is not installed.
    """

    def __init__(self, path: Path, inputs: Array, threads: int) -> None:
        onnxruntime: Any = import_module("onnxruntime")
        self.version = str(onnxruntime.__version__)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._binding = self._session.io_binding()
        # The session reads the memory of the array itself, which has to live as long.
        self._inputs = inputs
        self._binding.bind_cpu_input(self._session.get_inputs()[0].name, inputs)
        self._binding.bind_output(self._session.get_outputs()[0].name)

    def plain_call(self) -> Callable[[], object]:
        """Runs once, as most people do: an array in, an array out."""
        run, given = self._session.run, {self._session.get_inputs()[0].name: self._inputs}
        return lambda: run(None, given)

    def call(self) -> Callable[[], object]:
        """Runs once, from buffer to buffer."""
        run, binding = self._session.run_with_iobinding, self._binding

        def bound(_keeps: object = self) -> None:
            run(binding)

        return bound

    def output(self) -> Array:
        """Of a run."""
        self._session.run_with_iobinding(self._binding)
        result: Array = self._binding.copy_outputs_to_cpu()[0]
        return result
