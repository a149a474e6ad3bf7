"""TakeChannels: some channels of a tensor, y[..., i] = x[..., channels[i]]."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from toolkit.ir import Array, TensorType
from toolkit.ops.base import Op, Run, op, require
from toolkit.ops.channel_runs import positions, runs_struct
from toolkit.ops.contexts import Lowering


@op
@dataclass(frozen=True)
class TakeChannels(Op):
    """x [..., C] -> y [..., len(channels)]; float32.

    Attributes:
        channels: ascending, each below C.
    """

    channels: tuple[int, ...]

    no_gradient = "it is only used on gradients"

    def infer(self, x: TensorType) -> TensorType:
        require_channels(x, self.channels)
        return part_type(x, self.channels)

    def reference(self, run: Run, x: Array) -> Array:
        return np.asarray(x[..., list(self.channels)])

    def lower(self, to: Lowering) -> None:
        whole, part = (positions(type.shape, None) for type in (to.input_type(0), to.output_type()))
        to.call("et_take_channels_f32", runs_struct(to, self.channels, whole, part), to.read(0), to.write(0))


def require_channels(x: TensorType, channels: tuple[int, ...]) -> None:
    """Raises ShapeError unless a tensor has these channels."""
    require(x.dtype == "float32" and len(x.shape) > 0, f"float32 with channels is needed, not {x}")
    ascending = bool(channels) and all(a < b for a, b in pairwise(channels))
    require(ascending and channels[0] >= 0 and channels[-1] < x.shape[-1], f"{x} has no such channels")


def part_type(x: TensorType, channels: tuple[int, ...]) -> TensorType:
    """The type of some channels of a tensor."""
    return TensorType((*x.shape[:-1], len(channels)), x.dtype)
