"""Geometry of convolutions and dense layers: sizes, border segments, and the order of packed weights.

What the kernels et_conv, et_depthwise and et_dense need to know before they run, worked out when compiling.
Integers only: no op, no graph, no generated code. The C structs: runtime_c/et_conv_shape.h and runtime_c/et_dense.h.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

import numpy as np
import numpy.typing as npt

PANEL = 16  # output channels that lie side by side in packed weights
AXIS_LIMIT = 32767  # the segment tables are int16

# One row of a table of et_segment: first, step, count, tap, tap_step, taps, source, source_step, source_tap_step.
Segment = tuple[int, int, int, int, int, int, int, int, int]
Fields = dict[str, "int | tuple[Segment, ...]"]


@dataclass(frozen=True)
class ConvGeometry:
    """Sizes of a 2-D convolution; a 1-D one has height and kernel_h 1, and no pads in that axis.

    Raises:
        ValueError: for a size that is not positive, a negative pad, groups that do not divide, or an empty output.
    """

    batch: int
    height: int
    width: int
    channels: int
    out_channels: int
    kernel_h: int
    kernel_w: int
    stride_h: int = 1
    stride_w: int = 1
    dilation_h: int = 1
    dilation_w: int = 1
    pad_top: int = 0
    pad_left: int = 0
    pad_bottom: int = 0
    pad_right: int = 0
    groups: int = 1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < (0 if name.startswith("pad_") else 1):
                raise ValueError(f"{name} is {value}")
        if self.channels % self.groups or self.out_channels % self.groups:
            raise ValueError(f"{self.groups} groups do not divide {self.channels} into {self.out_channels} channels")
        if self.out_height < 1 or self.out_width < 1:
            raise ValueError(f"the output would be {self.out_height} x {self.out_width}")
        padded_height = self.height + self.pad_top + self.pad_bottom
        padded_width = self.width + self.pad_left + self.pad_right
        if max(padded_height, padded_width) > AXIS_LIMIT:
            raise ValueError(f"{padded_height} x {padded_width} with pads; an axis has at most {AXIS_LIMIT}")

    @property
    def out_height(self) -> int:
        """Rows of the output."""
        reach = self.dilation_h * (self.kernel_h - 1) + 1
        return (self.height + self.pad_top + self.pad_bottom - reach) // self.stride_h + 1

    @property
    def out_width(self) -> int:
        """Columns of the output."""
        reach = self.dilation_w * (self.kernel_w - 1) + 1
        return (self.width + self.pad_left + self.pad_right - reach) // self.stride_w + 1

    @property
    def depthwise(self) -> bool:
        """Whether et_depthwise runs it: one filter per channel, weights [kernel_h][kernel_w][channels]."""
        return self.groups == self.channels == self.out_channels and self.groups > 1

    def macs(self) -> int:
        """Multiply-accumulates of the forward pass: taps on padding are not counted, the kernels skip them."""
        rows = sum(count * taps for _, _, count, _, _, taps, *_ in self.rows())
        columns = sum(count * taps for _, _, count, _, _, taps, *_ in self.columns())
        return self.batch * rows * columns * (self.channels // self.groups) * self.out_channels

    def rows(self) -> tuple[Segment, ...]:
        """Segments of the output's rows, forward."""
        return forward_segments(
            self.height, self.out_height, self.kernel_h, self.stride_h, self.dilation_h, self.pad_top
        )

    def columns(self) -> tuple[Segment, ...]:
        """Segments of the output's columns, forward."""
        return forward_segments(
            self.width, self.out_width, self.kernel_w, self.stride_w, self.dilation_w, self.pad_left
        )

    def grad_rows(self) -> tuple[Segment, ...]:
        """Segments of the input's rows, for its gradient."""
        return backward_segments(
            self.height, self.out_height, self.kernel_h, self.stride_h, self.dilation_h, self.pad_top
        )

    def grad_columns(self) -> tuple[Segment, ...]:
        """Segments of the input's columns, for its gradient."""
        return backward_segments(
            self.width, self.out_width, self.kernel_w, self.stride_w, self.dilation_w, self.pad_left
        )


def forward_segments(
    size: int, out_size: int, kernel: int, stride: int, dilation: int, pad: int
) -> tuple[Segment, ...]:
    """Runs of outputs along one axis that meet the same taps; output o meets input o * stride - pad + k * dilation."""
    outputs = []
    for output in range(out_size):
        start = output * stride - pad
        taps = [k for k in range(kernel) if 0 <= start + k * dilation < size]
        outputs.append((output, taps, start + taps[0] * dilation if taps else 0))
    return tuple(_merge(outputs, step=1, tap_step=1, source_step=stride, source_tap_step=dilation))


