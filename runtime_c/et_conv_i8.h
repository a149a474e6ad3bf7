/* Convolution of int8 codes: exact sums, then an epilogue; any kernel size, stride, dilation, padding and groups.
 *
 *   x        int8 [batch][height][width][channels]
 *   w        int8 [kernel_h][kernel_w][channels/groups][out_channels]
 *   y        [batch][out_height][out_width][out_channels]
 *   scratch  et_conv_i8_scratch_bytes(shape)
 * A sum, start included, fits into int32 (N7). Taps on padding read the code x_zero. What is written overlaps nothing
 * that is read. The border segments of the shape are not used.
 * Bits: sums are exact, so they have no order; the rest is said in et_epilogue.h. The same for every build.
 */
#ifndef ET_CONV_I8_H
#define ET_CONV_I8_H

#include "et_conv_shape.h"

/* Bytes of scratch: the inputs of four pixels, or of one where there are fewer. */
static inline size_t et_conv_i8_scratch_bytes(const et_conv_shape *shape)
{
    const size_t column = (size_t)shape->kernel_h * (size_t)shape->kernel_w * (size_t)(shape->channels / shape->groups);
    return shape->batch * shape->out_height * shape->out_width < 4 ? column : 4 * column;
}

/* y float32, as et_epilogue_real has it. */
ET_CHECKED et_status et_conv_i8(const et_conv_shape *shape, int32_t x_zero, const int8_t *x, const int8_t *w,
                                const float *x_scale, const float *w_scale, int32_t w_scale_step, const float *bias,
                                const int32_t *start, void *scratch, float *y);

/* y int8, as et_epilogue_codes has it. */
ET_CHECKED et_status et_conv_codes_i8(const et_conv_shape *shape, int32_t x_zero, int32_t levels, const int8_t *x,
                                      const int8_t *w, const int32_t *thresholds, const int8_t *direction,
                                      void *scratch, int8_t *y);

/* y int8, as et_epilogue_requantized has it. */
ET_CHECKED et_status et_conv_requantized_i8(const et_conv_shape *shape, int32_t x_zero, int32_t zero, int32_t low,
                                            int32_t high, const int8_t *x, const int8_t *w, const int32_t *start,
                                            const int32_t *multiplier, const int8_t *shift, void *scratch, int8_t *y);

#endif
