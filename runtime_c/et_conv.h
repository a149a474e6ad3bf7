/* Convolution with float32: any kernel size, stride, dilation, padding and number of groups.
 *
 *   x       [batch][height][width][channels]
 *   y       [batch][out_height][out_width][out_channels]
 *   w       [groups][panel][kernel_h][kernel_w][channels/groups][16]: a panel is 16 output channels of a group, the
 *           last one exactly as wide as what is left. A permutation, made by toolkit/ops/geometry.py.
 *   bias    [out_channels], or NULL for none
 * Pointers are aligned to 4 bytes; what is written overlaps nothing that is read, but for addends. Any values, also not finite.
 *
 * Every result has one accumulator; a tap that falls on padding is left out of the sum, not multiplied by zero.
 * Needs no scratch.
 * Bits: numerics N1 and N2, the same for every build of this file.
 */
#ifndef ET_CONV_H
#define ET_CONV_H

#include "et_conv_shape.h"

/* y[n][oh][ow][oc] = bias[oc] + sum over kh, kw, ic ascending of x * w, one et_madd each. */
ET_SHARED
ET_CHECKED et_status et_conv_f32(const et_conv_shape *shape, const float *x, const float *w, const float *bias,
                                 float *y);

/* The same, then y where y > 0, else +0 (for NaN too), and the ceiling where that is less; it is above 0, and infinite for
 * ReLU alone. Programs with such layers define ET_FORM_RECTIFY, and with a finite ceiling ET_FORM_CEILING. */
ET_SHARED
ET_CHECKED et_status et_conv_relu_f32(const et_conv_shape *shape, float ceiling, const float *x, const float *w,
                                      const float *bias, float *y);

/* The same with an addend [batch][out_height][out_width][out_channels], added to the sum once that is complete: one more
 * rounding. y may be the addend. Programs with such layers define ET_FORM_ADDEND, and ET_FORM_ADDEND_NARROW where
 * out_channels/groups is no multiple of 16. */
ET_SHARED
ET_CHECKED et_status et_conv_add_f32(const et_conv_shape *shape, const float *x, const float *w, const float *bias,
                                     const float *addend, float *y);

/* The addition, then the ReLU. */
ET_SHARED
ET_CHECKED et_status et_conv_add_relu_f32(const et_conv_shape *shape, float ceiling, const float *x, const float *w,
                                          const float *bias, const float *addend, float *y);

#endif
