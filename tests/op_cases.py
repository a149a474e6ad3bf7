"""Random small ONNX models, one family for each importable op: the op between a layer that is trained and a loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

Draw = st.DrawFn


@dataclass
class Case:
    """An ONNX model under construction: one current tensor, nodes are appended to it."""

    shape: tuple[int, ...]
    seed: int
    opset: int = 17
    nodes: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)
    current: str = "x"

    def weight(self, *shape: int, low: float | None = None) -> str:
        """A random initializer; positive when `low` is given."""
        from onnx import numpy_helper

        generator = np.random.default_rng(self.seed + len(self.initializers))
        value = generator.standard_normal(shape) * 0.5 if low is None else generator.random(shape) + low
        name = f"w{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def array(self, value: Any, dtype: Any = np.int64) -> str:
        """An initializer with given values."""
        from onnx import numpy_helper

        name = f"w{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Appends a node whose output becomes the current tensor."""
        from onnx import helper

        output = f"t{len(self.nodes)}"
        attributes = {k: v for k, v in attributes.items() if v is not None}
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=f"{op}_{len(self.nodes)}", **attributes))
        self.current = output
        return output

    def dense(self, features: int, outputs: int = 3) -> None:
        """A trained layer over the flattened current tensor."""
        flat = self.node("Flatten", self.current)
        self.node("Gemm", flat, self.weight(features, outputs), self.weight(outputs))

    def model(self) -> Any:
        """The ONNX model, shapes inferred, ended by a layer of three outputs."""
        from onnx import TensorProto, helper, shape_inference

        def made(outputs: list[Any]) -> Any:
            graph = helper.make_graph(
                self.nodes, "case",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)], outputs, self.initializers,
            )
            return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", self.opset)])

        inferred = shape_inference.infer_shapes(
            made([helper.make_tensor_value_info(self.current, TensorProto.FLOAT, None)]), data_prop=True
        )
        dims = [d.dim_value for d in inferred.graph.output[0].type.tensor_type.shape.dim]
        self.dense(int(np.prod(dims[1:])))
        return made([helper.make_tensor_value_info(self.current, TensorProto.FLOAT, (dims[0], 3))])


def _image(draw: Draw, channels: int | None = None, size: int = 7) -> Case:
    """A case that starts with a trained 1x1 convolution, so that the op under test has a data gradient."""
    n, c = draw(st.integers(1, 2)), channels or draw(st.sampled_from([1, 2, 3, 5, 8]))
    h, w = draw(st.integers(3, size)), draw(st.integers(3, size))
    case = Case((n, c, h, w), draw(st.integers(0, 1000)))
    case.node("Conv", "x", case.weight(c, c, 1, 1), case.weight(c))
    return case


def _vector(draw: Draw) -> Case:
    n, k = draw(st.integers(1, 3)), draw(st.integers(1, 9))
    case = Case((n, k), draw(st.integers(0, 1000)))
    case.node("Gemm", "x", case.weight(k, k), case.weight(k))
    return case


def _either(draw: Draw) -> Case:
    return _image(draw) if draw(st.booleans()) else _vector(draw)


def _channels(case: Case) -> int:
    return case.shape[1]


def _unary(op: str, **ranges: st.SearchStrategy[Any]) -> Callable[[Draw], Case]:
    def build(draw: Draw) -> Case:
        case = _either(draw)
        case.node(op, case.current, **{name: draw(values) for name, values in ranges.items()})
        return case

    return build


def _newer(opset: int, build: Callable[[Draw], Case]) -> Callable[[Draw], Case]:
    """The same in a later opset: where an op first appears."""

    def built(draw: Draw) -> Case:
        case = build(draw)
        case.opset = opset
        return case

    return built


def _binary(op: str) -> Callable[[Draw], Case]:
    def build(draw: Draw) -> Case:
        case = _either(draw)
        kind = draw(st.sampled_from(["scalar", "channel", "full", "itself", "computed"]))
        rest = (1,) * (len(case.shape) - 2)
        low = 0.5 if op == "Div" else None
        first = case.current
        if kind == "itself":
            second = first
        elif kind == "computed":
            second = case.node("Sigmoid", first)
        else:
            shapes = {"scalar": (), "channel": (_channels(case), *rest), "full": case.shape[1:]}
            second = case.weight(*shapes[kind], low=low)
        pair = [first, second] if draw(st.booleans()) else [second, first]
        if op == "Div" and pair[1] == first:  # keep away from division by almost nothing
            pair = [first, second] if second != first else [first, case.array(2.0, np.float32)]
        case.node(op, *pair)
        return case

    return build


