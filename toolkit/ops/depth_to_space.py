"""DepthToSpace: channels become pixels. The blocks of an image grow out of its channels, as sub-pixel convolutions do.

DCR: the channel is (row in the block, column in the block, output channel); CRD: (output channel, row, column).
"""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.ops.base import UnsupportedError, ViewOp, op, require
from toolkit.ops.contexts import Import
from toolkit.ops.reshape import seen_in_shape
from toolkit.ops.views import View, reshaped, transposed


def seen_rearranged(node: Import, split: Sequence[int], permutation: Sequence[int], shape: Sequence[int]) -> View:
    """Input 0 with its axes split, the parts transposed, and neighbours joined to `shape`."""
    view = reshaped(transposed(seen_in_shape(node, split), permutation), shape)
    assert view is not None  # joining axes never needs another order
    return view


def block_size(node: Import) -> int:
    """The attribute `blocksize` of a node that reads an image. Raises ShapeError where either is none."""
    block = int(node.attribute("blocksize", 0))
    require(block > 0, f"a blocksize of {block}")
    require(len(node.shape(0)) == 4, f"{list(node.shape(0))} is not an image [N, C, H, W]")
    return block


@op
class DepthToSpace(ViewOp):
    """[N, C * b * b, H, W] -> [N, C, H * b, W * b]."""

    onnx = ("DepthToSpace",)

    @classmethod
    def seen_as(cls, node: Import) -> View:
        block = block_size(node)
        n, depth, h, w = node.shape(0)
        require(depth % block**2 == 0, f"{depth} channels cannot be split into blocks of {block}x{block}")
        channels = depth // block**2
        mode = node.attribute("mode", "DCR")
        if mode == "DCR":
            split, permutation = (n, block, block, channels, h, w), (0, 3, 4, 1, 5, 2)
        elif mode == "CRD":
            split, permutation = (n, channels, block, block, h, w), (0, 1, 4, 2, 5, 3)
        else:
            raise UnsupportedError(f"mode {mode}; ONNX has DCR and CRD")
        return seen_rearranged(node, split, permutation, (n, channels, h * block, w * block))
