"""Saved-tensor codecs: in what form a tensor of the forward pass waits for the backward pass. One file per codec."""

from __future__ import annotations

from toolkit.train.codecs.plan import SavePlan, parse_save
from toolkit.train.codecs.save import save_tensors

__all__ = ["SavePlan", "parse_save", "save_tensors"]
