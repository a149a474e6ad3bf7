"""Program: what the planner, the verifier, the emitter and the cost model read.

Buffers, and functions made of steps; a step is one call of a kernel of runtime_c with its arguments. Nothing here knows
what a kernel computes.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from codegen.forms import Form, worthwhile

Array = npt.NDArray[Any]

ALIGNMENT = 4  # bytes; of every buffer in the arena

# Element type -> (C type, bytes).
CTYPES: Mapping[str, tuple[str, int]] = {
    "float32": ("float", 4),
    "int32": ("int32_t", 4),
    "uint32": ("uint32_t", 4),
    "int16": ("int16_t", 2),
    "uint16": ("uint16_t", 2),
    "int8": ("int8_t", 1),
    "uint8": ("uint8_t", 1),
}


@dataclass(frozen=True)
class Layout:
    """An order of elements in memory other than row-major: packed.flat[i] = canonical.flat[permutation[i]].

    Attributes:
        name: identifies the layout; two layouts are equal when their names are.
        permutation: int64, one entry per element.
    """

    name: str
    permutation: Array = field(compare=False, repr=False)

    def pack(self, canonical: Array) -> Array:
        """Row-major values in this order, flat."""
        return np.ascontiguousarray(canonical).reshape(-1)[self.permutation]

    def unpack(self, packed: Array, shape: tuple[int, ...]) -> Array:
        """The inverse of `pack`."""
        canonical = np.empty(self.permutation.size, packed.dtype)
        canonical[self.permutation] = packed.reshape(-1)
        return canonical.reshape(shape)


class Place(Enum):
    """Where a buffer lives."""

    ARENA = "arena"  # planned: shared over time
    PARAMS = "params"  # in the caller's params struct: trained weights and states
    FLASH = "flash"  # static const: frozen weights and constants
    INPUT = "input"  # the caller's pointer, read only
    OUTPUT = "output"  # the caller's pointer
    LABEL = "label"
    LOSS = "loss"


@dataclass(frozen=True)
class Buffer:
    """A piece of memory with one element type.

    Attributes:
        name: the tensor it holds, or "<node>.scratch".
        shape: for people; its product is the number of elements.
        layout: order of the elements; None is row-major.
        data: initial value in row-major order, for PARAMS and FLASH.
        trained: a weight (and not a state), for PARAMS.
    """

    name: str
    place: Place
    shape: tuple[int, ...]
    dtype: str
    layout: Layout | None = None
    data: Array | None = field(default=None, compare=False, repr=False)
    trained: bool = False

    @cached_property
    def size(self) -> int:
        """Elements."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes, without padding to the alignment."""
        return self.size * CTYPES[self.dtype][1]

    @property
    def ctype(self) -> str:
        """C element type."""
        return CTYPES[self.dtype][0]

    def pack(self, value: Array) -> Array:
        """Values as they lie in this buffer, flat."""
        value = np.ascontiguousarray(value, self.dtype)
        return value.reshape(-1) if self.layout is None else self.layout.pack(value)

    def image(self) -> Array:
        """The initial value as it lies in this buffer, flat."""
        assert self.data is not None
        return self.pack(self.data)

    def unpack(self, flat: Array) -> Array:
        """The inverse of `pack`: a copy in row-major order, with the shape."""
        return flat.reshape(self.shape).copy() if self.layout is None else self.layout.unpack(flat, self.shape)


class Access(Enum):
    """What a step does with a buffer."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True)
class Pointer:
    """Argument: a buffer."""

    buffer: str
    access: Access


def reading(argument: Argument) -> Argument:
    """What a step has written, as an argument of one that reads it."""
    assert isinstance(argument, Pointer)
    return Pointer(argument.buffer, Access.READ)


@dataclass(frozen=True)
class Literal:
    """Argument: a C expression known when compiling."""

    text: str


@dataclass(frozen=True)
class Runtime:
    """Argument: a scalar of the model's context, such as learning_rate."""

    field: str


@dataclass(frozen=True)
class ByPart:
    """Argument: one C expression in the first part of a walk, another in all later ones (Function.parts)."""

    first: str
    later: str


@dataclass(frozen=True)
class Table:
    """A constant array, as a field of a struct.

    Attributes:
        ctype: element type, "int32_t" or the name of a struct of the runtime.
        rows: one entry per element; a tuple of ints for a struct.
    """

    ctype: str
    rows: tuple[Any, ...]


@dataclass(frozen=True)
class Struct:
    """Argument: the address of a constant struct. Equal ones are emitted once.

    Attributes:
        type: C type, such as et_conv_shape.
        name: preferred name of the constant.
        fields: (name, value) in the order of the C struct.
    """

    type: str
    name: str = field(compare=False)
    fields: tuple[tuple[str, int | float | Table], ...] = ()


@dataclass(frozen=True)
class TableArgument:
    """Argument: the address of a constant array."""

    name: str = field(compare=False)
    table: Table = field(default_factory=lambda: Table("int32_t", ()))


Argument = Pointer | Literal | Runtime | ByPart | Struct | TableArgument


# Of the results of a kernel, as far as its kind tells: those of what it reads that has as many elements (""), half of
# them, those that one of its operands has ("gated"), all but what it reads ("scattered"), or none.
Zeros = typing.Literal["", "half", "gated", "scattered", "none"]


