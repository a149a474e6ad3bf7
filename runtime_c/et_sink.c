#include "et_sink.h"

et_sink et_sink_gradient(int32_t accumulate)
{
#if ET_WALK
    const et_sink sink = {.mode = accumulate == 1 ? ET_SINK_ADD : ET_SINK_STORE, .goes_on = accumulate == 2};
#else
    const et_sink sink = {.mode = accumulate ? ET_SINK_ADD : ET_SINK_STORE};
#endif
    return sink;
}

et_sink et_sink_update(float learning_rate, float weight_decay)
{
    const et_sink sink = {.mode = ET_SINK_UPDATE, .back = -learning_rate, .weight_decay = weight_decay};
    return sink;
}

et_status et_sink_status(const et_sink *sink)
{
    return sink->failed ? ET_NONFINITE_GRADIENT : ET_OK;
}

static void store(int32_t count, const float *ET_RESTRICT sums, float *ET_RESTRICT target)
{
    for (int32_t i = 0; i < count; i++)
        target[i] = sums[i];
}

static void add(int32_t count, const float *ET_RESTRICT sums, float *ET_RESTRICT target)
{
    for (int32_t i = 0; i < count; i++)
        target[i] += sums[i];
}

/* Whether all sums were finite. */
static bool update(const et_sink *sink, int32_t count, const float *ET_RESTRICT sums, float *ET_RESTRICT w)
{
    const float back = sink->back, weight_decay = sink->weight_decay;
    const bool decays = weight_decay != 0.0f;
    uint32_t finite = 1u;
    for (int32_t i = 0; i < count; i++) {
        const float weight = w[i], sum = sums[i];
        const float next = et_madd(back, decays ? et_madd(weight_decay, weight, sum) : sum, weight);
        const bool good = et_is_finite_f32(sum);
        finite &= good;
        w[i] = good ? next : weight;
    }
    return finite != 0u;
}

bool et_sink_momentum_rule(const et_sink *sink, int32_t count, const float *ET_RESTRICT sums, float *ET_RESTRICT w)
{
    const float back = sink->back, weight_decay = sink->weight_decay, momentum = sink->momentum;
    const bool decays = weight_decay != 0.0f, nesterov = sink->nesterov;
    float *ET_RESTRICT velocity = sink->first + (w - sink->base);
    uint32_t finite = 1u;
    for (int32_t i = 0; i < count; i++) {
        const float weight = w[i], old = velocity[i], sum = sums[i];
        const float g = decays ? et_madd(weight_decay, weight, sum) : sum;
        const float v = et_madd(momentum, old, g);
        const float next = et_madd(back, nesterov ? et_madd(momentum, v, g) : v, weight);
        const bool good = et_is_finite_f32(sum);
        finite &= good;
        velocity[i] = good ? v : old;
        w[i] = good ? next : weight;
    }
    return finite != 0u;
}

bool et_sink_adam_rule(const et_sink *sink, int32_t count, const float *ET_RESTRICT sums, float *ET_RESTRICT w)
{
    const et_adam constants = *sink->adam;
    const float back = sink->back, correction = sink->correction;
    const bool decays = constants.weight_decay != 0.0f;
    float *ET_RESTRICT m = sink->first + (w - sink->base);
    float *ET_RESTRICT v = sink->second + (w - sink->base);
    uint32_t finite = 1u;
    for (int32_t i = 0; i < count; i++) {
        const float weight = w[i], sum = sums[i];
        const float g = decays ? et_madd(constants.weight_decay, weight, sum) : sum;
        const float mean = et_madd(constants.rate1, g - m[i], m[i]);
        const float square = et_madd(constants.rate2 * g, g, constants.beta2 * v[i]);
        const float divisor = et_sqrt_f32(square) / correction + constants.epsilon;
        const float next = et_madd(back, mean / divisor, weight);
        const bool good = et_is_finite_f32(sum);
        finite &= good;
        m[i] = good ? mean : m[i];
        v[i] = good ? square : v[i];
        w[i] = good ? next : weight;
    }
    return finite != 0u;
}

