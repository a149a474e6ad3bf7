/* Depthwise convolution with float32, and the gradient of its input: one filter per channel, so that groups, channels
 * and out_channels are equal. (Several filters per channel are a grouped convolution: et_conv.h.)
 *
 * Layouts
 *   x, dx   [batch][height][width][channels]
 *   y, dy   [batch][out_height][out_width][channels]
 *   w       [kernel_h][kernel_w][channels]
 *   bias    [channels], or NULL for none
 * Pointers are aligned to 4 bytes; what is written overlaps nothing that is read. Any values, also not finite.
 *
 * Every result has one accumulator; a tap that falls on padding is left out of the sum, not multiplied by zero.
 * Scratch: none. Bits: numerics N1 and N2, the same for every build of this file.
 */
#ifndef ET_DEPTHWISE_H
#define ET_DEPTHWISE_H

#include "et_conv_shape.h"

/* y[n][oh][ow][c] = bias[c] + sum over kh, kw ascending of x * w, one et_madd each. */
ET_SHARED
ET_CHECKED et_status et_depthwise_f32(const et_conv_shape *shape, const float *x, const float *w, const float *bias,
                                      float *y);

/* The same, then y where y > 0, else +0 (for NaN too), and the ceiling where that is less; it is above 0, and infinite for
 * ReLU alone. Programs with such layers define ET_FORM_RECTIFY, and with a finite ceiling ET_FORM_CEILING. */
ET_SHARED
ET_CHECKED et_status et_depthwise_relu_f32(const et_conv_shape *shape, float ceiling, const float *x, const float *w,
                                           const float *bias, float *y);

/* dx[n][ih][iw][c] = sum over kh, kw ascending of dy * w, one et_madd each, from 0. */
ET_SHARED
ET_CHECKED et_status et_depthwise_grad_input_f32(const et_conv_shape *shape, const float *dy, const float *w,
                                                 float *dx);

/* The same, then dx where least <= y and y <= most, else +0; 0 < least <= most. Programs with it define ET_FORM_GATE.
 *   y  [batch][height][width][channels]
 */
ET_SHARED
ET_CHECKED et_status et_depthwise_grad_input_gated_f32(const et_conv_shape *shape, float least, float most,
                                                       const float *dy, const float *w, const float *y, float *dx);

#endif
