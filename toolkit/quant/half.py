"""fp16, bf16: layers on numbers of 16 bits, forward and backward (numerics N6; Nadalini et al., arXiv 2305.19167).

    inputs, outputs, arriving gradients and weight gradients   rounded to the format, to the nearest
    sums                    accumulate=float32, or native: binary16 throughout, with Zfh by the core's instructions
    weights                 master=float32 (default): rounded as the layer reads them. master=stored: kept in the
                            format, plain SGD with stochastic rounding, since rounding to the nearest loses most steps
    loss_scale              what gradients are multiplied by before they are rounded, and divided by after: 128 for
                            fp16, 1 for bf16; a power of two. dynamic (fp16): `start`, 32768; halved where a gradient is
                            not finite, and that whole step is dropped; doubled after `grow` good steps, 2000

Biases, batch normalization, activations and the loss compute in float32. What lies between forward and backward pass is
kept in 16 bits where a layer reads it. With native sums and a fixed scale, ReLU, max pools, batch normalization, sums
and means over pixels between layers compute in binary16 as well, and gradients stay in it until a weight is updated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import frexp
from typing import Any

from toolkit.errors import UserError
from toolkit.ir import Graph, Node
from toolkit.numerics.stored import StoredFormat
from toolkit.ops.add import Add
from toolkit.ops.base import Op
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.conv import Conv
from toolkit.ops.dense import Dense
from toolkit.ops.fold_batch_norm import fold_batch_normalization
from toolkit.ops.half_codes import FromHalf, ToHalf
from toolkit.ops.half_layer import HalfLayer
from toolkit.ops.max_pool import MaxPool
from toolkit.ops.native_maps import NativeRelu
from toolkit.ops.native_pool import pools_natively
from toolkit.ops.relu import Relu
from toolkit.quant.fixed import store_parameter
from toolkit.quant.method import WHERE, Context, Method, method, parse_options, rebuild
from toolkit.quant.native import native_op
from toolkit.train.stored_rule import HalfRule, StoredRule

_CHOICES = {"accumulate": ("float32", "native"), "master": ("float32", "stored")}
_LOSS_SCALE = {"fp16": "128", "bf16": "1"}


@method("fp16", "bf16")
@dataclass(frozen=True)
class Half(Method):
    """binary16 or bfloat16.

    Attributes:
        format: fp16 or bf16; from the keyword.
        accumulate: the type of the sums: float32, or native, which is binary16.
        master: how weights that train are kept: float32, or stored in the format.
        loss_scale: multiplies gradients while they are in the format, or "dynamic".
        start, grow: of a dynamic scale: its first value, and after how many good steps it doubles.
    """

    format: str = "fp16"
    accumulate: str = "float32"
    master: str = "float32"
    loss_scale: str = "128"
    start: float = 32768.0
    grow: int = 2000
    all: bool = False

    keyword = "fp16"
    summary = "binary16 (fp16) or bfloat16 (bf16), forward and backward"

    @classmethod
    def parse(cls, options: Sequence[str]) -> Method:
        format = "bf16" if "bf16" in options else "fp16"
        given: dict[str, Any] = parse_options(cls, [option for option in options if option not in _LOSS_SCALE])
        if "format" in given:
            raise UserError("the format is the name of the method", where=WHERE, hint="fp16 or bf16")
        for option, choices in _CHOICES.items():
            if given.get(option, choices[0]) not in choices:
                what = f"there is no {option} '{given[option]}'"
                raise UserError(what, where=f"{WHERE} {format}", hint=f"one of {', '.join(choices)}")
        if format == "bf16" and given.get("accumulate") == "native":
            raise UserError("sums of bfloat16 are not supported", where=f"{WHERE} bf16", hint="fp16:accumulate=native")
        given.setdefault("loss_scale", _LOSS_SCALE[format])
        self = cls(format, **given)
        where = f"{WHERE} {format}"
        if self.dynamic and format == "bf16":
            raise UserError("bf16 has the range of float32: its loss scale is not dynamic", where=where, hint="fp16")
        if not self.dynamic and {"start", "grow"}.intersection(given):
            raise UserError("start and grow go with a dynamic loss scale", where=where, hint="loss_scale=dynamic")
        if not 1 <= self.scale <= 65536 or frexp(self.scale)[0] != 0.5:
            what = f"a loss scale of {self.scale:g} is out of range"
            raise UserError(what, where=where, hint="a power of two from 1 to 65536, or dynamic")
        if not 1 <= self.grow <= 1 << 20:
            raise UserError(f"a scale cannot grow after {self.grow} steps", where=where, hint="1 to 1048576")
        return self

    @property
    def dynamic(self) -> bool:
        """Whether the scale adapts itself."""
        return self.loss_scale == "dynamic"

    @property
    def scale(self) -> float:
        """What gradients are multiplied by, at first if it is dynamic."""
        if self.dynamic:
            return self.start
        try:
            return float(self.loss_scale)
        except ValueError:
            what = f"'{self.loss_scale}' is no loss scale"
            hint = "a power of two from 1 to 65536, or dynamic"
            raise UserError(what, where=f"{WHERE} {self.format}", hint=hint) from None

    def rewrite(self, graph: Graph, layers: frozenset[str], context: Context) -> Graph:
        return _Rewriting(self, graph, layers, context).run()


class _Rewriting:
    """One pass over a graph."""

    def __init__(self, method: Half, graph: Graph, layers: frozenset[str], context: Context) -> None:
        self.method, self.graph, self.layers, self.context = method, graph, layers, context
        self.rounded: dict[str, str] = {}  # float32 tensor -> the same in the format
        self.unread: set[str] = set()  # of those, what is there in the format alone
        self.pooled: dict[str, Node] = {}  # output of a ReLU that comes after its pool -> the ReLU
        self.scale = method.scale if method.accumulate == "native" and not method.dynamic else 0.0

    def run(self) -> Graph:
        """The graph with its layers quantized."""
        graph = self.graph
        if self.scale:
            graph = self.graph = fold_batch_normalization(graph, frozenset(self.context.trained))
        return rebuild(graph, self._replace)

    def _replace(self, builder: GraphBuilder, node: Node) -> bool:
        if node.name in self.layers:
            self._layer(builder, node)
        elif not self._between(builder, node):
            for x in node.inputs:
                self._real(builder, x)
            return False
        for y in node.outputs:
            if y in self.graph.outputs:
                self._real(builder, y)
        return True

    def _real(self, builder: GraphBuilder, x: str | None) -> None:
        """Makes the float32 of what is there in the format alone."""
        if x in self.unread:
            self.unread.discard(x)
            name = f"{self.rounded[x]}.values"
            builder.apply(FromHalf(self.method.format, self.scale), self.rounded[x], name=name, outputs=(x,))

    def _keep(self, builder: GraphBuilder, y: str, op: Op, *inputs: str | None, name: str) -> None:
        """Adds an op whose output stands for a float32 tensor."""
        self.rounded[y] = builder.apply(op, *inputs, name=name)[0]
        self.unread.add(y)

    def _between(self, builder: GraphBuilder, node: Node) -> bool:
        """Where sums are native, what lies between layers stays in the format, if there is an op for it."""
        x = node.inputs[0] or ""
        if not self.scale or x not in self.rounded or len(node.outputs) != 1:
            return False
        (y,) = node.outputs
        first = self.pooled.get(x)
        if isinstance(node.op, Relu) and self._is_pooled(node):
            self.pooled[y], self.rounded[y] = node, self.rounded[x]
            return True
        op = native_op(node, self.graph.type(x), self.scale)
        others = node.inputs[1:]
        if isinstance(node.op, Add):
            if others[0] not in self.rounded:
                return False
            others = (self.rounded[others[0]],)
        if op is None:
            return False
        if first is None:
            self._keep(builder, y, op, self.rounded[x], *others, name=node.name)
        else:
            best = builder.apply(op, self.rounded[x], name=node.name)
            self._keep(builder, y, NativeRelu(), *best, name=first.name)
        return True

    def _is_pooled(self, node: Node) -> bool:
        """Whether a ReLU may as well come after the max pool that alone reads it: fewer numbers then."""
        readers = self.graph.readers(node.outputs[0])
        alone = len(readers) == 1 and node.outputs[0] not in self.graph.outputs
        return alone and isinstance(readers[0].op, MaxPool) and pools_natively(readers[0].op.window)

    def _layer(self, builder: GraphBuilder, node: Node) -> None:
        assert isinstance(node.op, Conv | Dense)
        format = self.method.format
        x = node.inputs[0]
        assert x is not None
        if x not in self.rounded:
            self.rounded[x] = builder.apply(ToHalf(format, scale=self.scale or 1), x, name=f"{node.name}.round")[0]
        native, scale = self.method.accumulate == "native", self.method.scale
        if self.method.dynamic:
            layer = HalfLayer(node.op, format, native, start=scale, growth=self.method.grow)
        else:
            layer = HalfLayer(node.op, format, native, scale)
        inputs = (self.rounded[x], self._weights(builder, node), *node.inputs[2:])
        if self.scale:
            self._keep(builder, node.outputs[0], layer, *inputs, name=node.name)
            return
        y = builder.apply(layer, *inputs, name=node.name)[0]
        builder.apply(FromHalf(format), y, name=f"{node.name}.values", outputs=node.outputs)

    def _weights(self, builder: GraphBuilder, node: Node) -> str:
        """What the layer reads: the float32 master, the stored master, or the codes of frozen weights."""
        name, w = node.name, node.inputs[1]
        assert w is not None
        alone = len(self.graph.readers(w)) == 1
        if w not in self.context.trained:
            return builder.apply(ToHalf(self.method.format), w, name=f"{name}.weights")[0]
        if self.method.master == "stored" and alone and builder.data[w].dtype == "float32":
            format = StoredFormat(self.method.format)
            native = self.method.accumulate == "native"
            store_parameter(builder, w, HalfRule(format, lines=True) if native else StoredRule(format))
        return w
