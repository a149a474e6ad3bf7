"""The four views of a node that an op's methods are given: Backward, Lowering, Training and Import.

Backward and Training are complete here. Lowering is implemented in toolkit/lower.py and Import in toolkit/frontend:
the protocols below are all that an op may know of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from codegen.forms import Form
from codegen.program import Argument, Layout, Table
from toolkit.ir import Array, Node, TensorType
from toolkit.ops.base import Op
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.views import View


class Backward:
    """A node as its gradient rule sees it."""

    def __init__(self, builder: GraphBuilder, node: Node, needed: Sequence[bool]) -> None:
        self._builder = builder
        self._needed = tuple(needed)
        self.node = node

    def needs(self, index: int) -> bool:
        """Whether anything wants the gradient of input `index`."""
        return self._needed[index]

    def input(self, index: int) -> str:
        """Tensor name of an input that is present."""
        name = self.node.inputs[index]
        assert name is not None
        return name

    def output(self, index: int = 0) -> str:
        """Tensor name of an output."""
        return self.node.outputs[index]

    def type(self, name: str) -> TensorType:
        """Type of any tensor."""
        return self._builder.type(name)

    def producer(self, name: str) -> Node:
        """The node that writes a computed tensor."""
        return next(node for node in reversed(self._builder.nodes) if name in node.outputs)

    def runtime(self, name: str, dtype: str = "float32") -> str:
        """A scalar that the caller may set at run time, such as seed and step."""
        return self._builder.runtime(name, dtype)

    def state(self, name: str, value: Array) -> str:
        """What the whole model keeps from step to step under this name, and its first value."""
        return name if name in self._builder.tensors else self._builder.state(name, value)

    def apply(self, op: Op, *inputs: str | None) -> str:
        """Adds a node and gives its first output."""
        return self._builder.apply(op, *inputs, name=f"{self.node.name}.{_kebab(op.name)}")[0]

    def apply_all(self, op: Op, *inputs: str | None) -> tuple[str, ...]:
        """Adds a node and gives all its outputs."""
        return self._builder.apply(op, *inputs, name=f"{self.node.name}.{_kebab(op.name)}")


class Training:
    """A node as it enters a training graph."""

    def __init__(self, builder: GraphBuilder, node: Node, trained: frozenset[str], options: Mapping[str, str]) -> None:
        self.builder = builder
        self.node = node
        self.trained = trained
        self.options = options

    def apply(self, op: Op, *inputs: str | None) -> tuple[str, ...]:
        """Adds a node in place of this one; its first outputs keep this node's names."""
        return self.builder.apply(op, *inputs, name=self.node.name, outputs=self.node.outputs)

    def is_trained_before(self) -> bool:
        """Whether a gradient will flow through the node: something trained comes before it."""
        reached = set(self.trained)
        for node in self.builder.nodes:
            if not reached.isdisjoint(name for name in node.inputs if name is not None):
                reached.update(node.outputs)
        return self.node.inputs[0] in reached

    def update(self, state: str, value: str) -> None:
        """`value` replaces the parameter or state at the end of a step whose loss is finite."""
        self.builder.updates[state] = value


class Lowering(Protocol):
    """A node as it becomes kernel calls."""

    @property
    def node(self) -> Node: ...

    def type(self, name: str) -> TensorType:
        """Type of any tensor."""

    @property
    def parts(self) -> int:
        """In how many parts of equal size the batch is walked: the types are those of one part. 1: all at once."""

    def has(self, index: int) -> bool:
        """Whether optional input `index` is present."""

    def input_type(self, index: int) -> TensorType:
        """Type of input `index`."""

    def output_type(self, index: int = 0) -> TensorType:
        """Type of output `index`."""

    def read(self, index: int, layout: Layout | None = None) -> Argument:
        """Input `index` as a pointer to const, in the given layout (row-major where None); NULL where absent."""

    def write(self, index: int = 0, layout: Layout | None = None, in_place: Sequence[int] = ()) -> Argument:
        """Output `index` as a pointer, in the given layout.

        Args:
            in_place: inputs whose memory the output may take, if they die here: the kernel allows exact overlap.
        """

    def layout(self, index: int) -> Layout | None:
        """The layout that input `index` is in already (elementwise kernels take it as it is)."""

    def scratch(self, elements: int, dtype: str = "uint8") -> Argument:
        """Memory of the arena for this call; bytes, unless another element type is asked for."""

    def kept(self, shape: tuple[int, ...], layout: Layout | None = None) -> Argument:
        """Float32 memory of the arena for sums, as a pointer: what it holds stays from part to part."""

    def keep(self, index: int = 0) -> None:
        """Says that output `index`, which has been written, is such memory."""

    def by_part(self, first: str, later: str) -> Argument:
        """A C expression for the first part, and one for all later ones."""

    def struct(self, type: str, fields: Mapping[str, int | float | Table], suffix: str = "shape") -> Argument:
        """A pointer to a `static const` struct named after the node."""

    def size(self, value: int) -> Argument:
        """A count, printed as a decimal integer."""

    def real(self, value: float) -> Argument:
        """A float32 constant, printed as a hexadecimal literal with its decimal value beside it."""

    def constant(self, value: Any, ctype: str) -> Argument:
        """Any other C expression, printed as it is (an enum constant, `true`)."""

    def ask_for(self, *forms: Form) -> None:
        """Forms of a kernel's inner loops that suit this node better than those that every model has."""

    def call(self, kernel: str, *arguments: Argument) -> None:
        """Adds a kernel call, arguments in the order of the C prototype."""

    def call_last(self, kernel: str, *arguments: Argument) -> None:
        """Adds a kernel call that is made in the last part alone."""

    def alias(self, output: int = 0, input: int = 0) -> None:
        """Output is the same bytes as the input, in the layout that these are in: no code."""


