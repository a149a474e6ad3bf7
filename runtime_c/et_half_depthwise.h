/* Depthwise convolutions on binary16 or bfloat16 with sums of float32, and their gradients: groups, channels and
 * out_channels are equal.
 *
 *   w, dw    [kernel_h][kernel_w][channels]
 * All else, arguments and what becomes of them, as et_half_conv.h has it for the kernels of the same names. Order and
 * multiply-adds: et_depthwise.h and et_depthwise_grad_weight.h on the decoded values.
 *
 * scratch, float32, aligned to 4 bytes; `block` channels are decoded at a time:
 *   forward, gradient of x   block * (height * width + out_height * out_width + kernel_h * kernel_w)
 *   gradient of w            block * (batch * (height * width + out_height * out_width) + kernel_h * kernel_w)
 */
#ifndef ET_HALF_DEPTHWISE_H
#define ET_HALF_DEPTHWISE_H

#include "et_conv_shape.h"
#include "et_half_rows.h"

ET_CHECKED et_status et_half_depthwise(const et_conv_shape *shape, const et_half_form *form, const uint16_t *x,
                                       const void *w, const float *bias, uint16_t *y, void *scratch);

ET_CHECKED et_status et_half_depthwise_grad_input(const et_conv_shape *shape, const et_half_form *form,
                                                  const uint16_t *dy, const void *w, float *dx, void *scratch);

ET_CHECKED et_status et_half_depthwise_grad_weight(const et_conv_shape *shape, const et_half_form *form,
                                                   const uint16_t *x, const uint16_t *dy, float *dw, void *scratch);

ET_CHECKED et_status et_half_depthwise_update(const et_conv_shape *shape, const et_half_form *form,
                                              float learning_rate, float weight_decay, const uint16_t *x,
                                              const uint16_t *dy, float *w, void *scratch);

ET_CHECKED et_status et_half_depthwise_update_stored(
    const et_conv_shape *shape, const et_half_form *form, const et_stored_sgd *options, float learning_rate,
    uint32_t seed, uint32_t step, const uint16_t *x, const uint16_t *dy, uint16_t *stored, void *scratch);

#endif
