"""Channel ratios of update schemes: which output channels of a parameter are trained.

The output channels of a parameter are its last axis. Of a ratio R of C channels, the first ceil(R * C) are trained, or
the ceil(R * C) whose weights have the largest L2 norm (`:norm`; of equal ones the first), as they are in the model when
it is compiled. R is read as a decimal, so 0.1 of 30 channels are 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np

from toolkit.errors import UserError
from toolkit.ir import Array

BY_NORM = "norm"


@dataclass(frozen=True)
class Ratio:
    """A part of the output channels.

    Attributes:
        share: above 0, at most 1.
        by_norm: the channels of the largest weights; else the first.
    """

    share: Fraction
    by_norm: bool = False


def split_ratio(item: str, where: str) -> tuple[str, Ratio | None]:
    """Name and ratio of NAME, NAME@RATIO or NAME@RATIO:norm.

    Raises:
        UserError: the ratio is none, or out of range.
    """
    name, at, text = item.partition("@")
    if not at:
        return name, None
    number, colon, choice = text.partition(":")
    if colon and choice != BY_NORM:
        raise UserError(f"'{choice}' is no choice of channels", where=where, hint=f"{name}@{number}:{BY_NORM}")
    try:
        share = Fraction(number)
    except (ValueError, ZeroDivisionError):
        raise UserError(f"'{number}' is not a ratio", where=where, hint=f"{name}@0.25") from None
    if not 0 < share <= 1:
        hint = f"{name}@0.25 trains a quarter of the output channels"
        raise UserError(f"a channel ratio of {number}: it is above 0 and at most 1", where=where, hint=hint)
    return name, Ratio(share, bool(colon))


def picked_channels(weight: Array, ratio: Ratio) -> tuple[int, ...]:
    """Which channels of a parameter [..., C] a ratio trains, ascending."""
    channels = weight.shape[-1] if weight.ndim else 1
    count = ceil(ratio.share * channels)
    if not ratio.by_norm:
        return tuple(range(count))
    norms = np.square(weight.reshape(-1, channels).astype(np.float64)).sum(axis=0)
    return tuple(sorted(int(index) for index in np.argsort(-norms, kind="stable")[:count]))