def _window(draw: Draw, case: Case, dilate: bool = True) -> dict[str, Any]:
    """Kernel, strides, dilations and pads that leave at least one output."""
    rank = len(case.shape) - 2
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    dilations = [draw(st.integers(1, 2)) if dilate else 1 for _ in range(rank)]
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    for axis, (size, span) in enumerate(zip(case.shape[2:], spans, strict=True)):
        if span > size:
            kernel[axis], dilations[axis] = 1, 1
    pads = [draw(st.integers(0, k - 1)) for k in kernel + kernel]
    strides = [draw(st.integers(1, 3)) for _ in range(rank)]
    found: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    if any(d > 1 for d in dilations):
        found["dilations"] = dilations
    if draw(st.integers(0, 3)) == 0:
        del found["pads"]
        found["auto_pad"] = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))
        found.pop("dilations", None)
    return found


def _conv(draw: Draw) -> Case:
    if draw(st.integers(0, 3)) == 0:  # 1-D
        n, c, w = draw(st.integers(1, 2)), draw(st.sampled_from([1, 2, 4])), draw(st.integers(3, 9))
        case = Case((n, c, w), draw(st.integers(0, 1000)))
        case.node("Conv", "x", case.weight(c, c, 1), case.weight(c))
    else:
        case = _image(draw)
    c = _channels(case)
    group = draw(st.sampled_from([g for g in (1, 2, c) if c % g == 0]))
    out = group * draw(st.sampled_from([1, 2, 3, 17 if group == 1 else 1]))
    window = _window(draw, case)
    weight = case.weight(out, c // group, *window["kernel_shape"])
    bias = [case.weight(out)] if draw(st.booleans()) else []
    case.node("Conv", case.current, weight, *bias, group=group, **window)
    return case


def _gemm(draw: Draw) -> Case:
    case = _vector(draw)
    k, n = case.shape[1], draw(st.sampled_from([1, 3, 10, 16, 21]))
    trans = draw(st.integers(0, 1))
    weight = case.weight(*((n, k) if trans else (k, n)))
    bias = draw(st.sampled_from([None, (n,), (1, n), (1,)]))
    attributes = {"alpha": 0.5, "beta": 2.0} if draw(st.booleans()) else {}
    case.node("Gemm", case.current, weight, *([case.weight(*bias)] if bias else []), transB=trans, **attributes)
    return case


def _matmul(draw: Draw) -> Case:
    n, m, k = draw(st.integers(1, 2)), draw(st.integers(1, 4)), draw(st.integers(1, 5))
    case = Case((n, m, k), draw(st.integers(0, 1000)))
    case.node("MatMul", "x", case.weight(k, k))
    if draw(st.booleans()):
        turned = case.node("Transpose", case.current, perm=[0, 2, 1])
        case.node("MatMul", turned, "t0")
    return case


def _pool(op: str) -> Callable[[Draw], Case]:
    def build(draw: Draw) -> Case:
        case = _image(draw)
        window = _window(draw, case, dilate=op == "MaxPool")
        if "pads" in window and draw(st.booleans()):
            window["ceil_mode"] = 1
        if op == "AveragePool":
            window["count_include_pad"] = draw(st.integers(0, 1))
        case.node(op, case.current, **window)
        return case

    return build


def _pooled(op: str) -> Callable[[Draw], Case]:
    def build(draw: Draw) -> Case:
        case = _image(draw)
        case.node(op, case.current)
        return case

    return build


def _batch_normalization(draw: Draw) -> Case:
    case = _image(draw)
    c = _channels(case)
    names = [case.weight(c), case.weight(c), case.weight(c), case.weight(c, low=0.5)]
    case.node("BatchNormalization", case.current, *names, epsilon=1e-3)
    return case


def _prelu(draw: Draw) -> Case:
    case = _image(draw)
    shape = draw(st.sampled_from([(_channels(case), 1, 1), (1,)]))
    case.node("PRelu", case.current, case.weight(*shape))
    return case


def _clip(draw: Draw) -> Case:
    case = _either(draw)
    bounds = draw(st.sampled_from([("", "high"), ("low", ""), ("low", "high")]))
    values = {"low": -0.3, "high": 0.8}
    case.node("Clip", case.current, *(case.array(values[b], np.float32) if b else "" for b in bounds))
    return case


def _softmax(op: str) -> Callable[[Draw], Case]:
    def build(draw: Draw) -> Case:
        case = _either(draw)
        case.node(op, case.current, axis=draw(st.integers(1, len(case.shape) - 1)))
        return case

    return build


def _reduce_mean(draw: Draw) -> Case:
    case = _image(draw)
    axes = draw(st.sampled_from([[2, 3], [3], [1], [1, 2, 3], [-1]]))
    case.node("ReduceMean", case.current, axes=axes, keepdims=1)
    return case


def _flatten(draw: Draw) -> Case:
    case = _image(draw)
    case.node("Flatten", case.current)
    return case


def _reshape(draw: Draw) -> Case:
    case = _image(draw)
    n, c, h, w = case.shape
    case.node("Reshape", case.current, case.array(draw(st.sampled_from([[n, -1], [0, c, h * w], [n, c * h, w]]))))
    return case


def _squeeze(draw: Draw) -> Case:
    case = _image(draw)
    case.node("ReduceMean", case.current, axes=[2], keepdims=1)
    case.node("Squeeze", case.current, case.array([2]))
    return case


def _unsqueeze(draw: Draw) -> Case:
    case = _either(draw)
    case.node("Unsqueeze", case.current, case.array([draw(st.integers(1, len(case.shape)))]))
    return case


def _transpose(draw: Draw) -> Case:
    case = _image(draw)
    order = draw(st.permutations([1, 2, 3]))
    case.node("Transpose", case.current, perm=[0, *order])
    case.node("Relu", case.current)
    return case


def _depth_to_space(draw: Draw) -> Case:
    block = draw(st.integers(1, 3))
    case = _image(draw, channels=block**2 * draw(st.integers(1, 2)), size=4)
    case.node("DepthToSpace", case.current, blocksize=block, mode=draw(st.sampled_from([None, "DCR", "CRD"])))
    if draw(st.booleans()):
        case.node("MaxPool", case.current, kernel_shape=[2, 2])
    return case


def _space_to_depth(draw: Draw) -> Case:
    block = draw(st.integers(1, 3))
    case = _image(draw, channels=draw(st.integers(1, 3)), size=4)
    h, w = case.shape[2:]
    case.node("Slice", case.current, case.array([0, 0]), case.array([h // block * block, w // block * block]),
              case.array([2, 3]))
    mode = draw(st.sampled_from([None, "DCR", "CRD"]))
    if mode:
        case.opset = 28
    case.node("SpaceToDepth", case.current, blocksize=block, mode=mode)
    return case


def _concat(draw: Draw) -> Case:
    case = _image(draw)
    first = case.current
    second = case.node("Relu", first)
    case.node("Concat", *draw(st.permutations([first, second])), axis=draw(st.integers(1, 3)))
    return case


def _pad(draw: Draw) -> Case:
    case = _image(draw)
    mode = draw(st.sampled_from([None, "edge", "reflect", "wrap"]))
    least = 0 if mode else -1  # runtimes disagree on what is reflected where something is taken away
    pads = [0, 0, *(draw(st.integers(0, 2)) for _ in range(2)), 0, 0, *(draw(st.integers(least, 2)) for _ in range(2))]
    if mode == "wrap":
        case.opset = 19
    case.node("Pad", case.current, case.array(pads), *([] if mode else [case.array(0.25, np.float32)]), mode=mode)
    return case


def _slice(draw: Draw) -> Case:
    case = _image(draw)
    case.node("Slice", case.current, case.array([1, 0]), case.array([3, -1]), case.array([2, 3]))
    return case


def _identity(op: str) -> Callable[[Draw], Case]:
    def build(draw: Draw) -> Case:
        case = _either(draw)
        case.node(op, case.current, **({"to": 1} if op == "Cast" else {}))
        return case

    return build


def _dropout(draw: Draw) -> Case:
    case = _either(draw)
    case.node("Dropout", case.current, case.array(draw(st.sampled_from([0.0, 0.3, 0.5])), np.float32))
    return case


def _constant(draw: Draw) -> Case:
    from onnx import numpy_helper

    case = _either(draw)
    first = case.current
    value = numpy_helper.from_array(np.asarray(1.5, np.float32))
    second = case.node("Constant", value=value)
    case.node("Mul", first, second)
    return case


_UNIT = st.floats(0.05, 0.9).map(lambda v: float(np.float32(v)))

CASES: dict[str, Callable[[Draw], Case]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    **{op: _binary(op) for op in ("Add", "Sub", "Mul", "Div")},
    **{op: _unary(op) for op in ("Relu", "HardSwish", "Sigmoid", "Tanh", "Neg", "Erf")},
    "Gelu": _newer(20, _unary("Gelu", approximate=st.sampled_from(["none", "tanh"]))),
    "Swish": _newer(24, _unary("Swish", alpha=_UNIT)),
    "LeakyRelu": _unary("LeakyRelu", alpha=_UNIT),
    "HardSigmoid": _unary("HardSigmoid", alpha=_UNIT, beta=_UNIT),
    "PRelu": _prelu,
    "Clip": _clip,
    "Softmax": _softmax("Softmax"),
    "LogSoftmax": _softmax("LogSoftmax"),
    "MaxPool": _pool("MaxPool"),
    "AveragePool": _pool("AveragePool"),
    **{op: _pooled(op) for op in ("GlobalAveragePool", "GlobalMaxPool")},
    "BatchNormalization": _batch_normalization,
    "ReduceMean": _reduce_mean,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Concat": _concat,
    "Pad": _pad,
    "Slice": _slice,
    "Dropout": _dropout,
    "Identity": _identity("Identity"),
    "Cast": _identity("Cast"),
    "Constant": _constant,
}


@st.composite
def models(draw: Draw, op: str) -> Any:
    """A random ONNX model around one op."""
    return CASES[op](draw).model()
