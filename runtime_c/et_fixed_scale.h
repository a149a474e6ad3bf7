/* Scales of dynamic fixed point as exponents, and float32 as integers of such a scale. Not for callers.
 *
 * A scale is factor * 2^e, a factor in [1, 2), which is 1 for most tensors, and e from -126 to 127; NaN stands for a tensor
 * in which something was not finite.
 */
#ifndef ET_FIXED_SCALE_H
#define ET_FIXED_SCALE_H

#include "et_math.h"

#define ET_NO_EXPONENT 128 /* of a NaN */

/* e of factor * 2^e. */
static inline int32_t et_fixed_exponent(float scale)
{
    return (int32_t)((et_bits_f32(scale) << 1) >> 24) - 127;
}

/* 2^e, at least 2^-126; NaN for what is too large. */
static inline float et_fixed_scale(int32_t e)
{
    return e > 127 ? ET_NAN : et_from_bits_f32((uint32_t)((e < -126 ? -126 : e) + 127) << 23);
}

/* The factor of factor * 2^e. */
static inline float et_fixed_factor(float scale)
{
    return et_from_bits_f32((et_bits_f32(scale) & 0x7FFFFFu) | 0x3F800000u);
}

/* a * b, at least 2^-126; NaN where a factor is, and for what is too large. */
static inline float et_fixed_product(float a, float b)
{
    const float product = a * b;
    if (!et_is_finite_f32(product))
        return ET_NAN;
    return et_fixed_exponent(product) < -126 ? et_fixed_scale(-126) : product;
}

/* Bits of a magnitude: 0 for 0. */
static inline int32_t et_bit_length(uint32_t magnitude)
{
    int32_t bits = 0;
    for (; magnitude != 0u; magnitude >>= 1)
        ++bits;
    return bits;
}

/* x / 2^e to the nearest integer, ties to even; x is finite and the result below 2^30. Below 2^-126, x counts as 0. */
static inline int32_t et_fixed_units(float x, int32_t e)
{
    const uint32_t word = et_bits_f32(x), exponent = (word << 1) >> 24;
    const int32_t drop = e + 150 - (int32_t)exponent;
    if (exponent == 0u || drop > 25)
        return 0;
    uint32_t magnitude = (word & 0x7FFFFFu) | 0x800000u;
    if (drop > 0)
        magnitude = (magnitude + ((1u << (drop - 1)) - 1u) + ((magnitude >> drop) & 1u)) >> drop;
    else
        magnitude <<= -drop;
    return (int32_t)word < 0 ? -(int32_t)magnitude : (int32_t)magnitude;
}

/* How values of `bits` bits become mantissas of 7: shifted by `drop`, after a byte of randomness was added. */
typedef struct {
    int32_t drop;
    int32_t down;  /* shift of the byte from the upper end of a word to below 2^drop */
    int32_t half;  /* of the byte's resolution */
} et_fixed_rounding;

static inline et_fixed_rounding et_fixed_rounding_of(int32_t bits)
{
    et_fixed_rounding rounding = {bits > 7 ? bits - 7 : 0, 31, 0};
    rounding.down = 31 - rounding.drop;
    rounding.half = rounding.drop > 8 ? 1 << (rounding.drop - 9) : 0;
    return rounding;
}

static inline int32_t et_fixed_bounded(int32_t value)
{
    return value > 127 ? 127 : value < -127 ? -127 : value;
}

/* floor(value / 2^drop + u), within [-127, 127]; u from the lowest byte of `random`. */
static inline int32_t et_fixed_round_random(et_fixed_rounding rounding, int32_t value, uint32_t random)
{
    const int32_t u = (int32_t)(((random << 24) >> 1) >> rounding.down) + rounding.half;
    return et_fixed_bounded((value + u) >> rounding.drop);
}

/* value / 2^drop to the nearest, ties to even, within [-127, 127]. */
static inline int32_t et_fixed_round_nearest(et_fixed_rounding rounding, int32_t value)
{
    if (rounding.drop > 0)
        value = (value + ((1 << (rounding.drop - 1)) - 1) + ((value >> rounding.drop) & 1)) >> rounding.drop;
    return et_fixed_bounded(value);
}

#endif
