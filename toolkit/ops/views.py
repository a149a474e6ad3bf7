"""How a tensor of the ONNX model lies in a tensor of the Graph, as arithmetic on shapes: no nodes, no data.

The elements of an ONNX tensor, in its own row-major order, form a box of `factors`; the Graph stores that box with its
axes in another `order`. A pure axis order (channels-last) is one case of it; a channels-last image that was flattened
is another, and both stay free of any copy for as long as the readers can live with the stored order. Transposing and
reshaping only change the description. Axes of size one carry no information and are left out of the factors.

Ops that move no data are read from ONNX as such a change of description: see `Op.seen_as`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

Shape = tuple[int, ...]
Order = tuple[int, ...]


@dataclass(frozen=True)
class View:
    """An ONNX tensor and where it is.

    Attributes:
        tensor: name in the Graph.
        shape: the ONNX shape.
        factors: sizes (none is 1) whose product is the number of elements, outermost first, as ONNX has them.
        order: the elements of `tensor`, row-major, are `onnx.reshape(factors).transpose(order)`.
        axes: the axis order in which `tensor` has exactly these axes, where that is known.
        maker: the last ONNX node that only changed the view; nodes that make it physical are named after it. The import
            puts it in, ops leave it alone.
    """

    tensor: str
    shape: Shape
    factors: Shape
    order: Order
    axes: Order | None = None
    maker: str | None = None

    @property
    def rank(self) -> int:
        """Number of axes in ONNX."""
        return len(self.shape)

    def same_elements(self, other: View) -> bool:
        """Whether both lie alike, element for element."""
        return (self.shape, self.factors, self.order) == (other.shape, other.factors, other.order)


class OpaqueOrder(Order):
    """The order of a tensor that is in no axis order; an elementwise op hands it on to `emit` without looking.

    Attributes:
        view: of the tensor that the op read.
    """

    view: View

    @classmethod
    def of(cls, view: View) -> OpaqueOrder:
        """Opaque order of a view."""
        order = cls(range(view.rank))
        order.view = view
        return order


def ordered(tensor: str, shape: Sequence[int], axes: Sequence[int]) -> View:
    """A tensor of ONNX shape `shape` that is stored with its axes in the order `axes`."""
    ids = {axis: number for number, axis in enumerate(axis for axis, size in enumerate(shape) if size != 1)}
    factors = tuple(size for size in shape if size != 1)
    order = tuple(ids[axis] for axis in axes if shape[axis] != 1)
    return _normal(View(tensor, tuple(shape), factors, order, tuple(axes)))


def plain(tensor: str, shape: Sequence[int]) -> View:
    """A tensor that is stored as ONNX has it."""
    return ordered(tensor, shape, range(len(shape)))


def channels_last(rank: int) -> Order:
    """N, spatial..., C."""
    return (0, *range(2, rank), 1) if rank > 2 else tuple(range(rank))


def widened(view: View, rank: int) -> View:
    """The view with leading axes of size one, as broadcasting adds them."""
    extra = rank - view.rank
    axes = None if view.axes is None else (*range(extra), *(axis + extra for axis in view.axes))
    return replace(view, shape=(1,) * extra + view.shape, axes=axes) if extra else view


def transposed(view: View, permutation: Sequence[int]) -> View:
    """The view of `onnx.transpose(permutation)`."""
    sizes, stored, groups = pieces(view)
    sequence = [piece for axis in permutation for piece in groups[axis]]
    position = {piece: index for index, piece in enumerate(sequence)}
    return _normal(
        View(
            view.tensor,
            tuple(view.shape[axis] for axis in permutation),
            tuple(sizes[piece] for piece in sequence),
            tuple(position[piece] for piece in stored),
            None if view.axes is None else tuple(list(permutation).index(axis) for axis in view.axes),
            view.maker,
        )
    )


def reshaped(view: View, shape: Sequence[int]) -> View | None:
    """The view of `onnx.reshape(shape)`; None where it needs the elements in the order of ONNX first."""
    axes = view.axes if tuple(shape) == view.shape else None
    result = replace(view, shape=tuple(shape), axes=axes)
    return result if _split(view.factors, shape) is not None else None


def pieces(view: View) -> tuple[list[int], list[int], list[list[int]]]:
    """The factors cut so fine that each belongs to one ONNX axis.

    Returns:
        Sizes of the pieces as ONNX has them; piece numbers as stored; piece numbers of each ONNX axis.
    """
    parts = _split(view.factors, view.shape)
    assert parts is not None, view
    of_factor, groups, sizes = parts
    return sizes, [piece for factor in view.order for piece in of_factor[factor]], groups


def matches(view: View, axes: Sequence[int]) -> bool:
    """Whether the elements already lie in this axis order."""
    _, stored, groups = pieces(view)
    return stored == [piece for axis in axes for piece in groups[axis]]


def axis_order(view: View, stored_shape: Shape) -> Order | None:
    """The axis order in which the tensor is stored, None where it is in none.

    Axes of size one may stand anywhere: they are put where `stored_shape`, the tensor's own, has ones.
    """
    if view.axes is not None:
        return view.axes
    for candidate in (tuple(range(view.rank)), channels_last(view.rank)):
        if matches(view, candidate) and tuple(view.shape[axis] for axis in candidate) == stored_shape:
            return candidate
    _, stored, groups = pieces(view)
    owner = {piece: axis for axis, group in enumerate(groups) for piece in group}
    long = list(dict.fromkeys(owner[piece] for piece in stored))
    unit = [axis for axis, size in enumerate(view.shape) if size == 1]
    if stored != [piece for axis in long for piece in groups[axis]]:
        return None
    if [size for size in stored_shape if size != 1] == [view.shape[axis] for axis in long] and (
        len(stored_shape) == view.rank
    ):
        return tuple(unit.pop(0) if size == 1 else long.pop(0) for size in stored_shape)
    for candidate in (tuple(range(view.rank)), channels_last(view.rank)):
        if matches(view, candidate):
            return candidate
    return (*unit, *long)


def last_axis_permutation(view: View) -> tuple[list[int], list[int]] | None:
    """Where all but the last axis lie as in ONNX, how the elements of the last one are shuffled.

    Returns:
        (sizes, order): stored last axis = onnx.reshape(..., *sizes) with these axes transposed by order; None where the
        other axes are shuffled too, or nothing is.
    """
    if not view.rank:
        return None
    sizes, stored, groups = pieces(view)
    front = [piece for group in groups[:-1] for piece in group]
    last = groups[-1]
    if stored[: len(front)] != front or stored[len(front) :] == last:
        return None
    return [sizes[piece] for piece in last], [last.index(piece) for piece in stored[len(front) :]]


def physical_transpose(view: View, axes: Sequence[int]) -> tuple[Shape, Order]:
    """The one transposition that brings the elements into an axis order.

    Returns:
        Shape to see the stored tensor in, of the least rank, and the permutation of its axes.
    """
    sizes, stored, groups = pieces(view)
    wanted = [piece for axis in axes for piece in groups[axis]]
    runs: list[list[int]] = []
    follower = dict(pairwise(wanted))
    for piece in stored:
        if runs and follower.get(runs[-1][-1]) == piece:
            runs[-1].append(piece)
        else:
            runs.append([piece])
    heads = [run[0] for run in runs]
    order = tuple(heads.index(piece) for piece in wanted if piece in heads)
    return tuple(prod(sizes[piece] for piece in run) for run in runs), order


def _split(factors: Shape, shape: Sequence[int]) -> tuple[list[list[int]], list[list[int]], list[int]] | None:
    """The common refinement of two boxes over the same elements: pieces of each factor, of each axis, their sizes."""
    of_factor: list[list[int]] = [[] for _ in factors]
    of_axis: list[list[int]] = [[] for _ in shape]
    sizes: list[int] = []
    left = list(factors)
    right = list(shape)
    i = j = 0
    while True:
        while i < len(left) and left[i] == 1:
            i += 1
        while j < len(right) and right[j] == 1:
            j += 1
        if i == len(left) or j == len(right):
            return (of_factor, of_axis, sizes) if i == len(left) and j == len(right) else None
        small = min(left[i], right[j])
        if left[i] % small or right[j] % small:
            return None
        of_factor[i].append(len(sizes))
        of_axis[j].append(len(sizes))
        sizes.append(small)
        left[i] //= small
        right[j] //= small


def _normal(view: View) -> View:
    """Factors that stay together in both orders are one factor: views that lie alike compare equal."""
    runs: list[list[int]] = []
    for factor in view.order:
        if runs and runs[-1][-1] + 1 == factor:
            runs[-1].append(factor)
        else:
            runs.append([factor])
    heads = sorted(run[0] for run in runs)
    size = {run[0]: prod(view.factors[factor] for factor in run) for run in runs}
    return replace(
        view,
        factors=tuple(size[head] for head in heads),
        order=tuple(heads.index(run[0]) for run in runs),
    )
