/* See et_fixed_batch.h. */
#include "et_fixed_batch.h"

#include "et_block.h"
#include "et_fixed_unit_inner.h"

enum { SHIFT_BITS = 28 };

static uint32_t bits_of(size_t count, const int32_t *values)
{
    uint32_t bits = 0;
    for (; count >= 4; count -= 4, values += 4) {
        const int32_t a = values[0], b = values[1], c = values[2], d = values[3];
        bits |= magnitude_bits(a) | magnitude_bits(b) | magnitude_bits(c) | magnitude_bits(d);
    }
    for (; count > 0; --count)
        bits |= magnitude_bits(*values++);
    return bits;
}

typedef struct {
    int32_t total;
    uint64_t squares;
} moments;

/* Of z of a channel. Eight squares of 14 bits, and the one that rounding up gives, fit into 32 bits. */
static ET_NOINLINE moments moments_of(size_t rows, size_t channels, int32_t half, int32_t drop, const int32_t *sums)
{
    moments of = {0, 0};
    for (; rows >= 8; rows -= 8) {
        uint32_t squares = 0;
        ET_UNROLL
        for (int i = 0; i < 8; ++i, sums += channels) {
            const int32_t z = (*sums + half) >> drop;
            of.total += z;
            squares += (uint32_t)(z * z);
        }
        of.squares += squares;
    }
    for (; rows > 0; --rows, sums += channels) {
        const int32_t z = (*sums + half) >> drop;
        of.total += z;
        of.squares += (uint32_t)(z * z);
    }
    return of;
}

et_status et_fixed_batch_affine(
    size_t rows, size_t channels, float epsilon, const int32_t *sums, const float *scale, const float *gamma,
    const float *beta, float *a, float *b, float *mean, float *inverse, float *unbiased, float *z_scale)
{
    const size_t count = rows * channels;
    const int32_t exponent = et_fixed_exponent(*scale), length = et_bit_length(bits_of(count, sums));
    const int32_t drop = length > KEPT_BITS ? length - KEPT_BITS : 0, half = drop > 0 ? 1 << (drop - 1) : 0;
    const float unit = exponent == ET_NO_EXPONENT ? ET_NAN : et_fixed_scale(exponent + drop) * et_fixed_factor(*scale);
    const float number = (float)(int32_t)rows, share = 1.0f / number, correction = number / (number - 1.0f);
    for (size_t c = 0; c < channels; ++c) {
        const moments of = moments_of(rows, channels, half, drop, sums + c);
        const int64_t spread = (int64_t)rows * (int64_t)of.squares - (int64_t)of.total * of.total;
        const float average = ((float)of.total * share) * unit;
        const float variance = (float)spread * share * share * unit * unit;
        const float inverted = et_rsqrt_f32(variance + epsilon), factor = gamma[c] * inverted;
        mean[c] = average;
        inverse[c] = inverted;
        unbiased[c] = variance * correction;
        a[c] = factor;
        b[c] = et_madd(-average, factor, beta[c]);
    }
    *z_scale = unit;
    return ET_OK;
}

/* db and dgamma. */
static void gradient_of_parameters(
    const et_fixed_unit *shape, int32_t drop, float unit_b, float unit_a, const int32_t *d, const uint8_t *place,
    const int16_t *kept, const float *mean, const float *inverse, float *db, float *dgamma)
{
    const int32_t channels = shape->channels, half = drop > 0 ? 1 << (drop - 1) : 0;
    const ptrdiff_t count = (ptrdiff_t)outputs_of(shape) * channels;
    for (int32_t c = 0; c < channels; ++c) {
        int32_t sum_b = 0;
        int64_t sum_a = 0;
        for (ptrdiff_t i = c; i < count; i += channels)
            if (place[i] != STOPPED) {
                const int32_t z = (d[i] + half) >> drop;
                sum_b += z;
                sum_a += z * kept[i];
            }
        const float gradient_b = (float)sum_b * unit_b, gradient_a = (float)sum_a * unit_a;
        db[c] = gradient_b;
        dgamma[c] = inverse[c] * et_madd(-mean[c], gradient_b, gradient_a);
    }
}

