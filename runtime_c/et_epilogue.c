#include "et_epilogue.h"

#include "et_fixed_scale.h"
#include "et_integer.h"
#include "et_scaled_sum.h"

#if ET_SCALAR_CORE
/* Channels outside, so that what belongs to one stays in registers for all pixels. */
static void finish_real(const et_epilogue *end, int32_t first, int32_t count, int32_t pixels, const int32_t *sums,
                        size_t sums_pitch, void *y, size_t pitch)
{
    float *values = y, scale = *end->x_scale * end->w_scale[first * end->w_scale_step];
    for (int32_t channel = first; channel < first + count; channel++, sums++, values++) {
        const int32_t start = end->start == NULL ? 0 : end->start[channel], *from = sums;
        float *to = values;
        if (channel > first && end->w_scale_step != 0)
            scale = *end->x_scale * end->w_scale[channel];
        if (end->bias == NULL) {
            for (int32_t left = pixels; left > 0; left--, from += sums_pitch, to += pitch)
                *to = et_scaled_sum_f32(*from + start, scale);
        } else {
            const float bias = end->bias[channel];
            for (int32_t left = pixels; left > 0; left--, from += sums_pitch, to += pitch)
                *to = et_scaled_sum_added_f32(*from + start, scale, bias);
        }
    }
}
#else
static void real_row(const et_epilogue *end, int32_t first, int32_t count, const int32_t *sums, void *y)
{
    float *values = y, scale = *end->x_scale * end->w_scale[first * end->w_scale_step];
    for (int32_t i = 0; i < count; i++) {
        const int32_t channel = first + i, sum = end->start == NULL ? sums[i] : sums[i] + end->start[channel];
        if (i > 0 && end->w_scale_step != 0)
            scale = *end->x_scale * end->w_scale[channel];
        values[i] = end->bias == NULL ? et_scaled_sum_f32(sum, scale)
                                      : et_scaled_sum_added_f32(sum, scale, end->bias[channel]);
    }
}

static void finish_real(const et_epilogue *end, int32_t first, int32_t count, int32_t pixels, const int32_t *sums,
                        size_t sums_pitch, void *y, size_t pitch)
{
    float *to = y;
    for (; pixels > 0; pixels--, sums += sums_pitch, to += pitch)
        real_row(end, first, count, sums, to);
}
#endif

et_epilogue et_epilogue_real(const float *x_scale, const float *w_scale, int32_t w_scale_step, const float *bias,
                             const int32_t *start)
{
    const et_epilogue end = {
        .finish = finish_real,
        .bytes = sizeof(float),
        .power = 2,
        .start = start,
        .x_scale = x_scale,
        .w_scale = w_scale,
        .w_scale_step = w_scale_step,
        .bias = bias,
    };
    return end;
}

/* One channel of some pixels; `levels`, 1 or 3, and `down` are known when compiling. */
ET_INLINE void count_thresholds(const int32_t *thresholds, int32_t levels, bool down, int32_t pixels,
                                const int32_t *sums, size_t sums_pitch, int8_t *codes, size_t pitch)
{
    const int32_t lowest = thresholds[0], middle = levels == 3 ? thresholds[1] : 0;
    const int32_t highest = levels == 3 ? thresholds[2] : 0;
    for (; pixels > 0; pixels--, sums += sums_pitch, codes += pitch) {
        const int32_t sum = down ? -*sums : *sums;
        int32_t code = levels - (sum < lowest); /* without branches: which way they go, nobody can foretell */
        if (levels == 3)
            code -= (sum < middle) + (sum < highest);
        *codes = (int8_t)code;
    }
}

static void search_thresholds(const int32_t *thresholds, int32_t levels, bool down, int32_t pixels,
                              const int32_t *sums, size_t sums_pitch, int8_t *codes, size_t pitch)
{
    for (; pixels > 0; pixels--, sums += sums_pitch, codes += pitch) {
        const int32_t sum = down ? -*sums : *sums;
        int32_t code = 0;
        while (code < levels && thresholds[code] <= sum)
            code++;
        *codes = (int8_t)code;
    }
}

/* Channels outside, so that the thresholds of one stay in registers for all pixels. */
static void finish_codes(const et_epilogue *end, int32_t first, int32_t count, int32_t pixels, const int32_t *sums,
                         size_t sums_pitch, void *y, size_t pitch)
{
    int8_t *codes = y;
    const int32_t levels = end->levels;
    const int32_t *thresholds = end->thresholds + first * levels;
    const int8_t *direction = end->direction + first;
    for (; count > 0; count--, thresholds += levels, sums++, codes++) {
        const bool down = *direction++ < 0;
        if (levels == 3 && !down)
            count_thresholds(thresholds, 3, false, pixels, sums, sums_pitch, codes, pitch);
        else if (levels == 3)
            count_thresholds(thresholds, 3, true, pixels, sums, sums_pitch, codes, pitch);
        else if (levels == 1)
            count_thresholds(thresholds, 1, down, pixels, sums, sums_pitch, codes, pitch);
        else
            search_thresholds(thresholds, levels, down, pixels, sums, sums_pitch, codes, pitch);
    }
}

