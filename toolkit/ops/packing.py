"""The memory layout that the kernels of Conv and Dense want for their weights and weight gradients."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from codegen.program import Layout
from toolkit.ops.geometry import pack_permutation


@lru_cache(maxsize=256)
def packed_layout(kernel_h: int, kernel_w: int, channels: int, outputs: int, groups: int = 1) -> Layout | None:
    """Panels of output channels for weights [kernel_h][kernel_w][channels / groups][outputs].

    Args:
        channels: input channels of one group.
        outputs: output channels of all groups.

    Returns:
        None where the panels are the row-major order anyway: then no reader needs a copy in another order.
    """
    permutation = pack_permutation(kernel_h, kernel_w, channels, outputs, groups)
    if np.array_equal(permutation, np.arange(permutation.size)):
        return None
    return Layout(f"panels of {groups}x{kernel_h}x{kernel_w}x{channels}x{outputs}", permutation)


@lru_cache(maxsize=256)
def layout_by_output(inputs: int, outputs: int) -> Layout | None:
    """Weights [inputs][outputs] as [outputs][inputs]; None where that is the row-major order anyway."""
    if min(inputs, outputs) == 1:
        return None
    return Layout(f"{outputs} rows of {inputs}", np.arange(inputs * outputs).reshape(inputs, outputs).T.reshape(-1))
