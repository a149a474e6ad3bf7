/* Straight-through estimators: the factor by which a quantizer's gradient rule multiplies what comes back.
 *
 * The same as toolkit/numerics/straight_through.py, bit for bit. NaN compares false, so it gives a factor of 0.
 */
#ifndef ET_STRAIGHT_THROUGH_H
#define ET_STRAIGHT_THROUGH_H

#include "et_math.h"

/* Where low < x < high. */
static inline bool et_inside_f32(float x, float low, float high)
{
    return x > low && x < high;
}

/* Where |x| <= limit. */
static inline bool et_within_f32(float x, float limit)
{
    return x <= limit && x >= -limit;
}

/* 6 * (s * (1 - s)) with s = sigmoid(3 * x). */
static inline float et_sigmoid_slope_f32(float x)
{
    const float s = et_sigmoid_f32(x * 3.0f);
    return 6.0f * (s * (1.0f - s));
}

/* The derivative of tanh where its value is t. */
static inline float et_tanh_slope_f32(float t)
{
    return et_madd(-t, t, 1.0f);
}

#endif
