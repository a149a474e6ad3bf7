/* Both gradients of a convolution of int16 codes: exact sums, then float32; any stride, dilation, padding and groups.
 *
 *   data gradient    dx = real(sum over taps and output channels of g * w) * (g_scale[n] * w_scale)
 *   weight gradient  dw = real(sum over pixels of x * g) * (x_scale * g_scale)         g_scale_step 0
 *                    dw = real(sum of sample 0) * (x_scale * g_scale[0]), then for n = 1, 2, ...
 *                    dw = madd(real(sum of sample n), x_scale * g_scale[n], dw)        g_scale_step 1
 *
 *   x        int16 [batch][height][width][channels]
 *   w        int16 [kernel_h][kernel_w][channels/groups][out_channels]
 *   g        int16 [batch][out_height][out_width][out_channels]
 *   dx, dw   float32, as x and w; real() rounds once to float32
 *   g_scale  float32 [batch] with g_scale_step 1, or one for all with 0; x_scale, w_scale: one
 *   scratch  et_conv_grad_input_i16_wide_scratch_bytes(shape)
 * Sums are int64 and below 2^53 in magnitude. Taps on padding count as nothing. What is written overlaps nothing that is read. The border segments of the
 * shape are not used. Bits: the same for every build.
 */
#ifndef ET_CONV_GRAD_I16_WIDE_H
#define ET_CONV_GRAD_I16_WIDE_H

#include "et_conv_shape.h"

/* Bytes of scratch: the weights of a group turned, and the gradients that four pixels read. */
static inline size_t et_conv_grad_input_i16_wide_scratch_bytes(const et_conv_shape *shape)
{
    const size_t taps = (size_t)shape->kernel_h * (size_t)shape->kernel_w;
    const size_t outputs = (size_t)(shape->out_channels / shape->groups);
    if (shape->batch * shape->height * shape->width < 4)
        return 0;
    return 2 * taps * outputs * (4 + (size_t)(shape->channels / shape->groups));
}

ET_CHECKED et_status et_conv_grad_input_i16_wide(const et_conv_shape *shape, const int16_t *g, const int16_t *w,
                                             const float *g_scale, int32_t g_scale_step, const float *w_scale,
                                             void *scratch, float *dx);

/* The same for weights of +1 and -1 as packed signs (et_signs_i8.h), unpacked `block` inputs at a time; block is a
 * multiple of 8. Scratch: 2 * kernel_h * kernel_w * (out_channels / groups) * (block + 4) bytes. */
ET_CHECKED et_status et_conv_grad_input_signs_i16_wide(const et_conv_shape *shape, const int16_t *g, const uint8_t *signs,
                                                   const float *g_scale, int32_t g_scale_step, const float *w_scale,
                                                   int32_t block, void *scratch, float *dx);

ET_CHECKED et_status et_conv_grad_weight_i16_wide(const et_conv_shape *shape, const int16_t *x, const int16_t *g,
                                              const float *x_scale, const float *g_scale, int32_t g_scale_step,
                                              float *dw);

/* The same gradient, complete for one weight after the other, at once applied by plain SGD, without memory for it:
 *   dw = madd(weight_decay, w, dw)       unless weight_decay is 0
 *   w  = madd(-learning_rate, dw, w)
 * Where a dw (before weight_decay) is not finite, w is left as it was; all others are updated, and the status is
 * ET_NONFINITE_GRADIENT (N8).
 */
ET_CHECKED et_status et_conv_update_i16_wide(const et_conv_shape *shape, float learning_rate, float weight_decay,
                                            const int16_t *x, const int16_t *g, const float *x_scale,
                                            const float *g_scale, int32_t g_scale_step, float *w);

#endif
