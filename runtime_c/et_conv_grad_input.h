/* The gradient of a convolution's input, float32: any kernel size, stride, dilation, padding and number of groups.
 *
 *   dy      [batch][out_height][out_width][out_channels]
 *   dx      [batch][height][width][channels]
 *   w       [groups][panel][kernel_h][kernel_w][channels/groups][16]: a panel is 16 output channels of a group, the
 *           last one exactly as wide as what is left. A permutation, made by toolkit/ops/geometry.py.
 * Pointers are aligned to 4 bytes; what is written overlaps nothing that is read. Any values, also not finite.
 *
 * Every result has one accumulator; a tap that falls on padding is left out of the sum, not multiplied by zero.
 * Products with zeros of dy may be left out, where et_nonzero.h says that no bit depends on them.
 * Needs no scratch; builds with vectors use up to 80 KiB of stack.
 * Bits: numerics N1 and N2, the same for every build of this file.
 */
#ifndef ET_CONV_GRAD_INPUT_H
#define ET_CONV_GRAD_INPUT_H

#include "et_conv_shape.h"

/* dx[n][ih][iw][ic] = sum over kh, kw, oc (of the group) ascending of dy * w, one et_madd each, from 0. */
ET_SHARED
ET_CHECKED et_status et_conv_grad_input_f32(const et_conv_shape *shape, const float *dy, const float *w, float *dx);

/* The same, then dx where least <= y and y <= most, else +0; 0 < least <= most. Programs with it define ET_FORM_GATE.
 *   y  [batch][height][width][channels]
 */
ET_SHARED
ET_CHECKED et_status et_conv_grad_input_gated_f32(const et_conv_shape *shape, float least, float most, const float *dy,
                                                  const float *w, const float *y, float *dx);

#endif
