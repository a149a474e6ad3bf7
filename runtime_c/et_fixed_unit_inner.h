/* What the kernels of et_fixed_unit.h and et_fixed_batch.h share. Not for callers. */
#ifndef ET_FIXED_UNIT_INNER_H
#define ET_FIXED_UNIT_INNER_H

#include "et_fixed_scale.h"
#include "et_fixed_unit.h"
#include "et_random.h"

enum { KEPT_BITS = 14, OFFSET_BITS = 29, ONE_BITS = 22, STOPPED = 255 };

static inline uint32_t magnitude_bits(int32_t value)
{
    return (uint32_t)(value ^ (value >> 31)); /* of -n those of n - 1, which is as good for a bit length of sums */
}

static inline int32_t outputs_of(const et_fixed_unit *shape)
{
    return shape->batch * shape->out_height * shape->out_width;
}

/* Largest exponent of finite values, -127 for none; ET_NO_EXPONENT where one is not finite. */
static inline int32_t largest_exponent(int32_t count, const float *x)
{
    uint32_t top = 0;
    for (int32_t i = 0; i < count; ++i) {
        const uint32_t magnitude = et_bits_f32(x[i]) << 1;
        top = magnitude > top ? magnitude : top;
    }
    return (int32_t)(top >> 24) - 127;
}

static inline int32_t bounded_multiplier(float value, int32_t exponent)
{
    const int32_t units = et_fixed_units(value, exponent);
    return units > 32767 ? 32767 : units < -32767 ? -32767 : units;
}

/* int16 mantissas of a * the factor of a scale, and the exponent of their unit; without a, of the factor. */
static inline int32_t multipliers(int32_t channels, const float *a, float scale, int32_t *m)
{
    const float factor = et_fixed_factor(scale);
    if (a == NULL) {
        const int32_t one = bounded_multiplier(factor, -14);
        for (int32_t c = 0; c < channels; ++c)
            m[c] = one;
        return -14;
    }
    uint32_t most = 0;
    for (int32_t c = 0; c < channels; ++c) {
        const uint32_t word = et_bits_f32(a[c] * factor);
        most = word << 1 > most ? word << 1 : most;
        m[c] = (int32_t)word;
    }
    int32_t top = (int32_t)(most >> 24) - 127;
    if (top == ET_NO_EXPONENT)
        return top;
    top = top < 15 - 127 ? 15 - 127 : top;
    for (int32_t c = 0; c < channels; ++c)
        m[c] = bounded_multiplier(et_from_bits_f32((uint32_t)m[c]), top - 14);
    return top - 14;
}

/* Odd codes of integers up to a largest magnitude m, with noise: 2 * ((value * levels * 2^15 / m + levels * 2^15 + h) >> 16)
 * - levels, h of 16 bits. */
typedef struct {
    int32_t levels;
    int32_t left;   /* shift that gives m 31 bits */
    int32_t factor; /* levels * 2^47 / (m << left), cut */
} odd_rounding;

static inline odd_rounding odd_rounding_of(int32_t levels, uint32_t largest)
{
    const int32_t left = 31 - et_bit_length(largest);
    const uint32_t divisor = largest << left;
    uint32_t rest = (uint32_t)levels, quotient = 0;
    for (int32_t bit = 0; bit < 47; ++bit) {
        rest <<= 1;
        quotient <<= 1;
        if (rest >= divisor) {
            rest -= divisor;
            quotient |= 1u;
        }
    }
    const odd_rounding rounding = {levels, left, (int32_t)quotient};
    return rounding;
}

/* h: the lower half of `random`. As levels is odd, the code is 2 * ((place + h - 2^15) >> 16) + 1. */
static inline int32_t odd_code(odd_rounding rounding, int32_t value, uint32_t random)
{
    const int32_t place = (int32_t)(((int64_t)(value * (1 << rounding.left)) * rounding.factor) >> 32);
    return ((place + (int32_t)(random & 0xFFFFu) - 0x8000) >> 15) | 1;
}

/* At least 1. */
static inline uint32_t largest_magnitude(size_t count, const int32_t *values)
{
    int32_t most = 1, least = -1;
    for (const int32_t *end = values + count; values != end; ++values) {
        if (*values > most)
            most = *values;
        if (*values < least)
            least = *values;
    }
    return (uint32_t)(most > -least ? most : -least);
}

static inline float odd_scale(odd_rounding rounding, uint32_t largest, int32_t exponent)
{
    return et_fixed_product((float)largest / (float)rounding.levels, et_fixed_scale(exponent));
}

/* Rounds `count` values, one random number for four. */
static inline void round_all(
    et_fixed_rounding rounding, et_random_key_t key, size_t count, const int32_t *values, int8_t *codes)
{
    uint32_t group = 0;
    size_t left = count;
    for (; left >= 4; left -= 4, values += 4, codes += 4) {
        const uint32_t random = et_random_at(key, group++);
        const int32_t a = values[0], b = values[1], c = values[2], d = values[3];
        codes[0] = (int8_t)et_fixed_round_random(rounding, a, random);
        codes[1] = (int8_t)et_fixed_round_random(rounding, b, random >> 8);
        codes[2] = (int8_t)et_fixed_round_random(rounding, c, random >> 16);
        codes[3] = (int8_t)et_fixed_round_random(rounding, d, random >> 24);
    }
    for (uint32_t random = et_random_at(key, group); left > 0; --left, random >>= 8)
        *codes++ = (int8_t)et_fixed_round_random(rounding, *values++, random);
}

#endif
