/* What becomes of the sums of an integer convolution or dense layer: the last stage that all forms of them share.
 *
 * A kernel makes the int32 sums of one pixel, some or all of its output channels, and hands them to an epilogue:
 *
 *     const et_epilogue end = et_epilogue_real(x_scale, w_scale, w_scale_step, bias, start);
 *     et_epilogue_row(&end, channel, count, sums, y + channel);
 *
 * There are four of them: float32 values, codes by thresholds, codes by multiply and shift, the sums
 * themselves. The bits do not depend on how rows and pixels are cut into calls.
 */
#ifndef ET_EPILOGUE_H
#define ET_EPILOGUE_H

#include "et_block.h"

typedef struct et_epilogue et_epilogue;

/* Finishes `count` channels from channel `first` on, of some pixels. sums[i] and y element i belong to channel first + i
 * of the first pixel; the pitches, in elements, lead to the next one. */
typedef void et_epilogue_function(const et_epilogue *end, int32_t first, int32_t count, int32_t pixels,
                                  const int32_t *sums, size_t sums_pitch, void *y, size_t pitch);

/* Made by the functions below; a pointer that an epilogue does not use is NULL. */
struct et_epilogue {
    et_epilogue_function *finish;
    size_t bytes; /* of one element of y */
    int32_t power; /* bytes are 2^power */
    const int32_t *start;
    const float *x_scale;
    const float *w_scale;
    int32_t w_scale_step;
    const float *bias;
    const int32_t *thresholds;
    int32_t levels;
    const int8_t *direction;
    const int32_t *multiplier;
    const int8_t *shift;
    int32_t zero;
    int32_t low;
    int32_t high;
};

/* y float32: real(sum + start[c]) * (x_scale * w_scale[c]), and with a bias madd(real, x_scale * w_scale[c], bias[c]),
 * where real() rounds once to float32.
 *   x_scale       float32, one
 *   w_scale       float32 [channels] with w_scale_step 1, or one for all channels with 0
 *   bias, start   [channels] or NULL; sum + start fits into int32
 */
et_epilogue et_epilogue_real(const float *x_scale, const float *w_scale, int32_t w_scale_step, const float *bias,
                             const int32_t *start);

/* y int8: how many of the thresholds of channel c are <= direction[c] * sum.
 *   thresholds    int32 [channels][levels], ascending in each row, levels at most 127
 *   direction     int8 [channels], +1 or -1; no sum is -2^31
 */
et_epilogue et_epilogue_codes(const int32_t *thresholds, int32_t levels, const int8_t *direction);

/* y int8: zero + (sum + start[c]) * multiplier[c] / 2^shift[c], rounded half to even, clamped to [low, high].
 *   start         int32 [channels]; sum + start fits into int32
 *   multiplier    int32 [channels], any
 *   shift         int8 [channels], 1 to 62
 *   channels      of the layer
 *   terms         products of two int8 in a sum
 *   low, high     within -128 to 127
 */
et_epilogue et_epilogue_requantized(const int32_t *start, const int32_t *multiplier, const int8_t *shift,
                                    int32_t channels, ptrdiff_t terms, int32_t zero, int32_t low,
                                    int32_t high);

/* y int32: the sum. Writes the product of the two scales to *y_scale at once, as et_fixed_product has it. */
et_epilogue et_epilogue_sums(const float *x_scale, const float *w_scale, float *y_scale);

/* What et_epilogue_requantized needs of one channel where the high half of each product decides its code: where scales rule
 * out ties, on a core that computes one number at a time. Half a unit and the zero point are added together. */
typedef struct {
    int32_t start;
    int32_t multiplier;
    int32_t half;
    int32_t shift;
    int32_t low;
    int32_t high;
} et_high_halves;

#if ET_SCALAR_CORE
/* Whether an epilogue, of any kind, is that one. */
bool et_epilogue_by_high_halves(const et_epilogue *end);

static inline et_high_halves et_high_halves_of(int32_t start, int32_t multiplier, int32_t shift, int32_t zero,
                                               int32_t low, int32_t high)
{
    const int32_t places = shift & 31;
    const et_high_halves halves = {
        .start = start,
        .multiplier = multiplier,
        .half = (2 * zero + 1) * (1 << (places - 1)), /* at most 2^28, to a high half of at most 2^30 */
        .shift = places,
        .low = low,
        .high = high,
    };
    return halves;
}

/* The code of a sum with its start. */
static inline int8_t et_high_code(int32_t sum, const et_high_halves *halves)
{
    int32_t code = ((int32_t)((int64_t)sum * halves->multiplier >> 32) + halves->half) >> halves->shift;
    if (code < halves->low)
        code = halves->low;
    if (code > halves->high)
        code = halves->high;
    return (int8_t)code;
}
#endif

static inline void et_epilogue_row(const et_epilogue *end, int32_t first, int32_t count, const int32_t *sums, void *y)
{
    end->finish(end, first, count, 1, sums, 0, y, 0);
}

/* The same of some pixels. */
static inline void et_epilogue_pixels(const et_epilogue *end, int32_t first, int32_t count, int32_t pixels,
                                      const int32_t *sums, size_t sums_pitch, void *y, size_t pitch)
{
    end->finish(end, first, count, pixels, sums, sums_pitch, y, pitch);
}

/* float32 of an exact sum, scaled: what et_epilogue_real computes of one channel, for sums of any width that have
 * become float32 in one rounding. */
static inline float et_epilogue_scaled(const et_epilogue *end, int32_t channel, float real)
{
    const float scale = *end->x_scale * end->w_scale[channel * end->w_scale_step];
    return end->bias == NULL ? real * scale : et_madd(real, scale, end->bias[channel]);
}

#endif
