/* See et_fixed_unit.h. */
#include "et_fixed_unit.h"

#include "et_fixed_unit_inner.h"

/* The winners of all windows, and the bits of all magnitudes. */
static uint32_t pool(const et_fixed_unit *shape, const int32_t *sums, const int32_t *m, int32_t *winners, uint8_t *place)
{
    const int32_t channels = shape->channels, taps = shape->taps;
    const ptrdiff_t row = (ptrdiff_t)shape->width * channels;
    uint32_t bits = 0;
    for (int32_t n = 0; n < shape->batch; ++n) {
        for (int32_t y = 0; y < shape->out_height; ++y) {
            const int32_t *window = sums + ((ptrdiff_t)n * shape->height + (ptrdiff_t)y * shape->stride_h) * row;
            for (int32_t x = 0; x < shape->out_width; ++x, window += (ptrdiff_t)shape->stride_w * channels) {
                for (int32_t c = 0; c < channels; ++c) {
                    int32_t best = window[c], at = 0;
                    if (m[c] >= 0) {
                        for (int32_t tap = 1; tap < taps; ++tap) {
                            const int32_t value = window[shape->tap_offset[tap] + c];
                            if (value > best) {
                                best = value;
                                at = tap;
                            }
                        }
                    } else {
                        for (int32_t tap = 1; tap < taps; ++tap) {
                            const int32_t value = window[shape->tap_offset[tap] + c];
                            if (value < best) {
                                best = value;
                                at = tap;
                            }
                        }
                    }
                    bits |= magnitude_bits(best);
                    *winners++ = best;
                    if (place != NULL)
                        *place++ = (uint8_t)at;
                }
            }
        }
    }
    return bits;
}

/* Windows of 2 x 2 with positive multipliers all the way: what nearly every model has. */
static uint32_t pool_2x2(const et_fixed_unit *shape, const int32_t *sums, int32_t *winners, uint8_t *place)
{
    const int32_t channels = shape->channels;
    const ptrdiff_t row = (ptrdiff_t)shape->width * channels;
    uint32_t bits = 0;
    for (int32_t n = 0; n < shape->batch; ++n) {
        for (int32_t y = 0; y < shape->out_height; ++y) {
            const int32_t *upper = sums + ((ptrdiff_t)n * shape->height + (ptrdiff_t)y * shape->stride_h) * row;
            for (int32_t x = 0; x < shape->out_width; ++x, upper += (shape->stride_w - 1) * channels) {
                const int32_t *right = upper + channels, *lower = upper + row, *last = lower + channels;
                for (const int32_t *end = right; upper != end; ++upper, ++right, ++lower, ++last) {
                    int32_t best = *upper, at = 0;
                    const int32_t second = *right, third = *lower, fourth = *last;
                    if (second > best) {
                        best = second;
                        at = 1;
                    }
                    if (third > best) {
                        best = third;
                        at = 2;
                    }
                    if (fourth > best) {
                        best = fourth;
                        at = 3;
                    }
                    bits |= magnitude_bits(best);
                    *winners++ = best;
                    if (place != NULL)
                        *place++ = (uint8_t)at;
                }
            }
        }
    }
    return bits;
}

static bool is_2x2(const et_fixed_unit *shape, const int32_t *m)
{
    for (int32_t c = 0; c < shape->channels; ++c)
        if (m[c] < 0)
            return false;
    return shape->taps == 4 && shape->tap_offset[1] == shape->channels
           && shape->tap_offset[2] == shape->width * shape->channels;
}

/* t of every winner, in its place; the bits of all magnitudes. Writes z and who is stopped, where wanted. */
static uint32_t transform(
    const et_fixed_unit *shape, int32_t drop, int32_t shift, const int32_t *m, const int32_t *offset, int32_t *values,
    uint8_t *place, int16_t *kept)
{
    const int32_t channels = shape->channels, half = drop > 0 ? 1 << (drop - 1) : 0;
    uint32_t bits = 0;
    for (int32_t pixel = outputs_of(shape); pixel > 0; --pixel) {
        for (int32_t c = 0; c < channels; ++c) {
            const int32_t z = (values[c] + half) >> drop;
            int32_t t = ((z * m[c]) >> shift) + offset[c];
            if (kept != NULL)
                *kept++ = (int16_t)z;
            if (t <= 0 && shape->relu) {
                t = 0;
                if (place != NULL)
                    place[c] = STOPPED;
            }
            bits |= magnitude_bits(t);
            values[c] = t;
        }
        values += channels;
        if (place != NULL)
            place += channels;
    }
    return bits;
}