def backward_segments(
    size: int, out_size: int, kernel: int, stride: int, dilation: int, pad: int
) -> tuple[Segment, ...]:
    """Runs of inputs along one axis that meet the same taps, one phase of the stride after the other.

    Input i meets output (i + pad - k * dilation) / stride where that is whole and inside. Along a phase (inputs a
    stride apart) the same taps meet consecutive outputs; such taps lie stride / gcd(stride, dilation) apart.
    """
    tap_step = stride // gcd(stride, dilation)
    segments: list[Segment] = []
    for phase in range(min(stride, size)):
        inputs = []
        for i in range(phase, size, stride):
            reached = {k: divmod(i + pad - k * dilation, stride) for k in range(kernel)}
            taps = [k for k, (output, rest) in reached.items() if rest == 0 and 0 <= output < out_size]
            inputs.append((i, taps, reached[taps[0]][0] if taps else 0))
        segments += _merge(inputs, stride, tap_step, source_step=1, source_tap_step=-(tap_step * dilation // stride))
    return tuple(segments)


def _merge(
    results: list[tuple[int, list[int], int]], step: int, tap_step: int, source_step: int, source_tap_step: int
) -> Iterator[Segment]:
    """Joins neighbours with equal taps; `results` are (index, its taps, source index under the first tap)."""
    start = 0
    for end in range(1, len(results) + 1):
        if end < len(results) and results[end][1] == results[start][1]:
            continue
        first, taps, source = results[start]
        tap = taps[0] if taps else 0
        yield first, step, end - start, tap, tap_step, len(taps), source, source_step, source_tap_step
        start = end


def conv_shape_fields(geometry: ConvGeometry, forward: bool = True, backward: bool = True) -> Fields:
    """Fields of `et_conv_shape`, in the order of the C struct, to be emitted with designated initialisers.

    Args:
        forward: with the tables that et_conv_f32 and et_depthwise_f32 need.
        backward: with the tables that et_conv_grad_input_f32 and et_depthwise_grad_input_f32 need.

    Returns:
        int: `.name = value`. Tuple of segments: `.name` points to a `static const et_segment []` of these rows; its
        count is the int field `row_count` for `rows` and so on. What is left out stays zero in C, which the kernels
        accept for tables they do not use: the gradients of weights use none.
    """
    fields: Fields = {
        "batch": geometry.batch,
        "height": geometry.height,
        "width": geometry.width,
        "channels": geometry.channels,
        "out_height": geometry.out_height,
        "out_width": geometry.out_width,
        "out_channels": geometry.out_channels,
        "kernel_h": geometry.kernel_h,
        "kernel_w": geometry.kernel_w,
        "stride_h": geometry.stride_h,
        "stride_w": geometry.stride_w,
        "dilation_h": geometry.dilation_h,
        "dilation_w": geometry.dilation_w,
        "pad_top": geometry.pad_top,
        "pad_left": geometry.pad_left,
        "groups": geometry.groups,
    }
    if forward:
        rows, columns = geometry.rows(), geometry.columns()
        fields |= {"row_count": len(rows), "column_count": len(columns), "rows": rows, "columns": columns}
    if backward:
        rows, columns = geometry.grad_rows(), geometry.grad_columns()
        fields |= {"grad_row_count": len(rows), "grad_column_count": len(columns)}
        fields |= {"grad_rows": rows, "grad_columns": columns}
    return fields


def dense_shape_fields(batch: int, inputs: int, outputs: int) -> dict[str, int]:
    """Fields of `et_dense_shape`, in the order of the C struct."""
    return {"batch": batch, "inputs": inputs, "outputs": outputs}


def matmul_shape_fields(
    batch: int,
    rows: int,
    inner: int,
    columns: int,
    transpose_a: bool = False,
    transpose_b: bool = False,
    share_a: bool = False,
    share_b: bool = False,
) -> dict[str, int]:
    """Fields of `et_matmul_shape`, in the order of the C struct.

    Args:
        batch: number of products, with matrices one after the other in memory.
        share_a, share_b: one matrix for the whole batch.
    """
    return {
        "batch": batch,
        "rows": rows,
        "inner": inner,
        "columns": columns,
        "a_step": 0 if share_a else rows * inner,
        "b_step": 0 if share_b else inner * columns,
        "transpose_a": int(transpose_a),
        "transpose_b": int(transpose_b),
    }


def pack_permutation(
    kernel_h: int, kernel_w: int, in_channels_per_group: int, out_channels: int, groups: int = 1
) -> npt.NDArray[np.int64]:
    """Order of packed weights: packed.flat[i] = canonical.flat[permutation[i]].

    Canonical is [kernel_h][kernel_w][in_channels_per_group][out_channels] (HWIO), output channels group by group.
    Packed is [groups][panel][kernel_h][kernel_w][in_channels_per_group][PANEL], the last panel of a group exactly as
    wide as what is left, so nothing is padded. A dense layer [inputs][outputs] is (1, 1, inputs, outputs).
    """
    if out_channels % groups:
        raise ValueError(f"{groups} groups do not divide {out_channels} channels")
    count = kernel_h * kernel_w * in_channels_per_group * out_channels
    canonical = np.arange(count, dtype=np.int64).reshape(-1, groups, out_channels // groups)
    panels = [
        canonical[:, group, start : start + PANEL].reshape(-1)
        for group in range(groups)
        for start in range(0, out_channels // groups, PANEL)
    ]
    return np.concatenate(panels)
