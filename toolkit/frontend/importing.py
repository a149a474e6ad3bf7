"""The Import of toolkit/ops/contexts.py: an ONNX node as an op's `from_onnx` sees it, and the Graph it is added to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import UserError
from toolkit.frontend.folding import Known
from toolkit.frontend.modelfile import attributes
from toolkit.ir import Array, Interface, Origin, TensorType
from toolkit.ops import views
from toolkit.ops.base import Op, UnsupportedError
from toolkit.ops.builder import GraphBuilder
from toolkit.ops.reshape import Reshape
from toolkit.ops.transpose import Transpose
from toolkit.ops.views import OpaqueOrder, View

if TYPE_CHECKING:
    from onnx import NodeProto

Value = View | Known


class Importer:
    """The Graph under construction, and where each ONNX tensor is in it.

    Attributes:
        values: by ONNX name; a name that is missing here comes out of a node that could not be imported.
        outputs_of_makers: node name -> ONNX output of the nodes that only change views.
    """

    def __init__(self, name: str, opset: int, used: Collection[str]) -> None:
        self.builder = GraphBuilder(name)
        self.opset = opset
        self.used = used
        self.values: dict[str, Value] = {}
        self.outputs_of_makers: dict[str, str] = {}
        self._arranged: dict[tuple[View, views.Order], str] = {}
        self._known: dict[tuple[object, ...], str] = {}
        self._onnx_names: dict[str, str] = {}

    def add_input(self, name: str, shape: tuple[int, ...], axes: Sequence[int]) -> None:
        """A graph input, stored with its axes in the given order."""
        self.builder.input(name, TensorType(tuple(shape[axis] for axis in axes)))
        self.builder.interface[name] = Interface(name, shape, tuple(axes))
        self.values[name] = views.ordered(name, shape, axes)

    def add_output(self, name: str) -> None:
        """A graph output, in the order in which it is stored if that is an order of its axes."""
        value = self.values[name]
        if isinstance(value, Known):
            tensor, axes = self.constant_of(value, value.value, None), tuple(range(value.value.ndim))
            shape = value.value.shape
        else:
            shape = value.shape
            axes = views.axis_order(value, self.builder.type(value.tensor).shape) or tuple(range(value.rank))
            tensor = self.arrange(value, axes, name)
        if tensor in self.builder.outputs or not any(tensor in node.outputs for node in self.builder.nodes):
            # An output is a tensor of its own, even where the model hands an input or a constant through.
            (tensor,) = self.builder.apply(Reshape(self.builder.type(tensor).shape), tensor, name=f"{name}.copy")
        self.builder.outputs.append(tensor)
        self.builder.interface[tensor] = Interface(name, shape, axes)
        self._onnx_names[tensor] = name

    def arrange(self, view: View, axes: Sequence[int], reader: str) -> str:
        """The tensor of a view with its axes in the given order; a Transpose is added where it is stored otherwise."""
        axes = tuple(axes)
        key = (view, axes)
        if key not in self._arranged:
            self._arranged[key] = self._arrange(view, axes, view.maker or f"{reader}.input")
        return self._arranged[key]

    def _arrange(self, view: View, axes: views.Order, maker: str) -> str:
        shape = tuple(view.shape[axis] for axis in axes)
        if views.matches(view, axes):
            return self._reshape(view.tensor, shape, maker, view)
        tensor = view.tensor
        if view.axes is not None and self.builder.type(tensor).shape == tuple(view.shape[axis] for axis in view.axes):
            permutation = tuple(view.axes.index(axis) for axis in axes)
        else:
            seen, permutation = views.physical_transpose(view, axes)
            tensor = self._reshape(tensor, seen, f"{maker}.source")
        (tensor,) = self.builder.apply(Transpose(permutation), tensor, name=maker)
        if self.builder.type(tensor).shape == shape:
            self._name_after_maker(tensor, view)
        return self._reshape(tensor, shape, f"{maker}.shape", view)

    def _reshape(self, tensor: str, shape: tuple[int, ...], name: str, view: View | None = None) -> str:
        if self.builder.type(tensor).shape == shape:
            return tensor
        (tensor,) = self.builder.apply(Reshape(shape), tensor, name=name)
        if view is not None:
            self._name_after_maker(tensor, view)
        return tensor

    def _name_after_maker(self, tensor: str, view: View) -> None:
        if view.maker in self.outputs_of_makers:
            self.name_tensor(tensor, self.outputs_of_makers[view.maker])

    def constant_of(self, known: Known, value: Array, key: object) -> str:
        """A constant made of a known tensor; the same one for the same key."""
        found = (known.name, "constant", key, _digest(known.rows))
        if found not in self._known:
            self._known[found] = self.builder.constant(known.name, _float32(known, value))
        return self._known[found]

    def parameter_of(self, known: Known, permutation: Sequence[int], shape: Sequence[int]) -> str:
        """A parameter made of a known tensor; the same one for the same transformation."""
        found = (known.name, tuple(permutation), tuple(shape), _digest(known.rows))
        if found not in self._known:
            value = _float32(known, known.value)
            if not np.isfinite(value).all():
                position = np.unravel_index(int(np.argmin(np.isfinite(value))), value.shape)
                raise UserError(
                    f"the weights hold {value[position]} at {[int(i) for i in position]}",
                    where=known.name,
                    hint="the training that made them has diverged; export the model from an earlier checkpoint",
                )
            index = known.index.transpose(permutation).reshape(shape)
            self._known[found] = self.builder.parameter(
                self.builder.unique_tensor(known.name),
                value.transpose(permutation).reshape(shape),
                Origin(known.name, tuple(known.value.shape), index),
            )
        return self._known[found]

    def name_tensor(self, tensor: str, onnx_name: str) -> None:
        """Asks that a computed tensor be called as in ONNX."""
        self._onnx_names.setdefault(tensor, onnx_name)

    def names(self) -> Mapping[str, str]:
        """New names of computed tensors."""
        return self._onnx_names


class NodeImport:
    """One ONNX node; implements the protocol `Import`, where every method is explained."""

    def __init__(self, importer: Importer, node: NodeProto, name: str, op_class: type[Op]) -> None:
        self._importer = importer
        self._node = node
        self._name = name
        self._elementwise = op_class.elementwise
        self._broadcasts = op_class.broadcasts
        self._attributes = attributes(node)
        self._values = [importer.values.get(name) for name in node.input]
        self._applied = 0
        if op_class.contracts:
            self._absorb_shuffled_rows()

    def read_as(self, op_class: type[Op]) -> None:
        """Reads the node as this op: as another view of its input where it is one, by its `from_onnx` otherwise."""
        view = op_class.seen_as(self)
        if view is None:
            op_class.from_onnx(self)
        else:
            self._importer.values[self._node.output[0]] = replace(view, maker=self._name)
            self._importer.outputs_of_makers[self._name] = self._node.output[0]

    @property
    def op_type(self) -> str:
        return str(self._node.op_type)

    @property
    def name(self) -> str:
        return self._name

    @property
    def opset(self) -> int:
        return self._importer.opset

    @property
    def inputs(self) -> int:
        present = [index for index, name in enumerate(self._node.input) if name]
        return present[-1] + 1 if present else 0

    @property
    def outputs(self) -> int:
        present = [index for index, name in enumerate(self._node.output) if name]
        return present[-1] + 1 if present else 0

    def attribute(self, name: str, default: Any = None) -> Any:
        return self._attributes.get(name, default)

    def has(self, index: int) -> bool:
        return index < len(self._values) and bool(self._node.input[index])

    def shape(self, index: int) -> tuple[int, ...]:
        value = self._value(index)
        return value.shape if isinstance(value, View) else tuple(value.value.shape)

    def output_used(self, index: int) -> bool:
        return index < len(self._node.output) and self._node.output[index] in self._importer.used

    def is_constant(self, index: int) -> bool:
        return isinstance(self._value(index), Known)

    def value(self, index: int, what: str = "") -> Array:
        value = self._value(index)
        if isinstance(value, Known):
            return value.value
        raise UnsupportedError(f"{what or f'input {index}'} must be a constant, but it is computed")

    def view(self, index: int) -> View:
        value = self._value(index)
        return value if isinstance(value, View) else views.plain(self.plain(index), value.value.shape)

    def plain(self, index: int) -> str:
        return self._in_order(index, tuple(range(len(self.shape(index)))))

    def channels_last(self, index: int) -> str:
        return self._in_order(index, views.channels_last(len(self.shape(index))))

    def stored(self, index: int) -> tuple[str, tuple[int, ...]]:
        value = self._value(index)
        if isinstance(value, Known):
            return self.plain(index), tuple(range(value.value.ndim))
        tensor_shape = self._importer.builder.type(value.tensor).shape
        order = views.axis_order(value, tensor_shape)
        if order is not None and tuple(value.shape[axis] for axis in order) == tensor_shape:
            return value.tensor, order
        if self._elementwise:
            return value.tensor, OpaqueOrder.of(value)
        order = order or tuple(range(value.rank))
        return self._importer.arrange(value, order, self._name), order

    def common(self, *indices: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
        values = [self._value(index) for index in indices]
        rank = max(len(self.shape(index)) for index in indices)
        wide = [views.widened(value, rank) for value in values if isinstance(value, View)]
        order = self._cheapest_order(wide)
        if self._broadcasts and self._lie_alike(values, wide, order):
            tensors = tuple(
                value.tensor if isinstance(value, View) else self._known(value, (), ()) for value in values
            )
            return tensors, OpaqueOrder.of(wide[0])
        order = order or tuple(range(rank))
        return tuple(self._aligned(value, rank, order) for value in values), order

    def parameter(
        self, index: int, permutation: Sequence[int] | None = None, shape: Sequence[int] | None = None
    ) -> str:
        value = self._value(index)
        if not isinstance(value, Known):
            raise UnsupportedError(f"input {index} must be an initializer, but it is computed")
        permutation = tuple(range(value.value.ndim)) if permutation is None else tuple(permutation)
        if shape is None:
            shape = [value.value.shape[axis] for axis in permutation]
        return self._importer.parameter_of(value, permutation, shape)

    def constant(self, name: str, value: Array) -> str:
        return self._importer.builder.constant(f"{self._name}.{name}", np.asarray(value))

    def apply(self, op: Op, *inputs: str | None) -> tuple[str, ...]:
        name = self._name if not self._applied else f"{self._name}.{op.name.lower()}"
        self._applied += 1
        return self._importer.builder.apply(op, *inputs, name=name)

    def emit(self, output: int, tensor: str, order: Sequence[int] | None = None) -> str:
        shape = self._importer.builder.type(tensor).shape
        if isinstance(order, OpaqueOrder):
            self._emit(output, _moved(order.view, tensor))
        else:
            order = tuple(range(len(shape))) if order is None else tuple(order)
            onnx_shape = tuple(shape[order.index(axis)] for axis in range(len(shape)))
            self._emit(output, views.ordered(tensor, onnx_shape, order))
        return tensor

    def emit_channels_last(self, output: int, tensor: str) -> str:
        return self.emit(output, tensor, views.channels_last(len(self._importer.builder.type(tensor).shape)))

    def _emit(self, output: int, view: View) -> None:
        if output < len(self._node.output) and self._node.output[output]:
            name = self._node.output[output]
            self._importer.values[name] = view
            inputs = [value.tensor for value in self._values if isinstance(value, View)]
            if self._applied and view.tensor not in inputs:
                self._importer.name_tensor(view.tensor, name)

    def _value(self, index: int) -> Value:
        value = self._values[index] if index < len(self._values) else None
        if value is None:
            raise UnsupportedError(f"input {index} is missing")
        return value

    def _in_order(self, index: int, axes: Sequence[int]) -> str:
        value = self._value(index)
        if isinstance(value, View):
            return self._importer.arrange(value, axes, self._name)
        return self._known(value, axes, [value.value.shape[axis] for axis in axes])

    def _known(self, known: Known, axes: Sequence[int], shape: Sequence[int]) -> str:
        """A parameter where it is a weight with axes, a constant where it is a scalar or was never an initializer."""
        axes = tuple(axes) or tuple(range(known.value.ndim))
        if known.weight and known.value.ndim and known.value.dtype == np.float32:
            return self._importer.parameter_of(known, axes, shape)
        value = known.value.transpose(axes).reshape(tuple(shape))
        return self._importer.constant_of(known, value, (axes, tuple(shape)))

    def _aligned(self, value: Value, rank: int, order: Sequence[int]) -> str:
        """An operand with leading ones up to `rank`, its axes in the given order; known ones drop the ones again."""
        if isinstance(value, View):
            return self._importer.arrange(views.widened(value, rank), order, self._name)
        extra = rank - value.value.ndim
        axes = [axis - extra for axis in order if axis >= extra]
        shape = [value.value.shape[axis - extra] if axis >= extra else 1 for axis in order]
        least = min(1, value.value.ndim)
        while self._broadcasts and len(shape) > least and shape[0] == 1:
            shape.pop(0)
        return self._known(value, axes, shape)

    def _lie_alike(self, values: Sequence[Value], wide: Sequence[View], order: views.Order | None) -> bool:
        """Whether an op may take all operands as they are: none in a known axis order, all in the same way."""
        shapes = {self._importer.builder.type(view.tensor).shape for view in wide}
        if len(shapes) != 1 or not all(view.same_elements(wide[0]) for view in wide):
            return False
        scalars = all(value.value.size == 1 for value in values if isinstance(value, Known))
        return scalars and (order is None or tuple(wide[0].shape[axis] for axis in order) not in shapes)

    def _cheapest_order(self, wide: Sequence[View]) -> views.Order | None:
        """The axis order in which the fewest elements have to be moved; the first operand's where that is equal."""
        best: views.Order | None = None
        least = -1
        for view in wide:
            order = views.axis_order(view, self._importer.builder.type(view.tensor).shape)
            if order is None:
                continue
            moved = sum(self._importer.builder.type(v.tensor).size for v in wide if not views.matches(v, order))
            if best is None or moved < least:
                best, least = order, moved
        return best

    def _absorb_shuffled_rows(self) -> None:
        """A product with a flattened channels-last image: the rows of the weight are shuffled, not the image."""
        image, weight = (*self._values, None, None)[:2]
        if not isinstance(image, View) or not isinstance(weight, Known) or weight.value.ndim != 2:
            return
        if self.attribute("transA", 0) or weight.value.dtype != np.float32:
            return
        shuffle = views.last_axis_permutation(image)
        axis = 1 if self.attribute("transB", 0) else 0
        if shuffle is None or weight.value.shape[axis] != image.shape[-1]:
            return
        sizes, order = shuffle
        self._values[0] = _relabelled(image)
        self._values[1] = weight.with_permuted_rows(sizes, order, axis)


def _relabelled(view: View) -> View:
    """The tensor as if ONNX had it in the order in which it is stored."""
    label = views.plain(view.tensor, view.shape)
    return View(label.tensor, label.shape, label.factors, label.order, None, view.maker)


def _moved(view: View, tensor: str) -> View:
    """Another tensor that lies as this one does."""
    return View(tensor, view.shape, view.factors, view.order, view.axes, None)


def _float32(known: Known, value: Array) -> Array:
    if value.dtype != np.float32:
        raise UnsupportedError(f"{known.name} is {value.dtype}; only float32 is supported")
    return value


def _digest(rows: Array | None) -> bytes | None:
    return None if rows is None else rows.tobytes()
