/* See et_fixed_sgd.h. */
#include "et_fixed_sgd.h"

#include "et_block.h"
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

static inline int32_t draw(const fixed_rate *rate, uint32_t half)
{
    return (int32_t)((half >> rate->down) << rate->up) + rate->middle;
}

/* The 16 random bits of an element; `random` is what its pair shares, and follows elements in turn. */
static inline uint32_t half_of(et_random_key_t key, uint32_t index, uint32_t *random)
{
    if ((index & 1u) != 0u)
        return *random >> 16;
    *random = (index & 2u) == 0u ? et_random_at(key, index >> 2) : et_random_more(*random);
    return *random & 0xFFFFu;
}

static inline int16_t saturated(int32_t value)
{
    return (int16_t)((uint32_t)(value + 32767) <= 65534u ? value : value < 0 ? -32767 : 32767);
}

/* value >> k, within [-65535, 65535], which saturates a weight all the same. In halves: cores of 32 bits shift them much
 * faster than the whole. */
static inline int32_t shifted(int64_t value, int32_t k)
{
    const uint32_t low = (uint32_t)value;
    const int32_t high = (int32_t)(value >> 32), rest = high >> k;
    const int32_t result = (int32_t)((low >> k) | ((uint32_t)high << (32 - k)));
    if (rest == result >> 31 && (uint32_t)result + 65535u <= 131070u)
        return result;
    return high < 0 ? -65535 : 65535;
}

et_status et_fixed_sgd_i16(
    size_t count, int32_t exponent, float learning_rate, uint32_t seed, uint32_t step, uint32_t stream,
    const int32_t *sums, const float *scale, const int16_t *stored, int16_t *stored_next)
{
    const int32_t unit = et_fixed_exponent(*scale);
    const float scaled = learning_rate * et_fixed_factor(*scale);
    if (unit == ET_NO_EXPONENT || !et_is_finite_f32(scaled))
        return ET_NONFINITE_GRADIENT;
    const fixed_rate rate = rate_of(scaled, unit - exponent);
    const et_random_key_t key = et_random_key(seed, step, stream);
    uint32_t random = 0;
    for (size_t i = 0; i < count; ++i) {
        const uint32_t half = half_of(key, (uint32_t)i, &random);
        const int64_t product = (int64_t)sums[i] * rate.factor + draw(&rate, half);
        stored_next[i] = saturated(stored[i] - shifted(product, rate.k));
    }
    return ET_OK;
}

/* A row of weights, four for each random number; most steps are a fraction of the resolution, so t is often 0. */
static ET_NOINLINE void update_fours(
    const fixed_rate *rate, et_random_key_t key, uint32_t four, size_t count, int32_t factor, const int8_t *g, int16_t *w)
{
    const int32_t k = rate->k, up = rate->up, middle = rate->middle;
    for (const int8_t *end = g + count; g != end; ++four) {
        uint32_t random = et_random_at(key, four);
        ET_UNROLL
        for (int pair = 0; pair < 2; ++pair, g += 2, w += 2, random = et_random_more(random)) {
            const int32_t first = factor * g[0] + middle, second = factor * g[1] + middle;
            const int32_t low = (int32_t)((random & 0xFFFFu) << up), high = (int32_t)((random >> 16) << up);
            const int32_t t0 = (first + low) >> k, t1 = (second + high) >> k;
            if (t0 != 0)
                w[0] = saturated(w[0] - t0);
            if (t1 != 0)
                w[1] = saturated(w[1] - t1);
        }
    }
}

/* A row of weights of any length and rate, element `index` first. */
static void update_row(
    const fixed_rate *rate, et_random_key_t key, uint32_t index, size_t count, int32_t factor, const int8_t *g, int16_t *w)
{
    uint32_t random = et_random_at(key, index >> 2);
    if ((index & 3u) == 3u)
        random = et_random_more(random);
    for (size_t j = 0; j < count; ++j, ++index)
        w[j] = saturated(w[j] - ((factor * g[j] + draw(rate, half_of(key, index, &random))) >> rate->k));
}

et_status et_fixed_outer_sgd_i16(
    size_t inputs, size_t outputs, int32_t exponent, float learning_rate, uint32_t seed, uint32_t step, uint32_t stream,
    const int8_t *x, const int8_t *g, const float *x_scale, const float *g_scale, const int16_t *stored,
    int16_t *stored_next)
{
    const float scale = et_fixed_product(*x_scale, *g_scale);
    const int32_t unit = et_fixed_exponent(scale);
    const float scaled = learning_rate * et_fixed_factor(scale);
    if (unit == ET_NO_EXPONENT || !et_is_finite_f32(scaled))
        return ET_NONFINITE_GRADIENT;
    const fixed_rate rate = rate_of(scaled, unit - exponent);
    const et_random_key_t key = et_random_key(seed, step, stream);
    for (size_t i = 0; stored != stored_next && i < inputs * outputs; ++i)
        stored_next[i] = stored[i];
    for (size_t i = 0; i < inputs; ++i) {
        /* Below 2^30, as is what is added: 127 * 2^16 * 127. */
        const int32_t factor = x[i] * rate.factor;
        if (factor == 0) /* t is 0 */
            continue;
        const uint32_t first = (uint32_t)(i * outputs);
        if ((outputs & 3u) == 0u && rate.k >= 16)
            update_fours(&rate, key, first >> 2, outputs, factor, g, stored_next + first);
        else
            update_row(&rate, key, first, outputs, factor, g, stored_next + first);
    }
    return ET_OK;
}
