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

/* The largest magnitude of a sum whose product leaves 2^30 for what is drawn. */
static uint32_t limit_of(const fixed_rate *rate)
{
    const uint32_t factor = (uint32_t)(rate->factor < 0 ? -rate->factor : rate->factor);
    return factor == 0u ? 0x3FFFFFFFu : 0x3FFFFFFFu / factor;
}

static int32_t long_step(const fixed_rate *rate, int32_t sum, int32_t drawn)
{
    return shifted((int64_t)sum * rate->factor + drawn, rate->k);
}

static inline int32_t step_of(const fixed_rate *rate, uint32_t limit, int32_t sum, uint32_t half)
{
    const int32_t drawn = draw(rate, half);
    if ((uint32_t)sum + limit > 2u * limit)
        return long_step(rate, sum, drawn);
    return (sum * rate->factor + drawn) >> rate->k;
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
    const uint32_t limit = limit_of(&rate);
    uint32_t four = 0;
    size_t left = count;
    for (; left >= 4; left -= 4, sums += 4, stored += 4, stored_next += 4) {
        const uint32_t random = et_random_at(key, four++), more = et_random_more(random);
        const int32_t a = stored[0] - step_of(&rate, limit, sums[0], random & 0xFFFFu);
        const int32_t b = stored[1] - step_of(&rate, limit, sums[1], random >> 16);
        const int32_t c = stored[2] - step_of(&rate, limit, sums[2], more & 0xFFFFu);
        const int32_t d = stored[3] - step_of(&rate, limit, sums[3], more >> 16);
        stored_next[0] = saturated(a);
        stored_next[1] = saturated(b);
        stored_next[2] = saturated(c);
        stored_next[3] = saturated(d);
    }
    uint32_t random = 0;
    for (uint32_t i = four << 2; left > 0; --left, ++i) {
        const uint32_t half = half_of(key, i, &random);
        *stored_next++ = saturated(*stored++ - step_of(&rate, limit, *sums++, half));
    }
    return ET_OK;
}

/* What x of at most VALUES adds to COLUMNS neighbouring weights, up to the random half and the lower 16 bits. */
enum { VALUES = 3, COLUMNS = 32 };

static bool all_are_small(size_t count, const int8_t *x)
{
    uint32_t largest = 0; /* a negative one counts as large */
    for (size_t i = 0; i < count; ++i) {
        const uint32_t value = (uint32_t)x[i];
        largest = value > largest ? value : largest;
    }
    return largest <= VALUES;
}

/* A weight in place of itself: what leaves the range is rare, and moves no other. */
#define MOVE(i, random_half)                                                 \
    {                                                                        \
        const int32_t value = w[i] - ((addend[i] + (random_half)) >> 16);    \
        w[i] = (int16_t)value;                                               \
        if (__builtin_expect((uint32_t)value + 32767u > 65534u, 0))          \
            w[i] = value < 0 ? -32767 : 32767;                               \
    }

static ET_NOINLINE void update_small(
    et_random_key_t key, uint32_t four, const int32_t *addend, const int32_t *end, int16_t *w)
{
    for (; addend != end; addend += 4, w += 4) {
        const uint32_t random = et_random_at(key, four++), more = et_random_more(random);
        MOVE(0, (int32_t)(random & 0xFFFFu))
        MOVE(1, (int32_t)(random >> 16))
        MOVE(2, (int32_t)(more & 0xFFFFu))
        MOVE(3, (int32_t)(more >> 16))
    }
}

/* All rows, where x has few values. */
static void update_by_values(
    const fixed_rate *rate, et_random_key_t key, size_t inputs, size_t outputs, const int8_t *x, const int8_t *g, int16_t *w)
{
    int32_t addends[VALUES][COLUMNS];
    for (size_t first = 0; first < outputs; first += COLUMNS, g += COLUMNS) {
        const size_t width = outputs - first < COLUMNS ? outputs - first : COLUMNS;
        for (int32_t value = 1; value <= VALUES; ++value)
            for (size_t j = 0; j < width; ++j)
                addends[value - 1][j] = (rate->factor * value * g[j] + rate->middle) >> rate->up;
        size_t at = first;
        for (size_t i = 0; i < inputs; ++i, at += outputs)
            if (x[i] != 0) {
                const int32_t *const addend = addends[x[i] - 1];
                update_small(key, (uint32_t)(at >> 2), addend, addend + width, w + at);
            }
    }
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
    if ((outputs & 3u) == 0u && rate.k >= 16 && all_are_small(inputs, x)) {
        update_by_values(&rate, key, inputs, outputs, x, g, stored_next);
        return ET_OK;
    }
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
