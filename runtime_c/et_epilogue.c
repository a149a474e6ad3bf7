#include "et_epilogue.h"

#include "et_scaled_sum.h"

static void finish_real(const et_epilogue *end, int32_t first, int32_t count, const int32_t *sums, void *y)
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

et_epilogue et_epilogue_real(const float *x_scale, const float *w_scale, int32_t w_scale_step, const float *bias,
                             const int32_t *start)
{
    const et_epilogue end = {
        .finish = finish_real,
        .bytes = sizeof(float),
        .start = start,
        .x_scale = x_scale,
        .w_scale = w_scale,
        .w_scale_step = w_scale_step,
        .bias = bias,
    };
    return end;
}

static void finish_codes(const et_epilogue *end, int32_t first, int32_t count, const int32_t *sums, void *y)
{
    int8_t *codes = y;
    const int32_t levels = end->levels;
    const int32_t *thresholds = end->thresholds + first * levels;
    for (int32_t i = 0; i < count; i++, thresholds += levels) {
        const int32_t sum = end->direction[first + i] < 0 ? -sums[i] : sums[i];
        int32_t code = 0;
        while (code < levels && thresholds[code] <= sum)
            code++;
        codes[i] = (int8_t)code;
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

static void finish_sums(const et_epilogue *end, int32_t first, int32_t count, const int32_t *sums, void *y)
{
    int32_t *values = y;
    (void)end;
    (void)first;
    for (int32_t i = 0; i < count; i++)
        values[i] = sums[i];
}

et_epilogue et_epilogue_sums(void)
{
    const et_epilogue end = {.finish = finish_sums, .bytes = sizeof(int32_t)};
    return end;
}

static void finish_requantized(const et_epilogue *end, int32_t first, int32_t count, const int32_t *sums, void *y)
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

et_epilogue et_epilogue_requantized(const int32_t *start, const int32_t *multiplier, const int8_t *shift, int32_t zero,
                                    int32_t low, int32_t high)
{
    const et_epilogue end = {
        .finish = finish_requantized,
        .bytes = sizeof(int8_t),
        .start = start,
        .multiplier = multiplier,
        .shift = shift,
        .zero = zero,
        .low = low,
        .high = high,
    };
    return end;
}