/* Codes from 0 to levels of every winner. Writes z and who is stopped, where wanted. */
static void transform_to_codes(
    const et_fixed_unit *shape, int32_t drop, int32_t shift, int32_t exponent, const int32_t *m, const int32_t *offset,
    const int32_t *values, int8_t *codes, uint8_t *place, int16_t *kept)
{
    const int32_t channels = shape->channels, half = drop > 0 ? 1 << (drop - 1) : 0, levels = shape->levels;
    const int32_t bits = exponent < 0 ? -exponent : 0, cut = bits > ONE_BITS ? bits - ONE_BITS : 0;
    const int32_t fine = cut < 31 ? cut : 31, places = bits - cut, one = 1 << places, middle = one >> 1;
    for (int32_t pixel = outputs_of(shape); pixel > 0; --pixel) {
        for (int32_t c = 0; c < channels; ++c) {
            const int32_t z = (values[c] + half) >> drop;
            int32_t t = (((z * m[c]) >> shift) + offset[c]) >> fine;
            if (kept != NULL)
                *kept++ = (int16_t)z;
            if (t <= 0 || t >= one) {
                t = t <= 0 ? 0 : levels;
                if (place != NULL)
                    place[c] = STOPPED;
            } else {
                t = (t * levels + middle) >> places;
            }
            *codes++ = (int8_t)t;
        }
        values += channels;
        if (place != NULL)
            place += channels;
    }
}

typedef struct {
    int32_t exponent; /* of t, ET_NO_EXPONENT where something is not finite */
    uint32_t bits;
} transformed;

static transformed unit(
    const et_fixed_unit *shape, const int32_t *sums, const float *sums_scale, const float *a, const float *b,
    int32_t *values, int8_t *codes, uint8_t *place, int16_t *kept, float *kept_scale)
{
    const int32_t channels = shape->channels;
    int32_t *m = values + (ptrdiff_t)outputs_of(shape) * channels, *offset = m + channels;
    transformed result = {ET_NO_EXPONENT, 0u};
    const int32_t scale_a = multipliers(channels, a, *sums_scale, m), scale_sums = et_fixed_exponent(*sums_scale);
    const int32_t top_b = b == NULL ? -127 : largest_exponent(channels, b);
    if (scale_a == ET_NO_EXPONENT || scale_sums == ET_NO_EXPONENT || top_b == ET_NO_EXPONENT)
        return result;
    const uint32_t bits = is_2x2(shape, m) ? pool_2x2(shape, sums, values, place) : pool(shape, sums, m, values, place);
    const int32_t length = et_bit_length(bits), drop = length > KEPT_BITS ? length - KEPT_BITS : 0;
    int32_t exponent = scale_sums + drop + scale_a, shift = 0;
    if (top_b > -127 && top_b - exponent + 1 > OFFSET_BITS)
        shift = top_b - exponent + 1 - OFFSET_BITS;
    exponent += shift;
    for (int32_t c = 0; c < channels; ++c)
        offset[c] = b == NULL ? 0 : et_fixed_units(b[c], exponent);
    if (kept_scale != NULL)
        *kept_scale = et_fixed_scale(scale_sums + drop) * et_fixed_factor(*sums_scale);
    result.exponent = exponent;
    shift = shift < 31 ? shift : 31;
    if (shape->levels > 0)
        transform_to_codes(shape, drop, shift, exponent, m, offset, values, codes, place, kept);
    else
        result.bits = transform(shape, drop, shift, m, offset, values, place, kept);
    return result;
}

static void fill_i8(size_t count, int8_t *values)
{
    for (; count >= 8; count -= 8, values += 8) {
        values[0] = values[1] = values[2] = values[3] = 0;
        values[4] = values[5] = values[6] = values[7] = 0;
    }
    for (; count > 0; --count)
        *values++ = 0;
}

