/* Convolution of int16 codes: exact sums, then float32; any kernel size, stride, dilation, padding and groups.
 *
 *   x        int16 [batch][height][width][channels]
 *   w        int16 [kernel_h][kernel_w][channels/groups][out_channels]
 *   y        float32 [batch][out_height][out_width][out_channels], as et_epilogue_real has it
 *   scratch  twice et_conv_i8_scratch_bytes(shape), aligned to 2
 * Sums are int64 and below 2^53 in magnitude. Taps on padding read the code x_zero. What is written overlaps nothing
 * that is read. The border segments of the shape are not used.
 */
#ifndef ET_CONV_I16_WIDE_H
#define ET_CONV_I16_WIDE_H

#include "et_conv_shape.h"

ET_CHECKED et_status et_conv_i16_wide(const et_conv_shape *shape, int32_t x_zero, const int16_t *x, const int16_t *w,
                                 const float *x_scale, const float *w_scale, int32_t w_scale_step, const float *bias,
                                 const int32_t *start, void *scratch, float *y);

#endif
