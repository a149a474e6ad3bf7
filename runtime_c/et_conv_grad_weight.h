/* The gradient of a convolution's weights, and their update, float32: any kernel size, stride, dilation, padding
 * and number of groups.
 *
 *   x       [batch][height][width][channels]
 *   dy      [batch][out_height][out_width][out_channels]
 *   w, dw   [groups][panel][kernel_h][kernel_w][channels/groups][16]: a panel is 16 output channels of a group, the
 *           last one exactly as wide as what is left. A permutation, made by toolkit/ops/geometry.py.
 * Pointers are aligned to 4 bytes; what is written overlaps nothing that is read. Any values, also not finite.
 *
 * Every result has one accumulator; a tap that falls on padding is left out of the sum, not multiplied by zero.
 * Products with zeros of dy may be left out, where et_nonzero.h says that no bit depends on them.
 * Needs no scratch; builds for hosts use up to 64 KiB of stack.
 * Bits: numerics N1 and N2, the same for every build of this file.
 */
#ifndef ET_CONV_GRAD_WEIGHT_H
#define ET_CONV_GRAD_WEIGHT_H

#include "et_conv_shape.h"
#include "et_optimizer.h"

/* dw[kh][kw][ic][oc] = sum over n, oh, ow ascending of x * dy, one et_madd each, from 0.
 *   accumulate  0: dw is overwritten; 1: the finished sum is added to dw by one plain addition;
 *               2, in programs that walk over their batch: the sum does not begin at 0 but at dw, the sum over the
 *               samples before
 * Needs no segment tables.
 */
ET_SHARED
ET_CHECKED et_status et_conv_grad_weight_f32(const et_conv_shape *shape, const float *x, const float *dy, float *dw,
                                             int32_t accumulate);

/* One step of gradient descent with the same sums, without memory for them:
 * w = madd(-learning_rate, g, w), g = dw, or madd(weight_decay, w, dw) unless weight_decay is 0, as et_sgd_f32 has it.
 * Where a dw is not finite, w is left as it was; all others are updated, and the status is ET_NONFINITE_GRADIENT.
 */
ET_SHARED
ET_CHECKED et_status et_conv_update_f32(const et_conv_shape *shape, float learning_rate, float weight_decay,
                                        const float *x, const float *dy, float *w);

/* The same for the rules of et_optimizer.h: momentum, whose velocity lies as w does, and Adam, whose mean m and variance v
 * do. Where a dw is not finite, the states are left as they were too. */
ET_SHARED
ET_CHECKED et_status et_conv_momentum_f32(const et_conv_shape *shape, float learning_rate, float weight_decay,
                                         float momentum, bool nesterov, const float *x, const float *dy, float *w,
                                         float *velocity);
ET_SHARED
ET_CHECKED et_status et_conv_adam_f32(const et_conv_shape *shape, float learning_rate, const et_adam *options,
                                     const float *powers, const float *x, const float *dy, float *w, float *m,
                                     float *v);

#endif