@dataclass(frozen=True)
class Step:
    """One kernel call.

    Attributes:
        kernel: C function of runtime_c, returning et_status.
        node: the node it comes from, for comments, profiles and error messages.
        after: nodes whose steps must come before this one though no buffer says so.
        in_place: (written buffer, read buffer): the kernel allows both to be the same memory.
        updates: (written buffer, the view's older value): read and written through one pointer.
        macs: multiply-accumulates.
        forms: of the kernel's inner loops, that suit this shape better.
        last: runs in the last part of a walk alone.
        zeros: how many of its results are about 0.
    """

    kernel: str
    arguments: tuple[Argument, ...]
    node: str
    after: tuple[str, ...] = ()
    in_place: tuple[tuple[str, str], ...] = ()
    updates: tuple[tuple[str, str], ...] = ()
    macs: int = 0
    forms: tuple[Form, ...] = ()
    last: bool = False
    zeros: Zeros = ""

    def pointers(self) -> tuple[Pointer, ...]:
        """The buffers among the arguments."""
        return tuple(argument for argument in self.arguments if isinstance(argument, Pointer))

    def reads(self) -> tuple[str, ...]:
        """Buffers read, each once."""
        return self._reads

    def writes(self) -> tuple[str, ...]:
        """Buffers written, each once."""
        return self._writes

    @cached_property
    def _reads(self) -> tuple[str, ...]:
        read = [p.buffer for p in self.pointers() if p.access is Access.READ]
        return tuple(dict.fromkeys(read + [old for _, old in self.updates]))

    @cached_property
    def _writes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(p.buffer for p in self.pointers() if p.access is Access.WRITE))


@dataclass(frozen=True)
class Function:
    """One entry point: infer, train_step or update.

    A buffer is written once, like the tensor that it holds; several may share memory:

    Attributes:
        views: buffer -> the buffer whose memory it takes: a reshape of it (no step writes the view), or its next value
            (a step writes the view, after all readers of the old value).
        storage: buffer -> the one that stands for all that share its memory, once scheduled; in-place steps join here.
        offsets: arena storage -> byte offset, once planned.
        peak, lower_bound: bytes of arena, once planned.
        parts: all steps run so many times, each time for the next samples of a batch: a walk. Buffers of the caller are
            then the size of a part, and the next part follows behind it.
        kept: arena buffers that hold their values from part to part.
    """

    name: str
    steps: tuple[Step, ...]
    buffers: Mapping[str, Buffer]
    views: Mapping[str, str] = field(default_factory=dict)
    storage: Mapping[str, str] = field(default_factory=dict)
    offsets: Mapping[str, int] = field(default_factory=dict)
    peak: int = 0
    lower_bound: int = 0
    parts: int = 1
    kept: frozenset[str] = frozenset()

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one call."""
        return self.parts * sum(step.macs for step in self.steps)


@dataclass(frozen=True)
class Port:
    """An input, output or label of the model, for the interface in C and the manifest."""

    name: str
    buffer: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        """Bytes of the C array."""
        return prod(self.shape) * CTYPES[self.dtype][1]


@dataclass(frozen=True)
class Program:
    """A whole model for one target.

    Attributes:
        name: C identifier.
        functions: by name: infer always; train_step, update where compiled for training.
        params: buffers of the params struct, in order.
        flash: constant buffers, in order.
        fma: whether et_madd rounds once.
        small_code: kernels keep fewer forms of their inner loops, and compilers make small code; the bits stay.
        facts: strings for comments and the manifest (source file, sha256, options).
    """

    name: str
    functions: Mapping[str, Function]
    params: tuple[Buffer, ...]
    flash: tuple[Buffer, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    label: Port | None
    fma: bool
    facts: Mapping[str, Any] = field(default_factory=dict)
    small_code: bool = False

    @property
    def optimize(self) -> str:
        """How a firmware's compiler is to optimize."""
        return "-Os" if self.small_code else "-O2"

    @property
    def forms(self) -> tuple[str, ...]:
        """What et_config.h is to have of the forms that the steps would use, sorted."""
        asked = [
            (sum(step.macs for step in f.steps), [form for step in f.steps for form in step.forms])
            for f in self.functions.values()
        ]
        return worthwhile(asked, self.flash_bytes)

    @property
    def arena_bytes(self) -> int:
        """Arena that all functions together need: they never run at once."""
        return max((function.peak for function in self.functions.values()), default=0)

    @property
    def lower_bound(self) -> int:
        """Least arena that any placement could reach for these schedules."""
        return max((function.lower_bound for function in self.functions.values()), default=0)

    @property
    def params_bytes(self) -> int:
        """Size of the params struct."""
        return sum(aligned(buffer.bytes) for buffer in self.params)

    @property
    def flash_bytes(self) -> int:
        """Constant data: frozen weights, and the initial values of the trained ones and of states."""
        return sum(aligned(b.bytes) for b in self.flash) + sum(aligned(b.bytes) for b in self.params if needs_image(b))

    def param_offsets(self) -> dict[str, int]:
        """Byte offset of each buffer in the params struct."""
        offsets, offset = {}, 0
        for buffer in self.params:
            offsets[buffer.name] = offset
            offset += aligned(buffer.bytes)
        return offsets


def aligned(bytes: int) -> int:
    """Rounded up to the arena's alignment."""
    return -(-bytes // ALIGNMENT) * ALIGNMENT


def needs_image(buffer: Buffer) -> bool:
    """Whether a params buffer has an initial value in flash: states that start at zero do not."""
    return buffer.data is not None and any(buffer.data.tobytes())
