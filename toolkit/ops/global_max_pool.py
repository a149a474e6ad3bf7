"""GlobalMaxPool: the maximum over all spatial axes. Imported as MaxPool with a window as large as the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.ops.base import Op, UnsupportedError, op
from toolkit.ops.contexts import Import
from toolkit.ops.max_pool import MaxPool
from toolkit.ops.pooling import Window


@op
@dataclass(frozen=True)
class GlobalMaxPool(Op):
    """Only a name in ONNX files."""

    onnx = ("GlobalMaxPool",)
    no_gradient = "it is imported as MaxPool"

    @classmethod
    def from_onnx(cls, node: Import) -> Sequence[str]:
        sizes = node.shape(0)[2:]
        if len(sizes) not in (1, 2):
            raise UnsupportedError(f"pooling over {len(sizes)} spatial axes; one and two are supported")
        ones, zeros = (1,) * len(sizes), (0,) * len(sizes)
        window = Window(sizes, ones, ones, zeros, zeros)
        return (node.emit_channels_last(0, node.apply(MaxPool(window), node.channels_last(0))[0]),)
