"""What tests of quantizers share: one text per method, and samples to calibrate on."""

from __future__ import annotations

import numpy as np

from toolkit.ir import Array, TensorType

METHODS = (
    "dorefa:w1a1g6", "dorefa:w1a2g6", "dorefa:w2a4g8", "dorefa:w8a8g8", "dorefa:w1a2g6,master=int16",
    "binaryconnect:det", "binaryconnect:stoch", "ab-bnn", "ab-bnn:strict",
    "fp16", "fp16:accumulate=native", "bf16", "fixed16", "fixed8", "int8",
)  # fmt: skip
TRAINABLE = tuple(method for method in METHODS if method != "int8")


def samples(input_type: TensorType) -> Array:
    """Random inputs for calibration."""
    shape = (8 * input_type.shape[0], *input_type.shape[1:])
    return np.random.default_rng(0).standard_normal(shape, np.float32)