et_status et_fixed_unit_i8(
    const et_fixed_unit *shape, const int32_t *sums, const float *sums_scale, const float *a, const float *b,
    void *scratch, int8_t *codes, float *scale)
{
    const int32_t *values = scratch;
    const size_t count = (size_t)outputs_of(shape) * (size_t)shape->channels;
    const transformed made = unit(shape, sums, sums_scale, a, b, scratch, codes, NULL, NULL, NULL);
    if (made.exponent == ET_NO_EXPONENT) {
        fill_i8(count, codes);
        *scale = ET_NAN;
        return ET_OK;
    }
    if (shape->levels > 0) {
        *scale = 1.0f / (float)shape->levels;
        return ET_OK;
    }
    const et_fixed_rounding rounding = et_fixed_rounding_of(et_bit_length(made.bits));
    *scale = et_fixed_scale(made.exponent + rounding.drop);
    for (size_t i = 0; i < count; ++i)
        codes[i] = (int8_t)et_fixed_round_nearest(rounding, values[i]);
    return ET_OK;
}

et_status et_fixed_unit_train_i8(
    const et_fixed_unit *shape, uint32_t seed, uint32_t step, const int32_t *sums, const float *sums_scale,
    const float *a, const float *b, void *scratch, int8_t *codes, float *scale, uint8_t *place, int16_t *kept,
    float *kept_scale)
{
    const int32_t *values = scratch;
    const size_t count = (size_t)outputs_of(shape) * (size_t)shape->channels;
    const transformed made = unit(shape, sums, sums_scale, a, b, scratch, codes, place, kept, kept_scale);
    if (made.exponent == ET_NO_EXPONENT) {
        fill_i8(count, codes);
        for (size_t i = 0; i < count; ++i)
            place[i] = STOPPED;
        for (size_t i = 0; kept != NULL && i < count; ++i)
            kept[i] = 0;
        if (kept_scale != NULL)
            *kept_scale = ET_NAN;
        *scale = ET_NAN;
        return ET_OK;
    }
    if (shape->levels > 0) {
        *scale = 1.0f / (float)shape->levels;
        return ET_OK;
    }
    const et_random_key_t key = et_random_key(seed, step, shape->stream);
    const et_fixed_rounding rounding = et_fixed_rounding_of(et_bit_length(made.bits));
    *scale = et_fixed_scale(made.exponent + rounding.drop);
    round_all(rounding, key, count, values, codes);
    return ET_OK;
}

/* Of values: the bits of all magnitudes, and the largest one. */
typedef struct {
    uint32_t bits;
    uint32_t largest;
} extent;

/* z' * m of every winner that is not stopped, and the sums for db and da. */
static extent gradient_of_channels(
    const et_fixed_unit *shape, int32_t drop, const int32_t *d, const uint8_t *place, const int16_t *kept,
    const int32_t *m, int32_t *values, float unit_b, float unit_a, float *db, float *da)
{
    const int32_t channels = shape->channels, half = drop > 0 ? 1 << (drop - 1) : 0;
    const ptrdiff_t count = (ptrdiff_t)outputs_of(shape) * channels;
    extent all = {0, 1};
    for (int32_t c = 0; c < channels; ++c) {
        const int32_t multiplier = m[c];
        int32_t sum_b = 0;
        int64_t sum_a = 0;
        for (const uint8_t *at = place + c, *end = at + count; at != end; at += channels) {
            if (*at == STOPPED)
                continue;
            const ptrdiff_t i = at - place;
            const int32_t z = (d[i] + half) >> drop, value = z * multiplier;
            const uint32_t magnitude = (uint32_t)(value < 0 ? -value : value);
            sum_b += z;
            if (kept != NULL)
                sum_a += z * kept[i];
            all.bits |= magnitude_bits(value);
            all.largest = magnitude > all.largest ? magnitude : all.largest;
            values[i] = value;
        }
        db[c] = (float)sum_b * unit_b;
        if (da != NULL)
            da[c] = (float)sum_a * unit_a;
    }
    return all;
}

#define NOTHING UINT32_MAX /* no group of elements has this number */

