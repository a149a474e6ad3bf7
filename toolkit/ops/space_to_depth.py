"""SpaceToDepth: each block of pixels becomes channels.

DCR, the only one before opset 28: the new channel is (row in the block, column in the block, channel); CRD: (channel,
row, column).
"""

from __future__ import annotations

from toolkit.ops.base import UnsupportedError, ViewOp, op, require
from toolkit.ops.contexts import Import
from toolkit.ops.depth_to_space import block_size, seen_rearranged
from toolkit.ops.views import View

# Of N, C, H, row, W, column.
_PERMUTATIONS = {"DCR": (0, 3, 5, 1, 2, 4), "CRD": (0, 1, 3, 5, 2, 4)}


@op
class SpaceToDepth(ViewOp):
    """[N, C, H * b, W * b] -> [N, C * b * b, H, W]."""

    onnx = ("SpaceToDepth",)

    @classmethod
    def seen_as(cls, node: Import) -> View:
        block = block_size(node)
        n, channels, height, width = node.shape(0)
        require(height % block == width % block == 0, f"{height}x{width} is not made of blocks of {block}x{block}")
        h, w = height // block, width // block
        mode = node.attribute("mode", "DCR")
        if mode not in _PERMUTATIONS:
            raise UnsupportedError(f"mode {mode}; ONNX has DCR and CRD")
        split = (n, channels, h, block, w, block)
        return seen_rearranged(node, split, _PERMUTATIONS[mode], (n, channels * block**2, h, w))
