/* Convolutions and dense layers on binary16 with sums of binary16 ("native"), and their gradients.
 *
 * Arguments, layouts and what becomes of the results: et_half_conv.h, for the kernels of the same names; form->bfloat16
 * is 0. Order: et_conv.h, et_conv_grad_input.h and et_conv_grad_weight.h. One accumulator per result; each multiply-add
 * rounds once to binary16, whatever ET_FMA is, from the bias rounded to binary16, or 0. Where the core has Zfh, its
 * instructions do it; the bits are the same.
 *
 * scratch, uint16, aligned to 4 bytes, for weights of `block` columns of results side by side, taps = kernel_h *
 * kernel_w; a layer with one pixel, and one whose weights are stored, forward or depthwise, needs none:
 *   forward         taps * channels/groups * block
 *   gradient of x   taps * out_channels/groups * block
 */
#ifndef ET_HALF_NATIVE_H
#define ET_HALF_NATIVE_H

#include "et_conv_shape.h"
#include "et_half_rows.h"

ET_CHECKED et_status et_half_native(const et_conv_shape *shape, const et_half_form *form, const uint16_t *x,
                                    const void *w, const float *bias, uint16_t *y, void *scratch);

/* The same, then y where y > 0, else +0 (for NaN too). Programs with such layers define ET_FORM_RECTIFY. */
ET_CHECKED et_status et_half_native_relu(const et_conv_shape *shape, const et_half_form *form, const uint16_t *x,
                                         const void *w, const float *bias, uint16_t *y, void *scratch);

ET_CHECKED et_status et_half_native_grad_input(const et_conv_shape *shape, const et_half_form *form,
                                               const uint16_t *dy, const void *w, float *dx, void *scratch);

/* The same sums as they are: dx uint16, times the scale of the gradients like dy. */
ET_CHECKED et_status et_half_native_grad_halves(const et_conv_shape *shape, const et_half_form *form,
                                                const uint16_t *dy, const void *w, uint16_t *dx, void *scratch);

#endif
