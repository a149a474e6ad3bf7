/* See et_fixed_sgd.h. */
#include "et_fixed_sgd.h"

#include "et_fixed_scale.h"
#include "et_random.h"

/* What multiplies a sum, and how a half of a random number becomes r. */
typedef struct {
    int32_t factor; /* M, with the sign of the learning rate */
    int32_t k;
    int32_t up;
    int32_t down;
    int32_t middle;
} fixed_rate;

static fixed_rate rate_of(float learning_rate, int32_t exponent)
{
    const uint32_t word = et_bits_f32(learning_rate), biased = (word << 1) >> 24;
    uint32_t factor = biased == 0u ? 0u : (((word & 0x7FFFFFu) | 0x800000u) + 128u) >> 8;
    int32_t k = 142 - (int32_t)biased - exponent;
    if (k > 30) {
        const int32_t drop = k - 30;
        factor = drop > 17 ? 0u : (factor + (1u << (drop - 1))) >> drop;
        k = 30;
    } else if (k < 1) {
        factor = biased == 0u ? 0u : 65535u;
        k = 1;
    }
    const fixed_rate rate = {
        .factor = (int32_t)word < 0 ? -(int32_t)factor : (int32_t)factor,
        .k = k,
        .up = k > 16 ? k - 16 : 0,
        .down = k < 16 ? 16 - k : 0,
        .middle = k > 16 ? 1 << (k - 17) : 0,
    };
    return rate;
}

static inline int32_t draw(const fixed_rate *rate, uint32_t random)
{
    return (int32_t)(((random & 0xFFFFu) >> rate->down) << rate->up) + rate->middle;
}

static inline int16_t saturated(int32_t value)
{
    return (int16_t)((uint32_t)(value + 32767) <= 65534u ? value : value < 0 ? -32767 : 32767);
}

et_status et_fixed_sgd_i16(
    size_t count, int32_t exponent, float learning_rate, uint32_t seed, uint32_t step, uint32_t stream,
    const int32_t *sums, const float *scale, const int16_t *stored, int16_t *stored_next)
{
    const int32_t unit = et_fixed_exponent(*scale);
    if (unit == ET_NO_EXPONENT || !et_is_finite_f32(learning_rate))
        return ET_NONFINITE_GRADIENT;
    const fixed_rate rate = rate_of(learning_rate, unit - exponent);
    const et_random_key_t key = et_random_key(seed, step, stream);
    for (size_t i = 0; i < count;) {
        const size_t end = count - i < 2 ? count : i + 2;
        for (uint32_t random = et_random_at(key, (uint32_t)(i >> 1)); i < end; ++i, random >>= 16) {
            const int64_t t = ((int64_t)sums[i] * rate.factor + draw(&rate, random)) >> rate.k;
            const int64_t next = stored[i] - t;
            stored_next[i] = (int16_t)(next > 32767 ? 32767 : next < -32767 ? -32767 : next);
        }
    }
    return ET_OK;
}

et_status et_fixed_outer_sgd_i16(
    size_t inputs, size_t outputs, int32_t exponent, float learning_rate, uint32_t seed, uint32_t step, uint32_t stream,
    const int8_t *x, const int8_t *g, const float *x_scale, const float *g_scale, const int16_t *stored,
    int16_t *stored_next)
{
    const int32_t unit = et_fixed_product(et_fixed_exponent(*x_scale), et_fixed_exponent(*g_scale));
    if (unit == ET_NO_EXPONENT || !et_is_finite_f32(learning_rate))
        return ET_NONFINITE_GRADIENT;
    const fixed_rate rate = rate_of(learning_rate, (unit < -126 ? -126 : unit) - exponent);
    const et_random_key_t key = et_random_key(seed, step, stream);
    uint32_t index = 0, random = 0;
    for (size_t i = 0; i < inputs; ++i) {
        /* Below 2^30, as is what is added: 127 * 2^16 * 127. */
        const int32_t factor = x[i] * rate.factor;
        const size_t next_row = (i + 1) * outputs;
        if (factor == 0) { /* t is 0 */
            for (; stored != stored_next && index < next_row; ++index)
                stored_next[index] = stored[index];
            index = (uint32_t)next_row;
            random = (index & 1u) != 0u ? et_random_at(key, index >> 1) >> 16 : 0u;
            continue;
        }
        const int8_t *column = g;
        if (((index | outputs) & 1u) == 0u && rate.k >= 16) {
            for (; index < next_row; index += 2, column += 2) {
                random = et_random_at(key, index >> 1);
                const int32_t first = (int32_t)((random & 0xFFFFu) << rate.up) + rate.middle;
                const int32_t second = (int32_t)((random >> 16) << rate.up) + rate.middle;
                stored_next[index] = saturated(stored[index] - ((factor * column[0] + first) >> rate.k));
                stored_next[index + 1] = saturated(stored[index + 1] - ((factor * column[1] + second) >> rate.k));
            }
            continue;
        }
        for (; index < next_row; ++index, ++column, random >>= 16) {
            if ((index & 1u) == 0u)
                random = et_random_at(key, index >> 1);
            stored_next[index] = saturated(stored[index] - ((factor * *column + draw(&rate, random)) >> rate.k));
        }
    }
    return ET_OK;
}
