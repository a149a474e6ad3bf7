"""What a quantization method is, and how a text like `dorefa:w1a2g6,all` becomes one.

A method is one file of this folder: a frozen dataclass whose fields are its options, registered with @method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, ClassVar, TypeVar

from toolkit.errors import UserError
from toolkit.ir import Array, Graph, Node
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.conv import Conv
from toolkit.ops.dense import Dense

WHERE = "--quant"


@dataclass
class Context:
    """What a method may know besides the graph, and what it tells the rest of the pipeline.

    Attributes:
        trained: parameters that training changes. A method adds the parameters that it introduces to trained layers.
        samples: gives inputs of the model, [N, ...] in the layout of the graph's input, for calibration; None where
            the user gave none.
        fma: whether multiply-adds round once, for a method that runs the reference.
        saved: parameters without a place in the ONNX model that an earlier training with a method left in the file, by
            name. A method that introduces a parameter of such a name starts from the value.
    """

    trained: set[str] = field(default_factory=set)
    samples: Callable[[], Array] | None = None
    fma: bool = True
    saved: Mapping[str, Array] = field(default_factory=dict)


class Method(ABC):
    """Base of the methods.

    Attributes:
        keyword: how the command line names it.
        summary: one line for people.
        keeps_ends: whether the first and the last layer stay as they are, unless the option `all` is given.
        all: quantize the first and the last layer too.
    """

    keyword: ClassVar[str]
    summary: ClassVar[str]
    keeps_ends: ClassVar[bool] = False

    all: bool = False  # each subclass declares it as a field

    @property
    def leaves_ends(self) -> bool:
        """Whether the first and the last layer are none of its business."""
        return self.keeps_ends and not self.all

    @property
    def of_frozen(self) -> bool:
        """Whether it leaves alone all that is trained."""
        return False

    @classmethod
    def parse(cls, options: Sequence[str]) -> Method:
        """The method with options as given: `name=value`, `name` for a flag, or whatever a method reads itself.

        Raises:
            UserError: an option is unknown, or its value is not understood.
        """
        return cls(**parse_options(cls, options))

    @abstractmethod
    def rewrite(self, graph: Graph, layers: frozenset[str], context: Context) -> Graph:
        """The graph with these layers quantized.

        Args:
            layers: names of Conv and Dense nodes.

        Raises:
            UserError: a layer cannot be quantized this way.
        """


def parse_options(cls: type[Any], options: Sequence[str]) -> dict[str, Any]:
    """Options of a dataclass by field name: booleans as flags, numbers and words as name=value.

    Raises:
        UserError: unknown name or value.
    """
    known = {f.name: f for f in fields(cls)}
    found: dict[str, Any] = {}
    for text in options:
        name, equals, value = text.partition("=")
        name = name.replace("-", "_")
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
            raise UserError(f"{cls.keyword} has no option '{text}'", where=WHERE, hint=hint)
        default = known[name].default
        if isinstance(default, bool) != (not equals):
            needs = f"{name} is a flag" if isinstance(default, bool) else f"{name} needs a value"
            raise UserError(needs, where=f"{WHERE} {cls.keyword}:{text}")
        try:
            found[name] = True if not equals else _convert(value, default)
        except ValueError:
            raise UserError(f"'{value}' is not understood", where=f"{WHERE} {cls.keyword}:{text}") from None
    return found


def _convert(value: str, default: Any) -> Any:
    """The text as the type of the default."""
    return type(default)(value)


_MethodClass = TypeVar("_MethodClass", bound=type[Method])
_METHODS: dict[str, type[Method]] = {}


def method(*keywords: str) -> Callable[[_MethodClass], _MethodClass]:
    """Registers a method under its keyword, or under several where one file serves them all."""

    def register(cls: _MethodClass) -> _MethodClass:
        for keyword in keywords or (cls.keyword,):
            _METHODS[keyword] = cls
        return cls

    return register


def methods() -> Mapping[str, type[Method]]:
    """Every method by keyword. Imports every file of this folder once."""
    import toolkit.quant

    for module in iter_modules(toolkit.quant.__path__):
        import_module(f"toolkit.quant.{module.name}")
    return dict(sorted(_METHODS.items()))


def is_layer(node: Node) -> bool:
    """Whether a node is something that methods quantize: a convolution or a dense layer."""
    return isinstance(node.op, Conv | Dense)


def rebuild(graph: Graph, replace: Callable[[GraphBuilder, Node], bool]) -> Graph:
    """A graph made anew, node by node.

    Args:
        replace: adds nodes in place of a node and gives True (they must write the node's outputs: pass
            `outputs=node.outputs` to the last `apply`), or gives False to keep the node as it is.
    """
    builder = GraphBuilder(graph.name)
    builder.declare_from(graph)
    for node in graph.nodes:
        if not replace(builder, node):
            builder.apply(node.op, *node.inputs, name=node.name, outputs=node.outputs, after=node.after)  # type: ignore[arg-type]
    builder.outputs = list(graph.outputs)
    return builder.finish().without_dead_nodes()
