"""What pooling ops share: windows that slide over one or two spatial axes of a channels-last tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from toolkit.ir import Array, TensorType
from toolkit.ops.base import UnsupportedError, require
from toolkit.ops.contexts import Import

AXES = ("height", "width")


@dataclass(frozen=True)
class Tap:
    """One position of the window, wherever it falls inside the image.

    Attributes:
        index: row-major position in the window.
        output: slices [N, OH, OW, C] of the outputs that have this tap inside the image.
        input: slices [N, H, W, C] of the elements that they see through it, in the same order.
    """

    index: int
    output: tuple[slice, ...]
    input: tuple[slice, ...]


@dataclass(frozen=True)
class Window:
    """A sliding window. One entry per spatial axis (one or two) in every field.

    Attributes:
        kernel: taps.
        strides, dilations: steps between windows, and between taps.
        before, after: padding at both ends.
        ceil_mode: whether a last window may begin inside the image or its leading padding and end beyond the padding.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    ceil_mode: bool = False

    @property
    def taps(self) -> int:
        """Taps of a whole window."""
        count = 1
        for kernel in self.kernel:
            count *= kernel
        return count

    def planar(self) -> Window:
        """The same window over two axes: a single axis becomes the width of images of height one."""
        if len(self.kernel) == 2:
            return self
        return Window(
            (1, *self.kernel), (1, *self.strides), (1, *self.dilations),
            (0, *self.before), (0, *self.after), self.ceil_mode,
        )  # fmt: skip

    def output_sizes(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """How many windows fit along each axis of an image. Raises ShapeError where there is none."""
        outputs = []
        for axis, size in enumerate(sizes):
            stride, before = self.strides[axis], self.before[axis]
            room = size + before + self.after[axis] - (self.kernel[axis] - 1) * self.dilations[axis] - 1
            count = (-(-room // stride) if self.ceil_mode else room // stride) + 1
            if self.ceil_mode and (count - 1) * stride >= size + before:
                count -= 1  # a window that would begin in the trailing padding is dropped, as PyTorch does
            require(room >= 0 and count > 0, f"a window of {self.kernel[axis]} does not fit into {size} elements")
            outputs.append(count)
        return tuple(outputs)

    def infer(self, x: TensorType) -> TensorType:
        """Type of the output for a channels-last input."""
        require(x.dtype == "float32", f"float32 is needed, not {x}")
        require(len(x.shape) == len(self.kernel) + 2, f"a window of {len(self.kernel)} axes cannot slide over {x}")
        return TensorType((x.shape[0], *self.output_sizes(x.shape[1:-1]), x.shape[-1]))

    def require_image_in_every_window(self, sizes: Sequence[int]) -> None:
        """Raises ShapeError where a window sees nothing but padding."""
        for axis, (size, outputs) in enumerate(zip(sizes, self.output_sizes(sizes), strict=True)):
            for output in range(outputs):
                start = output * self.strides[axis] - self.before[axis]
                seen = any(0 <= start + k * self.dilations[axis] < size for k in range(self.kernel[axis]))
                require(seen, f"window {output} along spatial axis {axis} sees nothing but padding")

    def each_tap(self, sizes: Sequence[int], reverse: bool = False) -> Iterator[Tap]:
        """The taps of a planar window in row-major order, or in the opposite one.

        Seen from one element of the image, taps in reverse order meet the windows that contain it in ascending order.
        """
        rows, columns = (self._axis(axis, size) for axis, size in enumerate(sizes))
        taps = [
            Tap(
                kh * self.kernel[1] + kw,
                (slice(None), out_rows, out_columns, slice(None)),
                (slice(None), in_rows, in_columns, slice(None)),
            )
            for kh, (out_rows, in_rows) in enumerate(rows)
            for kw, (out_columns, in_columns) in enumerate(columns)
        ]
        yield from reversed(taps) if reverse else taps

    def _axis(self, axis: int, size: int) -> list[tuple[slice, slice]]:
        """For each tap along one axis, the outputs that have it inside, and the elements that they see."""
        outputs = self.output_sizes_of_axis(axis, size)
        stride, ranges = self.strides[axis], []
        for k in range(self.kernel[axis]):
            shift = k * self.dilations[axis] - self.before[axis]  # input = output * stride + shift
            first = max(0, -(shift // stride)) if shift < 0 else 0
            end = max(first, min(outputs, (size - 1 - shift) // stride + 1))
            start = first * stride + shift
            ranges.append((slice(first, end), slice(start, start + (end - first - 1) * stride + 1, stride)))
            if end == first:
                ranges[-1] = (slice(0, 0), slice(0, 0))
        return ranges

    def output_sizes_of_axis(self, axis: int, size: int) -> int:
        """How many windows fit along one axis."""
        window = Window(
            (self.kernel[axis],), (self.strides[axis],), (self.dilations[axis],),
            (self.before[axis],), (self.after[axis],), self.ceil_mode,
        )
        return window.output_sizes((size,))[0]


def planar(x: Array) -> Array:
    """[N, spatial..., C] as [N, H, W, C]."""
    return x if x.ndim == 4 else x.reshape(x.shape[0], 1, *x.shape[1:])


def planar_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of `planar`."""
    return tuple(shape) if len(shape) == 4 else (shape[0], 1, *shape[1:])


def pool_fields(
    window: Window, x: Sequence[int], y: Sequence[int], count_include_pad: bool = False
) -> dict[str, int]:
    """The fields of et_pool_shape, in order, for input and output shapes."""
    window, (batch, height, width, channels), outputs = window.planar(), planar_shape(x), planar_shape(y)
    fields = {"batch": batch, "height": height, "width": width, "channels": channels}
    fields.update({"out_height": outputs[1], "out_width": outputs[2]})
    for name, pair in (("kernel", window.kernel), ("stride", window.strides), ("dilation", window.dilations)):
        fields.update({f"{name}_{axis}": value for axis, value in zip(AXES, pair, strict=True)})
    fields.update({"pad_top": window.before[0], "pad_left": window.before[1]})
    fields.update({"pad_bottom": window.after[0], "pad_right": window.after[1]})
    return {**fields, "count_include_pad": int(count_include_pad)}


def window_from_onnx(node: Import) -> Window:
    """Reads kernel_shape, strides, dilations, pads, auto_pad and ceil_mode of an ONNX pooling node."""
    sizes = node.shape(0)[2:]
    if len(sizes) not in (1, 2):
        raise UnsupportedError(f"pooling over {len(sizes)} spatial axes; one and two are supported")
    kernel = tuple(int(k) for k in node.attribute("kernel_shape"))
    ones = (1,) * len(sizes)
    strides = tuple(int(s) for s in node.attribute("strides") or ones)
    dilations = tuple(int(d) for d in node.attribute("dilations") or ones)
    if not len(kernel) == len(strides) == len(dilations) == len(sizes):
        raise UnsupportedError(f"kernel_shape, strides and dilations need {len(sizes)} entries each")
    auto_pad = node.attribute("auto_pad", "NOTSET") or "NOTSET"
    ceil_mode = bool(node.attribute("ceil_mode", 0))
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)
        ]
        less, more = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
        before, after = (less, more) if auto_pad == "SAME_UPPER" else (more, less)
        ceil_mode = False
    elif auto_pad in ("NOTSET", "VALID"):
        pads = tuple(int(p) for p in node.attribute("pads") or ()) if auto_pad == "NOTSET" else ()
        pads = pads or (0,) * (2 * len(sizes))
        if len(pads) != 2 * len(sizes) or min(pads) < 0:
            raise UnsupportedError(f"pads {list(pads)}: {2 * len(sizes)} entries, none negative, are needed")
        before, after = pads[: len(sizes)], pads[len(sizes) :]
    else:
        raise UnsupportedError(f"auto_pad {auto_pad} is unknown")
    return Window(kernel, strides, dilations, before, after, ceil_mode)
