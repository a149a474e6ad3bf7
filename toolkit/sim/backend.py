"""One interface to the three ways of running a compiled model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np

from codegen.program import Array, Program
from toolkit.errors import UserError
from toolkit.pipeline import Compiled

# In the order of et_status in runtime_c/et_base.h.
STATUS = (
    "ET_OK", "ET_BAD_ARGUMENT", "ET_BAD_LABEL", "ET_NONFINITE_LOSS", "ET_NONFINITE_GRADIENT", "ET_NOT_TRAINABLE",
    "ET_FLASH_FAILED", "ET_NO_STATE", "ET_NO_FLASH",
)


class Backend(ABC):
    """A running model. Arrays are in the model's inner layout (channels last), weights in their canonical layout.

    Attributes:
        name: "reference", "host", or the target.
        learning_rate, seed, step: the scalars of the context.
    """

    name: str
    learning_rate: float
    seed: int
    step: int

    def __init__(self, compiled: Compiled) -> None:
        self.compiled = compiled

    @abstractmethod
    def init(self) -> None:
        """Weights and states as they were compiled in; step 0."""

    @abstractmethod
    def infer(self, inputs: Sequence[Array]) -> list[Array]:
        """Outputs for inputs."""

    @abstractmethod
    def train_step(self, inputs: Sequence[Array], label: Array) -> tuple[str, np.float32]:
        """One training step: status and loss (NaN where none was computed)."""

    @abstractmethod
    def update(self) -> str:
        """Applies what was accumulated; status."""

    @abstractmethod
    def state(self) -> dict[str, Array]:
        """Trained weights and all that is kept between steps, by tensor name."""

    @abstractmethod
    def set_state(self, values: dict[str, Array]) -> None:
        """Replaces some or all of them."""

    def close(self) -> None:
        """Frees what the backend holds; called by `with`."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_backend(
    compiled: Compiled,
    on: str = "host",
    profile: str | None = None,
    compiler: str | None = None,
    sanitize: bool = False,
    threads: int = 1,
) -> Backend:
    """Builds what is needed and starts it.

    Args:
        on: "reference", "host", or a target that runs in an emulator.
        profile: ISA profile of the target; its default where None.
        compiler: a compiler by name; the best found where None.
        sanitize: host only: address and undefined-behaviour sanitizers.
        threads: host only: that share the work of a step; the bits are the same.

    Raises:
        UserError: unknown target, or a compiler or emulator is missing.
    """
    if on == "reference":
        from toolkit.sim.reference import ReferenceBackend

        return ReferenceBackend(compiled)
    if on == "host":
        from toolkit.sim.host import HostBackend

        return HostBackend(compiled, compiler, sanitize, threads)
    from codegen.board import load_board
    from toolkit.sim.device import DeviceBackend

    board = load_board(on)
    if board.run is None or board.run.emulator is None:
        raise UserError(f"{on} cannot be emulated here", where=f"--on {on}", hint="use --on qemu-rv32")
    return DeviceBackend(compiled, board, profile, compiler)


def read_params(program: Program, memory: bytes) -> dict[str, Array]:
    """The params struct as arrays in canonical layout."""
    offsets = program.param_offsets()
    result = {}
    for buffer in program.params:
        start = offsets[buffer.name]
        flat = np.frombuffer(memory[start : start + buffer.bytes], buffer.dtype)
        result[buffer.name] = buffer.unpack(flat)
    return result