class Import(Protocol):
    """An ONNX node as an op's `from_onnx` and `seen_as` see it.

    A tensor of the graph may be stored in another axis order than ONNX has it (images are channels-last inside). The
    order is a permutation: stored = onnx.transpose(order).

    Ops that move no data (`seen_as`) leave no node: the import only changes its view of the tensor, and a Transpose or
    Reshape is added when a later op asks for an order that the tensor is not in. Gemm and MatMul read a flattened
    channels-last image as it lies; the rows of their weights, input 1, come out of `parameter` and `value` shuffled
    accordingly.

    Every computed tensor is float32; tensors of other types are known when compiling, or their model is refused.
    """

    @property
    def op_type(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def opset(self) -> int: ...

    @property
    def inputs(self) -> int:
        """How many inputs the ONNX node lists, trailing absent ones not counted."""

    @property
    def outputs(self) -> int: ...

    def attribute(self, name: str, default: Any = None) -> Any:
        """Attribute value as int, float, str, list or array; the default where absent."""

    def has(self, index: int) -> bool:
        """Whether optional input `index` is present."""

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape of input `index`, axes as ONNX has them."""

    def output_used(self, index: int) -> bool:
        """Whether anything reads output `index`."""

    def value(self, index: int, what: str = "") -> Array:
        """Input `index` as a compile-time array. Raises UnsupportedError, naming `what`, where it is not constant."""

    def view(self, index: int) -> View:
        """Input `index` and how it lies in its tensor: for `seen_as`."""

    def plain(self, index: int) -> str:
        """Input `index` in the axis order of ONNX (a Transpose is added where it is stored otherwise)."""

    def channels_last(self, index: int) -> str:
        """Input `index` stored N, spatial..., C (a Transpose is added where needed)."""

    def stored(self, index: int) -> tuple[str, tuple[int, ...]]:
        """Input `index` as it is stored, and its order: for ops that do not care.

        An op that is marked `elementwise` may get a tensor of another shape than ONNX has it, and an order that only
        `emit` understands: it hands both on.
        """

    def common(self, *indices: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Several inputs of an elementwise op in one order, constants and parameters permuted when compiling.

        Lower ranks are filled with leading ones first, as broadcasting has it. For ONNX ops that broadcast, constants
        and parameters lose leading ones again (a bias is [C]), and the order may be one that only `emit` understands.
        """

    def parameter(
        self, index: int, permutation: Sequence[int] | None = None, shape: Sequence[int] | None = None
    ) -> str:
        """Initializer `index` as a trainable parameter, transposed and then reshaped when compiling.

        Asking twice for the same gives the same parameter. Raises UnsupportedError where the input is computed.
        Through the other methods an initializer is a parameter too, except for scalars and what Constant nodes give.
        """

    def is_constant(self, index: int) -> bool:
        """Whether input `index` is an initializer or was folded to one."""

    def constant(self, name: str, value: Array) -> str:
        """A new compile-time constant."""

    def apply(self, op: Op, *inputs: str | None) -> tuple[str, ...]:
        """Adds a node; gives its output tensors."""

    def emit(self, output: int, tensor: str, order: Sequence[int] | None = None) -> str:
        """Says that ONNX output `output` is `tensor`, stored in `order` (None: as ONNX has it). Returns tensor."""

    def emit_channels_last(self, output: int, tensor: str) -> str:
        """`emit` for a tensor stored N, spatial..., C."""


def _kebab(name: str) -> str:
    """ConvGradWeight -> conv_grad_weight."""
    return "".join("_" + c.lower() if c.isupper() and i else c.lower() for i, c in enumerate(name))