et_epilogue et_epilogue_codes(const int32_t *thresholds, int32_t levels, const int8_t *direction)
{
    const et_epilogue end = {
        .finish = finish_codes,
        .bytes = sizeof(int8_t),
        .thresholds = thresholds,
        .levels = levels,
        .direction = direction,
    };
    return end;
}

static void sums_row(const et_epilogue *end, int32_t first, int32_t count, const int32_t *sums, void *y)
{
    int32_t *values = y;
    (void)end;
    (void)first;
    for (int32_t i = 0; i < count; i++)
        values[i] = sums[i];
}

static void finish_sums(const et_epilogue *end, int32_t first, int32_t count, int32_t pixels, const int32_t *sums,
                        size_t sums_pitch, void *y, size_t pitch)
{
    int32_t *to = y;
    for (; pixels > 0; pixels--, sums += sums_pitch, to += pitch)
        sums_row(end, first, count, sums, to);
}

et_epilogue et_epilogue_sums(const float *x_scale, const float *w_scale, float *y_scale)
{
    *y_scale = et_fixed_product(*x_scale, *w_scale);
    const et_epilogue end = {.finish = finish_sums, .bytes = sizeof(int32_t), .power = 2};
    return end;
}

static void requantized_row(const et_epilogue *end, int32_t first, int32_t count, const int32_t *sums, void *y)
{
    int8_t *codes = y;
    for (int32_t i = 0; i < count; i++) {
        const int32_t channel = first + i, shift = end->shift[channel];
        const int64_t product = (int64_t)(sums[i] + end->start[channel]) * end->multiplier[channel];
        /* Half a unit less one, and one more where the whole part is odd: ties go to the even neighbour. */
        const int64_t up = (((int64_t)1 << (shift - 1)) - 1) + ((product >> shift) & 1);
        const int64_t code = ((product + up) >> shift) + end->zero;
        codes[i] = (int8_t)(code < end->low ? end->low : code > end->high ? end->high : code);
    }
}

static void finish_requantized(const et_epilogue *end, int32_t first, int32_t count, int32_t pixels, const int32_t *sums,
                               size_t sums_pitch, void *y, size_t pitch)
{
    int8_t *to = y;
    for (; pixels > 0; pixels--, sums += sums_pitch, to += pitch)
        requantized_row(end, first, count, sums, to);
}

#if ET_SCALAR_CORE
/* Whether the high half of each product decides its code. A tie is an odd multiple of 2^(shift - 1); where the lowest
 * bit of the multiplier times any possible sum stays below it, there is none. Without ties half a unit is added, and no
 * bit of the low half reaches the code. */
static bool high_halves_do(const et_epilogue *end, int32_t channels, ptrdiff_t terms)
{
    if (terms > 1 << 16)
        return false;
    for (int32_t c = 0; c < channels; c++) {
        const uint32_t bits = (uint32_t)end->multiplier[c], lowest = bits & (0u - bits);
        const uint32_t size = (uint32_t)end->start[c], start = end->start[c] < 0 ? 0u - size : size;
        const uint32_t largest = ((uint32_t)terms << 14) + start;
        const int32_t shift = end->shift[c];
        if (shift < 33 || shift > 52 || (uint64_t)lowest * largest >> (shift - 1) != 0)
            return false;
    }
    return true;
}

/* Channels outside, so that what belongs to one stays in registers for all pixels. */
static void finish_high_halves(const et_epilogue *end, int32_t first, int32_t count, int32_t pixels,
                               const int32_t *sums, size_t sums_pitch, void *y, size_t pitch)
{
    const int32_t *starts = end->start + first, *multipliers = end->multiplier + first;
    const int8_t *shifts = end->shift + first;
    const int32_t zero = end->zero, low = end->low, high = end->high;
    const bool column = !ET_SMALL_CODE && pixels == ET_COLUMN && sums_pitch == ET_BLOCK_CHANNELS;
    int8_t *codes = y;
    for (const int8_t *last = codes + count; codes != last; sums++, codes++) {
        const et_high_halves halves = et_high_halves_of(*starts++, *multipliers++, *shifts++, zero, low, high);
        const int32_t *from = sums;
        int8_t *to = codes;
        if (column) {
            ET_UNROLL for (int32_t m = 0; m < ET_COLUMN; m++, from += ET_BLOCK_CHANNELS, to += pitch)
                *to = et_high_code(*from + halves.start, &halves);
            continue;
        }
        for (int32_t left = pixels; left > 0; left--, from += sums_pitch, to += pitch)
            *to = et_high_code(*from + halves.start, &halves);
    }
}

bool et_epilogue_by_high_halves(const et_epilogue *end)
{
    return end->finish == finish_high_halves;
}
#endif

et_epilogue et_epilogue_requantized(const int32_t *start, const int32_t *multiplier, const int8_t *shift,
                                    int32_t channels, ptrdiff_t terms, int32_t zero, int32_t low,
                                    int32_t high)
{
    et_epilogue end = {
        .finish = finish_requantized,
        .bytes = sizeof(int8_t),
        .start = start,
        .multiplier = multiplier,
        .shift = shift,
        .zero = zero,
        .low = low,
        .high = high,
    };
#if ET_SCALAR_CORE
    if (high_halves_do(&end, channels, terms))
        end.finish = finish_high_halves;
#else
    (void)channels;
    (void)terms;
#endif
    return end;
}
