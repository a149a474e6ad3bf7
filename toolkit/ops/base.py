"""What an op is: shapes, NumPy semantics, gradient rule, lowering, and how it is read from ONNX. One file per op.

An op is a frozen dataclass; its fields are its attributes, so a node holds an instance and nothing looks ops up by name
except the import of ONNX files. Copy TEMPLATE.py to add one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from toolkit.ir import Array, GraphError, TensorType

if TYPE_CHECKING:
    from codegen.program import Zeros
    from toolkit.ops.contexts import Backward, Import, Lowering, Training
    from toolkit.ops.views import View

Types = TensorType | tuple[TensorType, ...]
Arrays = Array | tuple[Array, ...]


@dataclass(frozen=True)
class Run:
    """What the NumPy reference tells every op.

    Attributes:
        fma: whether the Program's multiply-add rounds once (numerics N1).
    """

    fma: bool = True


class StepAborted(Exception):
    """A check in the graph failed; the step ends here, and what was updated before stays so (numerics N8).

    Attributes:
        status: the et_status that the C returns.
        updated: the outputs of the op that ends the step, where it has them all the same; else none.
        seen: what had been computed until then, by tensor name.
    """

    def __init__(self, status: str, updated: tuple[Array, ...] = ()) -> None:
        super().__init__(status)
        self.status = status
        self.updated = updated
        self.seen: dict[str, Array] = {}


class Op:
    """Base of all ops. Subclasses are frozen dataclasses registered with @op.

    Class attributes:
        onnx: the ONNX op types that this op imports; empty for ops that only our own passes make.
        no_gradient: why there is no gradient rule, where there is none.
        elementwise: output element i depends on input elements i alone, so any memory order will do.
        broadcasts: operands may lack leading axes, and may lie in any order that is the same for all.
        contracts: the last axis of input 0 is summed over with an axis of a parameter, whose rows may be shuffled.
        smooth: the gradient may be tested by finite differences.
        bias_inputs: inputs that are biases, for the update scheme `bias`.
        statistics_inputs: inputs that are parameters of the model but never trained by a gradient.
        updates_row_major: what `fused_update` gives has the weight row-major, in any shape of as many elements.
    """

    onnx: ClassVar[tuple[str, ...]] = ()
    no_gradient: ClassVar[str | None] = None
    elementwise: ClassVar[bool] = False
    broadcasts: ClassVar[bool] = False
    contracts: ClassVar[bool] = False
    smooth: ClassVar[bool] = False
    bias_inputs: ClassVar[tuple[int, ...]] = ()
    statistics_inputs: ClassVar[tuple[int, ...]] = ()
    updates_row_major: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The op's name, for people."""
        return type(self).__name__

    def zeros(self) -> Zeros:
        """How many of its results are about 0, for estimates."""
        return ""

    def infer(self, *inputs: Any) -> Types:
        """Output types for input types (None for an absent optional input). Raises ShapeError where they do not fit."""
        raise GraphError(f"{self.name} has no shape rule")

    def reference(self, run: Run, *inputs: Any) -> Arrays:
        """The specification: output arrays for input arrays, bit for bit what the C computes."""
        raise GraphError(f"{self.name} has no reference")

    def gradient(self, back: Backward, *output_gradients: Any) -> Sequence[str | None]:
        """The rule of reverse-mode autodiff.

        Args:
            back: gives the node's tensors and `apply` to add nodes.
            output_gradients: name of the gradient tensor of each output; None where nothing flows back.

        Returns:
            One gradient per input, None where `back.needs(i)` is false or nothing flows. A gradient may keep the
            broadcast shape: sums over broadcast axes and over several readers are done by the caller.
        """
        raise GraphError(f"{self.name} has no gradient: {self.no_gradient}")

    def lower(self, to: Lowering) -> None:
        """Adds the kernel calls of one node to the Program."""
        raise GraphError(f"{self.name} has no lowering")

    def is_per_sample(self) -> bool:
        """Whether a sample of every output depends on the same sample of the inputs alone.

        The first axis of what has samples is the batch. `lower` for some of the samples then computes these, in the
        same bits, and a batch can be walked part by part (toolkit.walk).
        """
        return self.elementwise or self.broadcasts

    def adds_samples(self) -> bool:
        """Whether the op sums over samples in ascending order, and has `lower_part` to go on with sums."""
        return False

    def sample_outputs(self) -> tuple[int, ...]:
        """For an op that adds samples: the outputs that are no sums but have a sample for each of the inputs."""
        return ()

    def lower_part(self, to: Lowering) -> None:
        """For an op that adds samples: the kernel calls for one part of the batch, which go on with `to.kept` sums."""
        raise GraphError(f"{self.name} does not add samples part by part")

    def macs(self, *inputs: Any) -> int:
        """Multiply-accumulates of one application, padding taps counted; 0 for what has none."""
        return 0

    def for_training(self, training: Training) -> tuple[str, ...] | None:
        """Replaces the node in a training graph (batch statistics, dropout); None keeps it as it is."""
        return None

    def fused_update(self, update: Op) -> Op | None:
        """For an op that computes a weight's gradient: an op that computes it and applies it at once.

        Args:
            update: op of a node with the inputs (weight, gradient, others...) that updates the weight.

        Returns:
            An op with the inputs of this one, then the weight, then the others, and the output of `update`, in the same
            bits; None if there is none.
        """
        return None

    def fold_affine(
        self, weight: Array, bias: Array | None, scale: Array, shift: Array
    ) -> tuple[Array, Array] | None:
        """Weight and bias of an op that computes scale * (what this one computes) + shift, or None if there is none.

        For linear ops with inputs (x, weight, bias or none) whose output channel is the last axis of both. Computed in
        float64 and rounded once: weight * scale, and bias * scale + shift (shift alone without a bias).

        Args:
            weight, bias: float32, as the graph holds them.
            scale, shift: float64 [C].
        """
        return None

    @classmethod
    def seen_as(cls, node: Import) -> View | None:
        """The output of an ONNX node that moves no data, as another view of its input; None calls `from_onnx`.

        No node is added for it. Whoever reads the view decides whether the data must move after all.

        Raises:
            ShapeError, UnsupportedError: the ONNX node cannot be read.
        """
        return None

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        """Adds this op for an ONNX node and returns the tensor of each of its outputs."""
        raise GraphError(f"{cls.__name__} is not imported from ONNX")

    # The two below adapt single and several outputs; no op overrides them.
    def output_types(self, inputs: tuple[TensorType | None, ...]) -> tuple[TensorType, ...]:
        """`infer`, always as a tuple."""
        types = self.infer(*inputs)
        return types if isinstance(types, tuple) else (types,)

    def run(self, run: Run, *inputs: Array | None) -> tuple[Array, ...]:
        """`reference`, always as a tuple of contiguous arrays of the inferred types."""
        with np.errstate(all="ignore"):  # infinities and NaN are values like others here
            arrays = self.reference(run, *inputs)
        result = arrays if isinstance(arrays, tuple) else (arrays,)
        types = self.output_types(
            tuple(None if x is None else TensorType(tuple(np.shape(x)), str(np.asarray(x).dtype)) for x in inputs)
        )
        for array, expected in zip(result, types, strict=True):
            if array.shape != expected.shape or array.dtype != np.dtype(expected.dtype):
                raise GraphError(f"the reference of {self.name} gives {array.dtype}{list(array.shape)}, not {expected}")
        return tuple(np.ascontiguousarray(array).reshape(array.shape) for array in result)