/* Rounds the values and puts each where its winner was. Most random numbers may belong to what is stopped. */
static void scatter(const et_fixed_unit *shape, et_random_key_t key, et_fixed_rounding rounding, const int32_t *values,
                    const uint8_t *place, int8_t *g)
{
    const int32_t channels = shape->channels;
    const ptrdiff_t row = (ptrdiff_t)shape->width * channels;
    uint32_t index = 0, drawn = NOTHING, random = 0;
    for (int32_t n = 0; n < shape->batch; ++n) {
        for (int32_t y = 0; y < shape->out_height; ++y) {
            int8_t *window = g + ((ptrdiff_t)n * shape->height + (ptrdiff_t)y * shape->stride_h) * row;
            for (int32_t x = 0; x < shape->out_width; ++x, window += (ptrdiff_t)shape->stride_w * channels) {
                for (int32_t c = 0; c < channels; ++c, ++index) {
                    const uint8_t at = place[index];
                    if (at == STOPPED)
                        continue;
                    if (index >> 2 != drawn) {
                        drawn = index >> 2;
                        random = et_random_at(key, drawn);
                    }
                    window[shape->tap_offset[at] + c] =
                        (int8_t)et_fixed_round_random(rounding, values[index], random >> (8u * (index & 3u)));
                }
            }
        }
    }
}

/* The same with odd codes. */
static void scatter_odd(const et_fixed_unit *shape, et_random_key_t key, odd_rounding rounding, const int32_t *values,
                        const uint8_t *place, int8_t *g)
{
    const int32_t channels = shape->channels;
    const ptrdiff_t row = (ptrdiff_t)shape->width * channels;
    uint32_t index = 0, drawn = NOTHING, random = 0;
    for (int32_t n = 0; n < shape->batch; ++n) {
        for (int32_t y = 0; y < shape->out_height; ++y) {
            int8_t *window = g + ((ptrdiff_t)n * shape->height + (ptrdiff_t)y * shape->stride_h) * row;
            for (int32_t x = 0; x < shape->out_width; ++x, window += (ptrdiff_t)shape->stride_w * channels) {
                for (int32_t c = 0; c < channels; ++c, ++index) {
                    const uint8_t at = place[index];
                    if (at == STOPPED)
                        continue;
                    if (index >> 1 != drawn) {
                        drawn = index >> 1;
                        random = et_random_at(key, drawn);
                    }
                    window[shape->tap_offset[at] + c] =
                        (int8_t)odd_code(rounding, values[index], random >> (16u * (index & 1u)));
                }
            }
        }
    }
}

et_status et_fixed_unit_grad_i8(
    const et_fixed_unit *shape, uint32_t seed, uint32_t step, const int32_t *d, const float *d_scale, const float *a,
    const uint8_t *place, const int16_t *kept, const float *kept_scale, void *scratch, int8_t *g, float *g_scale,
    float *db, float *da)
{
    const int32_t channels = shape->channels, count = outputs_of(shape) * channels;
    int32_t *values = scratch, *m = values + count;
    const int32_t scale_a = multipliers(channels, a, *d_scale, m), scale_d = et_fixed_exponent(*d_scale);
    fill_i8((size_t)shape->batch * (size_t)shape->height * (size_t)shape->width * (size_t)channels, g);
    if (scale_a == ET_NO_EXPONENT || scale_d == ET_NO_EXPONENT) {
        *g_scale = ET_NAN;
        for (int32_t c = 0; c < channels; ++c) {
            db[c] = ET_NAN;
            if (da != NULL)
                da[c] = ET_NAN;
        }
        return ET_OK;
    }
    uint32_t bits = 0;
    for (int32_t i = 0; i < count; ++i)
        if (place[i] != STOPPED)
            bits |= magnitude_bits(d[i]);
    const int32_t length = et_bit_length(bits), drop = length > KEPT_BITS ? length - KEPT_BITS : 0;
    const float unit_b = et_fixed_scale(scale_d + drop) * et_fixed_factor(*d_scale);
    const float unit_a = kept_scale != NULL ? unit_b * *kept_scale : 0.0f;
    const extent all = gradient_of_channels(shape, drop, d, place, kept, m, values, unit_b, unit_a, db, da);
    const et_random_key_t key = et_random_key(seed, step, shape->stream);
    const int32_t exponent = scale_d + drop + scale_a;
    if (shape->gradient_levels > 0) {
        const odd_rounding rounding = odd_rounding_of(shape->gradient_levels, all.largest);
        *g_scale = odd_scale(rounding, all.largest, exponent);
        scatter_odd(shape, key, rounding, values, place, g);
        return ET_OK;
    }
    const et_fixed_rounding rounding = et_fixed_rounding_of(et_bit_length(all.bits));
    *g_scale = et_fixed_scale(exponent + rounding.drop);
    scatter(shape, key, rounding, values, place, g);
    return ET_OK;
}
