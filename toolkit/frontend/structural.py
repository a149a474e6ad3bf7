"""ONNX ops that move no data: they change how a tensor is seen, and whoever reads it decides whether it must move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING

from toolkit.frontend import views
from toolkit.frontend.folding import Known
from toolkit.frontend.importing import Importer
from toolkit.frontend.modelfile import attributes, dtype_name
from toolkit.frontend.views import View
from toolkit.ops.base import ShapeError, UnsupportedError

if TYPE_CHECKING:
    from onnx import NodeProto

Shape = tuple[int, ...]


def import_structural(importer: Importer, node: NodeProto, name: str) -> bool:
    """Imports a node that only changes the view of its first input.

    Returns:
        False where the node is not of that kind, so that an op has to be found for it.

    Raises:
        ShapeError, UnsupportedError: as for any op.
    """
    source = importer.values[node.input[0]] if node.input and node.input[0] else None
    if node.op_type not in STRUCTURAL or not isinstance(source, View):
        return False
    view = STRUCTURAL[node.op_type](importer, node, source, name)
    if view is not None:
        importer.values[node.output[0]] = view
        importer.outputs_of_makers[name] = node.output[0]
    return view is not None


def _transpose(importer: Importer, node: NodeProto, source: View, name: str) -> View:
    permutation = attributes(node).get("perm", list(range(source.rank))[::-1])
    if sorted(permutation) != list(range(source.rank)):
        raise ShapeError(f"perm {list(permutation)} does not permute the {source.rank} axes of its input")
    return views.transposed(source, permutation, name)


def _reshape(importer: Importer, node: NodeProto, source: View, name: str) -> View:
    wanted = _integers(importer, node, 1, "the new shape")
    if wanted is None:
        raise ShapeError("the new shape is missing")
    if not attributes(node).get("allowzero", 0):
        if any(size == 0 and axis >= source.rank for axis, size in enumerate(wanted)):
            raise ShapeError(f"shape {wanted} keeps an axis that {list(source.shape)} does not have")
        wanted = [source.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    if wanted.count(-1) == 1:
        rest = -prod(wanted)
        wanted = [prod(source.shape) // rest if size == -1 and rest else size for size in wanted]
    return _with_shape(importer, source, tuple(wanted), name)


def _flatten(importer: Importer, node: NodeProto, source: View, name: str) -> View:
    axis = int(attributes(node).get("axis", 1))
    if not -source.rank <= axis <= source.rank:
        raise ShapeError(f"axis {axis} of an input of rank {source.rank}")
    # -1 is the last axis but rank itself is past it, so a plain modulo would not do.
    axis = axis + source.rank if axis < 0 else axis
    return _with_shape(importer, source, (prod(source.shape[:axis]), prod(source.shape[axis:])), name)


def _squeeze(importer: Importer, node: NodeProto, source: View, name: str) -> View:
    axes = _axes(importer, node, source.rank)
    if axes is None:
        axes = [axis for axis, size in enumerate(source.shape) if size == 1]
    if any(source.shape[axis] != 1 for axis in axes):
        raise ShapeError(f"axes {axes} of {list(source.shape)} are not all of size 1")
    return _with_shape(importer, source, tuple(n for axis, n in enumerate(source.shape) if axis not in axes), name)


def _unsqueeze(importer: Importer, node: NodeProto, source: View, name: str) -> View:
    given = attributes(node).get("axes") or _integers(importer, node, 1, "axes") or []
    axes = _axes(importer, node, source.rank + len(given)) or []
    shape = list(source.shape)
    for axis in sorted(axes):
        shape.insert(axis, 1)
    return _with_shape(importer, source, tuple(shape), name)


def _identity(importer: Importer, node: NodeProto, source: View, name: str) -> View:
    return views.reshaped(source, source.shape, name) or source


def _cast(importer: Importer, node: NodeProto, source: View, name: str) -> View | None:
    same = importer.builder.type(source.tensor).dtype == dtype_name(int(attributes(node).get("to", 0)))
    return _identity(importer, node, source, name) if same else None


STRUCTURAL: dict[str, Callable[[Importer, NodeProto, View, str], View | None]] = {
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Identity": _identity,
    "Cast": _cast,
}


def _with_shape(importer: Importer, source: View, shape: Shape, name: str) -> View:
    """The source in another shape; brought into the order of ONNX first where the shapes do not nest."""
    if any(size < 1 for size in shape) or prod(shape) != prod(source.shape):
        raise ShapeError(f"{prod(source.shape)} elements {list(source.shape)} do not fit shape {list(shape)}")
    view = views.reshaped(source, shape, name)
    if view is None:
        tensor = importer.arrange(source, tuple(range(source.rank)), name)
        view = views.reshaped(views.plain(tensor, source.shape), shape, name)
        assert view is not None
    return view


def _axes(importer: Importer, node: NodeProto, rank: int) -> list[int] | None:
    """Attribute (opset < 13) or input `axes`, counted from the front."""
    axes: Sequence[int] | None = attributes(node).get("axes")
    if axes is None:
        axes = _integers(importer, node, 1, "axes")
    if axes is None:
        return None
    if any(not -rank <= axis < rank for axis in axes):
        raise ShapeError(f"axes {list(axes)} of rank {rank}")
    return [int(axis) % rank for axis in axes]


def _integers(importer: Importer, node: NodeProto, index: int, what: str) -> list[int] | None:
    """A constant input as integers; None where it is absent."""
    if index >= len(node.input) or not node.input[index]:
        return None
    value = importer.values[node.input[index]]
    if not isinstance(value, Known):
        raise UnsupportedError(f"{what} depends on data")
    return [int(n) for n in value.value.reshape(-1)]