class ViewOp(Op):
    """Base of ONNX ops that are nothing but another view of their input: all they have is `onnx` and `seen_as`."""

    no_gradient = "no node of it is ever made"


class ShapeError(ValueError):
    """The input types of an op do not fit together: the user's model is wrong."""


class UnsupportedError(ValueError):
    """An ONNX node uses something that is not supported; the message is the reason shown to the user."""


_OpClass = TypeVar("_OpClass", bound=type[Op])
_BY_ONNX_NAME: dict[str, type[Op]] = {}
_ALL: list[type[Op]] = []


def op(cls: _OpClass) -> _OpClass:
    """Registers an op class, and with it the ONNX op types that it imports."""
    _ALL.append(cls)
    for name in cls.onnx:
        if name in _BY_ONNX_NAME:
            raise GraphError(f"two ops import the ONNX op {name}")
        _BY_ONNX_NAME[name] = cls
    return cls


def ops_by_onnx_name() -> dict[str, type[Op]]:
    """The importable ops. Imports every op file once."""
    _load_all()
    return dict(_BY_ONNX_NAME)


def all_ops() -> tuple[type[Op], ...]:
    """Every op class, gradient ops too. Imports every op file once."""
    _load_all()
    return tuple(_ALL)


@cache
def _load_all() -> None:
    """Every file of this folder that is not an op file of its own registers nothing, so all of them may be imported."""
    from importlib import import_module
    from pkgutil import iter_modules

    import toolkit.ops

    for module in iter_modules(toolkit.ops.__path__):
        if module.name != "TEMPLATE":
            import_module(f"toolkit.ops.{module.name}")


def require(condition: bool, message: Callable[[], str] | str) -> None:
    """Raises ShapeError with the message unless the condition holds."""
    if not condition:
        raise ShapeError(message if isinstance(message, str) else message())
