/* See et_dorefa_weights.h. */
#include "et_dorefa_weights.h"

#include "et_math.h"
#include "et_straight_through.h"

#define LEAST_BITS (27u << 23) /* 2^-100 */

/* The bits of the largest magnitude; NaN counts as larger than infinity. */
static uint32_t largest_magnitude(size_t count, const float *w)
{
    uint32_t largest = 0;
    for (size_t i = 0; i < count; ++i) {
        const uint32_t magnitude = et_bits_f32(w[i]) & ~ET_SIGN_BIT;
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
}

/* The mean magnitude of weights whose largest one has the bits `largest`. */
static float mean_magnitude(size_t count, const float *w, uint32_t largest)
{
    const uint32_t top = largest >> 23;
    if (largest >= ET_INFINITY_BITS)
        return ET_NAN;
    uint64_t sum = 0;
    for (size_t i = 0; i < count; ++i) {
        const uint32_t word = et_bits_f32(w[i]), exponent = (word << 1) >> 24, distance = top - exponent;
        sum += exponent == 0u || distance > 31u ? 0u : (word << 8 | ET_SIGN_BIT) >> distance;
    }
    uint32_t mean = (uint32_t)(sum / count), exponent = top;
    if (mean == 0u)
        return 0.0f;
    for (; (mean & ET_SIGN_BIT) == 0u && exponent > 0u; mean <<= 1)
        --exponent;
    return exponent == 0u ? 0.0f : et_from_bits_f32(exponent << 23 | (mean >> 8 & 0x7FFFFFu));
}

et_status et_dorefa_signs_f32(
    size_t taps, size_t inputs, size_t outputs, const float *w, uint8_t *signs, float *scale)
{
    if (taps == 0 || inputs == 0 || outputs == 0 || w == NULL || signs == NULL || scale == NULL)
        return ET_BAD_ARGUMENT;
    const size_t count = taps * inputs * outputs;
    *scale = mean_magnitude(count, w, largest_magnitude(count, w));
    for (size_t o = 0; o < outputs; ++o) {
        const float *row = w + o;
        for (size_t tap = 0; tap < taps; ++tap)
            for (size_t i = 0; i < inputs; i += 8) {
                const size_t end = inputs - i < 8 ? inputs - i : 8;
                uint32_t byte = 0;
                for (size_t j = 0; j < end; ++j, row += outputs) {
                    const uint32_t word = et_bits_f32(*row);
                    byte |= (uint32_t)(word <= ET_INFINITY_BITS || word == ET_SIGN_BIT) << j;
                }
                *signs++ = (uint8_t)byte;
            }
    }
    return ET_OK;
}

/* numerator / tanh(largest magnitude); 0 where all weights count as 0. */
static float over_largest(size_t count, const float *w, float numerator)
{
    const uint32_t largest = largest_magnitude(count, w);
    return largest < LEAST_BITS ? 0.0f : numerator / et_tanh_f32(et_from_bits_f32(largest));
}

/* How far up a weight lies: 0 to levels. Never falls as the weight rises, because tanh never does. */
static inline uint32_t level_of(float w, float slope, float half)
{
    const float place = et_madd(et_tanh_f32(w), slope, half);
    return place > 0.0f ? (uint32_t)(int32_t)et_rint_f32(place) : 0u;
}

/* Words in the order of the floats. */
static inline uint32_t key_of(uint32_t word)
{
    return (word & ET_SIGN_BIT) != 0u ? ~word : word | ET_SIGN_BIT;
}

static inline float from_key(uint32_t key)
{
    return et_from_bits_f32((key & ET_SIGN_BIT) != 0u ? key & ~ET_SIGN_BIT : ~key);
}

/* The smallest key of each level from 1 on, by bisection: a few hundred times tanh, where there are thousands of
 * weights. No weight is larger than `largest`. */
static void find_thresholds(uint32_t levels, float slope, float half, uint32_t largest, uint32_t *thresholds)
{
    uint32_t low = key_of(largest | ET_SIGN_BIT);
    for (uint32_t level = 1; level <= levels; ++level) {
        uint32_t high = key_of(largest) + 1u;
        while (low < high) {
            const uint32_t middle = low + (high - low) / 2u;
            if (level_of(from_key(middle), slope, half) >= level)
                high = middle;
            else
                low = middle + 1u;
        }
        thresholds[level - 1u] = low;
    }
}

#define MOST_THRESHOLDS 31u
#define TRIES 32u /* of one bisection, at most */

/* One type of codes. The search among 2^bits - 1 thresholds is a full tree. */
#define CODES(TYPE, LARGEST)                                                                         \
    if (count == 0 || levels == 0u || levels > LARGEST || (levels & (levels + 1u)) != 0u             \
        || w == NULL || codes == NULL)                                                               \
        return ET_BAD_ARGUMENT;                                                                      \
    const float half = 0.5f * (float)(int32_t)levels, slope = over_largest(count, w, half);          \
    const uint32_t largest = largest_magnitude(count, w);                                            \
    if (levels <= MOST_THRESHOLDS && count / TRIES > levels && largest <= ET_INFINITY_BITS) {        \
        uint32_t thresholds[MOST_THRESHOLDS];                                                        \
        find_thresholds(levels, slope, half, largest, thresholds);                                   \
        for (size_t i = 0; i < count; ++i) {                                                         \
            const uint32_t key = key_of(et_bits_f32(w[i]));                                          \
            uint32_t level = 0;                                                                      \
            for (uint32_t step = (levels + 1u) / 2u; step > 0u; step /= 2u)                          \
                level += thresholds[level + step - 1u] <= key ? step : 0u;                           \
            codes[i] = (TYPE)((int32_t)(2u * level) - (int32_t)levels);                              \
        }                                                                                            \
        return ET_OK;                                                                                \
    }                                                                                                \
    for (size_t i = 0; i < count; ++i)                                                               \
        codes[i] = (TYPE)((int32_t)(2u * level_of(w[i], slope, half)) - (int32_t)levels);            \
    return ET_OK

et_status et_dorefa_weights_i8(size_t count, uint32_t levels, const float *w, int8_t *codes)
{
    CODES(int8_t, 127u);
}

et_status et_dorefa_weights_i16(size_t count, uint32_t levels, const float *w, int16_t *codes)
{
    CODES(int16_t, 255u);
}

et_status et_dorefa_weights_grad_f32(size_t count, const float *dy, const float *w, float *dw)
{
    if (count == 0 || dy == NULL || w == NULL || dw == NULL)
        return ET_BAD_ARGUMENT;
    const float inverse = over_largest(count, w, 1.0f);
    for (size_t i = 0; i < count; ++i) {
        const float slope = et_tanh_slope_f32(et_tanh_f32(w[i])) * inverse;
        dw[i] = dy[i] * slope;
    }
    return ET_OK;
}
