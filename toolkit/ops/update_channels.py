"""UpdateChannels: an optimizer's step for some output channels of a weight; the others are not touched.

The picked channels get the bits that the optimizer would give a weight that has them alone.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from codegen.program import Argument
from toolkit.ir import Array, TensorType
from toolkit.ops.base import Arrays, Op, Run, Types, op, require
from toolkit.ops.channel_runs import positions, runs_struct
from toolkit.ops.contexts import Lowering
from toolkit.ops.take_channels import part_type, require_channels


class ChannelwiseUpdate(Op):
    """Base of updates (w, gradient, others...) -> (w', states'...) that have a kernel for some channels of w."""

    @abstractmethod
    def lower_channels(self, to: Lowering, channels: Argument) -> None:
        """Calls that kernel. `channels` is the et_channels struct; gradient and states have the picked channels."""


@op
@dataclass(frozen=True)
class UpdateChannels(Op):
    """(w [..., C], gradient [..., P], others...) -> (w' [..., C], states' [..., P]...); float32; w' in place of w.

    Attributes:
        update: the optimizer's op for a weight [..., P].
        channels: the P picked channels, ascending.
    """

    update: ChannelwiseUpdate
    channels: tuple[int, ...]

    no_gradient = "it is the optimizer"

    def infer(self, w: TensorType, *others: TensorType) -> Types:
        require_channels(w, self.channels)
        part = part_type(w, self.channels)
        updated, *states = self.update.output_types((part, *others))
        require(updated == part, f"the update gives {updated} for {part}")
        return (w, *states)

    def reference(self, run: Run, w: Array, *others: Array) -> Arrays:
        picked = list(self.channels)
        updated, *states = self.update.run(run, np.ascontiguousarray(w[..., picked]), *others)
        whole = w.copy()
        whole[..., picked] = updated
        return (whole, *states)

    def lower(self, to: Lowering) -> None:
        whole = positions(to.input_type(0).shape, to.layout(0))
        part = positions(to.input_type(1).shape, to.layout(1))
        self.update.lower_channels(to, runs_struct(to, self.channels, whole, part))

    def macs(self, *inputs: Any) -> int:
        return 0
