/* What the kernels of et_fixed_unit.h and et_fixed_batch.h share. Not for callers. */
#ifndef ET_FIXED_UNIT_INNER_H
#define ET_FIXED_UNIT_INNER_H

#include "et_fixed_scale.h"
#include "et_fixed_unit.h"
#include "et_random.h"

enum { KEPT_BITS = 14, ONE = 1 << 14, OFFSET_BITS = 29, STOPPED = 255 };

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

/* int16 mantissas of a, and the exponent of their scale. */
static inline int32_t multipliers(int32_t channels, const float *a, int32_t *m)
{
    if (a == NULL) {
        for (int32_t c = 0; c < channels; ++c)
            m[c] = ONE;
        return -14;
    }
    int32_t top = largest_exponent(channels, a);
    if (top == ET_NO_EXPONENT)
        return top;
    top = top < 15 - 127 ? 15 - 127 : top;
    for (int32_t c = 0; c < channels; ++c) {
        const int32_t units = et_fixed_units(a[c], top - 14);
        m[c] = units > 32767 ? 32767 : units < -32767 ? -32767 : units;
    }
    return top - 14;
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