/* Adds what reaches the winners; gives the bits of the magnitudes there. */
static uint32_t add_winners(
    const et_fixed_unit *shape, int32_t drop, int32_t shift, const int32_t *d, const uint8_t *place, const int32_t *m,
    int32_t *t)
{
    const int32_t channels = shape->channels, half = drop > 0 ? 1 << (drop - 1) : 0;
    const ptrdiff_t row = (ptrdiff_t)shape->width * channels;
    uint32_t bits = 0;
    for (int32_t n = 0; n < shape->batch; ++n)
        for (int32_t y = 0; y < shape->out_height; ++y) {
            int32_t *window = t + ((ptrdiff_t)n * shape->height + (ptrdiff_t)y * shape->stride_h) * row;
            for (int32_t x = 0; x < shape->out_width; ++x, window += (ptrdiff_t)shape->stride_w * channels)
                for (int32_t c = 0; c < channels; ++c, ++d, ++place)
                    if (*place != STOPPED) {
                        int32_t *at = window + shape->tap_offset[*place] + c;
                        *at += (((*d + half) >> drop) * m[c]) >> shift;
                        bits |= magnitude_bits(*at);
                    }
        }
    return bits;
}

static et_status not_finite(size_t count, int32_t channels, int8_t *g, float *g_scale, float *db, float *dgamma)
{
    for (size_t i = 0; i < count; ++i)
        g[i] = 0;
    for (int32_t c = 0; c < channels; ++c)
        db[c] = dgamma[c] = ET_NAN;
    *g_scale = ET_NAN;
    return ET_OK;
}

/* Odd codes of all values, one random number for two. */
static void round_odd(odd_rounding rounding, et_random_key_t key, size_t count, const int32_t *values, int8_t *codes)
{
    uint32_t pair = 0;
    for (; count >= 4; count -= 4, values += 4, codes += 4) {
        const int32_t a = values[0], b = values[1], c = values[2], d = values[3];
        const uint32_t random = et_random_at(key, pair), other = et_random_at(key, pair + 1u);
        codes[0] = (int8_t)odd_code(rounding, a, random);
        codes[1] = (int8_t)odd_code(rounding, b, random >> 16);
        codes[2] = (int8_t)odd_code(rounding, c, other);
        codes[3] = (int8_t)odd_code(rounding, d, other >> 16);
        pair += 2u;
    }
    for (; count >= 2; count -= 2, values += 2, codes += 2) {
        const uint32_t random = et_random_at(key, pair++);
        codes[0] = (int8_t)odd_code(rounding, values[0], random);
        codes[1] = (int8_t)odd_code(rounding, values[1], random >> 16);
    }
    if (count > 0)
        *codes = (int8_t)odd_code(rounding, *values, et_random_at(key, pair));
}

/* ((z * slope) >> by) + offset of a channel; gives the bits of the magnitudes. */
static ET_NOINLINE uint32_t line_of_channel(
    size_t rows, size_t channels, int32_t half, int32_t cut, int32_t slope, int32_t by, int32_t offset,
    const int32_t *sums, int32_t *t)
{
    uint32_t bits = 0;
    for (; rows >= 4; rows -= 4) {
        ET_UNROLL
        for (int i = 0; i < 4; ++i, sums += channels, t += channels) {
            const int32_t value = ((((*sums + half) >> cut) * slope) >> by) + offset;
            bits |= magnitude_bits(value);
            *t = value;
        }
    }
    for (; rows > 0; --rows, sums += channels, t += channels) {
        const int32_t value = ((((*sums + half) >> cut) * slope) >> by) + offset;
        bits |= magnitude_bits(value);
        *t = value;
    }
    return bits;
}

