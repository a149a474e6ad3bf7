"""GlobalAveragePool: the mean over all spatial axes. Imported as ReduceMean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.ops.base import Op, op
from toolkit.ops.contexts import Import
from toolkit.ops.reduce_mean import ReduceMean


@op
@dataclass(frozen=True)
class GlobalAveragePool(Op):
    """Only a name in ONNX files."""

    onnx = ("GlobalAveragePool",)
    no_gradient = "it is imported as ReduceMean"

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        spatial = tuple(range(1, len(node.shape(0)) - 1))
        return (node.emit_channels_last(0, node.apply(ReduceMean(spatial, True), node.channels_last(0))[0]),)
