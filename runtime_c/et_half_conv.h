/* Convolutions and dense layers on binary16 or bfloat16 with sums of float32; and their gradients.
 *
 *   x        uint16 [batch][height][width][channels]
 *   y, dy    uint16 [batch][out_height][out_width][out_channels]; dy times the scale of the gradients
 *   dx       float32, like x
 *   w        [kernel_h][kernel_w][channels/groups][out_channels], row-major: float32, rounded to the format as it is
 *            read, or uint16 in the format (`stored`)
 *   dw       float32, like w
 *   bias     float32 [out_channels], or NULL
 * What is written overlaps nothing that is read. Any values, also not finite. Formats and rounding: et_half.h.
 *
 * Order and multiply-adds of et_conv.h, et_conv_grad_input.h and et_conv_grad_weight.h on the decoded values.
 *
 * scratch, float32, aligned to 4 bytes; a block of b channels is decoded at a time, taps = kernel_h * kernel_w, i and o
 * input and output channels of one group, p = min(o, 16):
 *   forward           height * width * i + b * (taps * i + out_height * out_width)          b <= p
 *   gradient of x     out_height * out_width * o + b * (taps * o + height * width)          b <= i
 *   gradient of w     batch * (height * width * b + out_height * out_width * p) + taps * b * p    b <= i
 */
#ifndef ET_HALF_CONV_H
#define ET_HALF_CONV_H

#include "et_conv_shape.h"
#include "et_half_rows.h"

/* y = the sums, rounded to the format */
ET_CHECKED et_status et_half_conv(const et_conv_shape *shape, const et_half_form *form, const uint16_t *x,
                                  const void *w, const float *bias, uint16_t *y, void *scratch);

/* dx = the sums * unscale */
ET_CHECKED et_status et_half_conv_grad_input(const et_conv_shape *shape, const et_half_form *form, const uint16_t *dy,
                                             const void *w, float *dx, void *scratch);

/* dw = the sums, rounded to the format, * unscale */
ET_CHECKED et_status et_half_conv_grad_weight(const et_conv_shape *shape, const et_half_form *form, const uint16_t *x,
                                              const uint16_t *dy, float *dw, void *scratch);

/* w = madd(-learning_rate, g, w), g = dw, or madd(weight_decay, w, dw) unless weight_decay is 0. Where a dw is not
 * finite, w is left as it was; all others are updated, and the status is ET_NONFINITE_GRADIENT. */
ET_CHECKED et_status et_half_conv_update(const et_conv_shape *shape, const et_half_form *form, float learning_rate,
                                         float weight_decay, const uint16_t *x, const uint16_t *dy, float *w,
                                         void *scratch);

/* The same step on weights in the format, as et_stored_sgd.h has it; non-finite gradients as above. */
ET_CHECKED et_status et_half_conv_update_stored(
    const et_conv_shape *shape, const et_half_form *form, const et_stored_sgd *options, float learning_rate,
    uint32_t seed, uint32_t step, const uint16_t *x, const uint16_t *dy, uint16_t *stored, void *scratch);

#endif
