"""FixedWideConv: the convolution of int8 or int16 mantissas with exact int64 sums; and its gradients.

For int16, and for what FixedConv does not take: groups, dilation, sums beyond int32.

What they compute is said in quantized_conv.py; here are their kernels, which take one scale for each tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from codegen.program import Argument
from toolkit.ops.base import Op, op
from toolkit.ops.contexts import Backward, Lowering
from toolkit.ops.conv import Convolution, Shape
from toolkit.ops.quantized_conv import QuantizedConv, QuantizedConvGradInput, QuantizedConvGradWeight


def _shape(to: Lowering, op: Convolution, x: Shape, w: Shape) -> Argument:
    """Of the kernels, for the shapes of x and w."""
    geometry = op.geometry(x, w)
    outputs = op.output_sizes(x[1:-1], w[:-2])
    out_height, out_width = outputs if len(outputs) == 2 else (1, outputs[0])
    return to.struct(
        "et_fixed_wide",
        {
            "batch": geometry.batch, "height": geometry.height, "width": geometry.width, "channels": x[-1],
            "out_height": out_height, "out_width": out_width, "out_channels": w[-1], "kernel_h": geometry.kernel_h,
            "kernel_w": geometry.kernel_w, "stride_h": geometry.stride_h, "stride_w": geometry.stride_w,
            "dilation_h": geometry.dilation_h, "dilation_w": geometry.dilation_w, "pad_top": geometry.pad_top,
            "pad_left": geometry.pad_left, "groups": op.groups,
        },
    )  # fmt: skip


def _suffix(to: Lowering) -> str:
    """Of the kernels, for the type of the mantissas."""
    return "i8" if to.input_type(0).dtype == "int8" else "i16"


def _as(cls: type[Any], node_op: Op) -> Op:
    """The same attributes in another class."""
    made = cls(**{field.name: getattr(node_op, field.name) for field in fields(node_op)})  # type: ignore[arg-type]
    assert isinstance(made, Op)
    return made


@op
@dataclass(frozen=True)
class FixedWideConv(QuantizedConv):
    """(x, w int8 or int16, x_scale [], w_scale [][, bias [OC]]) -> y float32, as QuantizedConv has it."""

    def gradient(self, back: Backward, dy: str | None) -> Sequence[str | None]:
        return super().gradient(_InWide(back), dy)

    def lower(self, to: Lowering) -> None:
        shape = _shape(to, self, to.input_type(0).shape, to.input_type(1).shape)
        to.call(f"et_fixed_wide_conv_{_suffix(to)}", shape, *(to.read(index) for index in range(5)), to.write(0))


class _InWide(Backward):
    """Adds the gradients of this file in place of those of quantized_conv.py."""

    def __init__(self, back: Backward) -> None:
        self.__dict__.update(back.__dict__)

    def apply(self, op: Op, *inputs: str | None) -> str:
        if isinstance(op, QuantizedConvGradInput):
            op = _as(FixedWideGradInput, op)
        elif isinstance(op, QuantizedConvGradWeight):
            op = _as(FixedWideGradWeight, op)
        return super().apply(op, *inputs)


@op
@dataclass(frozen=True)
class FixedWideGradInput(QuantizedConvGradInput):
    """(g, w int8 or int16, g_scale [], w_scale []) -> dx float32, as QuantizedConvGradInput has it."""

    def lower(self, to: Lowering) -> None:
        shape = _shape(to, self, to.output_type().shape, to.input_type(1).shape)
        to.call(f"et_fixed_wide_grad_input_{_suffix(to)}", shape, *(to.read(index) for index in range(4)), to.write(0))


@op
@dataclass(frozen=True)
class FixedWideGradWeight(QuantizedConvGradWeight):
    """(x, g int8 or int16, x_scale [], g_scale []) -> dw float32, as QuantizedConvGradWeight has it."""

    def lower(self, to: Lowering) -> None:
        shape = _shape(to, self, to.input_type(0).shape, to.output_type().shape)
        to.call(f"et_fixed_wide_grad_weight_{_suffix(to)}", shape, *(to.read(index) for index in range(4)), to.write(0))
