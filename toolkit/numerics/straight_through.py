"""Straight-through estimators: the factor by which a quantizer's gradient rule multiplies what comes back.

Rounding and sign have a derivative of zero almost everywhere; training replaces it by that of a smooth or clipped
function. Here is every such factor that a quantizer uses, spelled once; et_straight_through.h is the same in C. NaN
compares false, so it gives a factor of 0.

    identity            1; written by handing the gradient on, no function is needed
    inside              1 where low < x < high (DoReFa-Net's clip, arXiv 1606.06160, section 2.3)
    within              1 where |x| <= limit (binarized weights; Hubara et al., arXiv 1602.02830, section 1.3)
    sigmoid_slope       6 s (1 - s), s = sigmoid(3 x) (A&B BNN, arXiv 2403.03739)
    tanh_slope          1 - t t, for t = tanh(x)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolkit.numerics.bits import Float32
from toolkit.numerics.fma import madd
from toolkit.numerics.functions import sigmoid

_ONE = np.float32(1)
_STEEPNESS, _HEIGHT = np.float32(3), np.float32(6)


def inside(x: Float32, low: float, high: float) -> NDArray[np.bool_]:
    """Where low < x < high. et_inside_f32."""
    return np.asarray((x > np.float32(low)) & (x < np.float32(high)))


def within(x: Float32, limit: float) -> NDArray[np.bool_]:
    """Where |x| <= limit. et_within_f32."""
    return np.asarray(np.abs(x) <= np.float32(limit))


def sigmoid_slope(x: Float32) -> Float32:
    """6 * (s * (1 - s)) with s = sigmoid(3 * x): a smooth spike of area 2, 1.5 high. et_sigmoid_slope_f32."""
    s = sigmoid(x * _STEEPNESS)
    return np.asarray(_HEIGHT * (s * (_ONE - s)))


def tanh_slope(t: Float32, fma: bool) -> Float32:
    """madd(-t, t, 1): the derivative of tanh where its value is t. et_tanh_slope_f32."""
    return madd(-t, t, _ONE, fma)