et_status et_fixed_batch_unit_grad_i8(
    const et_fixed_unit *shape, uint32_t seed, uint32_t step, const int32_t *d, const float *d_scale, const float *a,
    const uint8_t *place, const int16_t *kept, const float *kept_scale, const int32_t *sums, const float *sums_scale,
    const float *z_scale, const float *mean, const float *inverse, void *scratch, int8_t *g, float *g_scale, float *db,
    float *dgamma)
{
    const int32_t channels = shape->channels, rows = shape->batch * shape->height * shape->width;
    const size_t count = (size_t)rows * (size_t)channels;
    const ptrdiff_t pooled = (ptrdiff_t)outputs_of(shape) * channels;
    int32_t *t = scratch, *m = t + count, *k = m + channels, *offset = k + channels;
    float *slope = (float *)(void *)(offset + channels), *shift = slope + channels;
    const int32_t scale_a = multipliers(channels, a, *d_scale, m), scale_d = et_fixed_exponent(*d_scale);
    const int32_t scale_s = et_fixed_exponent(*sums_scale), scale_z = et_fixed_exponent(*z_scale);
    if (scale_a == ET_NO_EXPONENT || scale_d == ET_NO_EXPONENT || scale_s == ET_NO_EXPONENT || scale_z == ET_NO_EXPONENT)
        return not_finite(count, channels, g, g_scale, db, dgamma);

    uint32_t bits = 0;
    for (ptrdiff_t i = 0; i < pooled; ++i)
        if (place[i] != STOPPED)
            bits |= magnitude_bits(d[i]);
    const int32_t length = et_bit_length(bits), drop = length > KEPT_BITS ? length - KEPT_BITS : 0;
    const float unit_b = et_fixed_scale(scale_d + drop) * et_fixed_factor(*d_scale), share = 1.0f / (float)rows;
    gradient_of_parameters(shape, drop, unit_b, unit_b * *kept_scale, d, place, kept, mean, inverse, db, dgamma);
    for (int32_t c = 0; c < channels; ++c) {
        slope[c] = -(a[c] * ((dgamma[c] * inverse[c]) * share));
        shift[c] = et_madd(-mean[c], slope[c], -(a[c] * (db[c] * share)));
    }
    const int32_t scale_k = multipliers(channels, slope, *z_scale, k), top = largest_exponent(channels, shift);
    if (scale_k == ET_NO_EXPONENT || top == ET_NO_EXPONENT)
        return not_finite(count, channels, g, g_scale, db, dgamma);

    const int32_t sparse = scale_d + drop + scale_a, dense = scale_z + scale_k;
    int32_t exponent = sparse > dense ? sparse : dense;
    exponent = exponent > top - SHIFT_BITS ? exponent : top - SHIFT_BITS;
    for (int32_t c = 0; c < channels; ++c)
        offset[c] = et_fixed_units(shift[c], exponent);
    const int32_t cut = scale_z - scale_s, half = cut > 0 ? 1 << (cut - 1) : 0;
    const int32_t by = exponent - dense < 31 ? exponent - dense : 31;
    bits = 0;
    for (int32_t c = 0; c < channels; ++c)
        bits |= line_of_channel((size_t)rows, (size_t)channels, half, cut, k[c], by, offset[c], sums + c, t + c);
    bits |= add_winners(shape, drop, exponent - sparse < 31 ? exponent - sparse : 31, d, place, m, t);

    const et_random_key_t key = et_random_key(seed, step, shape->stream);
    if (shape->gradient_levels > 0) {
        const uint32_t largest = largest_magnitude(count, t);
        const odd_rounding odd = odd_rounding_of(shape->gradient_levels, largest);
        *g_scale = odd_scale(odd, largest, exponent);
        round_odd(odd, key, count, t, g);
        return ET_OK;
    }
    const et_fixed_rounding rounding = et_fixed_rounding_of(et_bit_length(bits));
    *g_scale = et_fixed_scale(exponent + rounding.drop);
    round_all(rounding, key, count, t, g);
    return ET_OK;
}