#if ET_LANES == 1 && !ET_SMALL_TILES
/* The same without weight decay, if all sums are finite; gives false, and has changed nothing, if not. */
static bool update_all(float back, int32_t rows, int32_t columns, const float *sums, ptrdiff_t pitch, float *target,
                       ptrdiff_t target_pitch)
{
    et_watch watch = ET_WATCH_START;
    const float *row = sums;
    for (int32_t left = rows; left != 0; left--, row += pitch)
        for (int32_t i = 0; i < columns; i++)
            ET_WATCH(watch, row[i])
    if (!ET_WATCH_IS_GOOD(watch))
        return false;
    for (; rows != 0; rows--, sums += pitch, target += target_pitch)
        for (int32_t i = 0; i < columns; i++)
            target[i] = et_madd(back, sums[i], target[i]);
    return true;
}
#endif

void et_sink_take(et_sink *sink, int32_t rows, int32_t columns, const float *sums, ptrdiff_t pitch, float *target,
                  ptrdiff_t target_pitch)
{
    if (pitch == columns && target_pitch == columns) { /* one long row */
        columns *= rows;
        rows = 1;
    }
#if ET_LANES == 1 && !ET_SMALL_TILES
    if (sink->mode == ET_SINK_UPDATE && et_sink_is_direct(sink)
        && update_all(sink->back, rows, columns, sums, pitch, target, target_pitch))
        return;
#endif
    for (; rows != 0; rows--, sums += pitch, target += target_pitch) {
        if (sink->mode == ET_SINK_UPDATE)
            sink->failed |= !update(sink, columns, sums, target);
        else if (sink->mode == ET_SINK_RULE)
            sink->failed |= !sink->rule(sink, columns, sums, target);
        else if (sink->mode == ET_SINK_ADD)
            add(columns, sums, target);
        else
            store(columns, sums, target);
    }
}

/* The largest magnitude, as bits: infinities and NaN are the largest of all. */
#define ET_LARGER(m, j)                                                       \
    {                                                                         \
        const uint32_t twice = et_bits_f32(x[j]) << 1; /* without its sign */ \
        largest = twice > largest ? twice : largest;                          \
    }
static uint32_t largest_magnitude(size_t count, const float *x)
{
    uint32_t largest = 0u;
#if ET_LANES == 1 && !ET_SMALL_CODE
    for (; count >= 4; count -= 4, x += 4) {
        ET_COLUMNS_4(ET_LARGER, 0)
    }
#endif
    for (; count != 0; count--, x++)
        ET_LARGER(0, 0)
    return largest >> 1;
}

#if ET_LANES == 1 && ET_HAS_FMA && !ET_SMALL_CODE
#define ET_SQUARE(m, j) sum = et_madd(x[j], x[j], sum);

/* Whether the sum of all squares is at most 2^120: then no magnitude is above 2^60, for a sum of what is not negative is
 * at least each of its terms, rounded as it may be. NaN is not at most anything. */
static ET_NOINLINE bool are_moderate(size_t count, const float *x)
{
    float sum = 0.0f;
    for (; count >= 8; count -= 8, x += 8) {
        ET_COLUMNS_8(ET_SQUARE, 0)
    }
    for (; count != 0; count--, x++)
        ET_SQUARE(0, 0)
    return sum <= 0x1p120f;
}
#else
#define are_moderate(count, x) false
#endif

bool et_products_finite(size_t count_x, const float *x, size_t count_y, const float *y)
{
    if (are_moderate(count_x, x) && are_moderate(count_y, y))
        return true;
    const float a = et_from_bits_f32(largest_magnitude(count_x, x));
    const float b = et_from_bits_f32(largest_magnitude(count_y, y));
    return et_is_finite_f32(a * b);
}
