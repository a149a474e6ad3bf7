/* The gradients of a dense layer, and the update of its weights, float32.
 *
 *   x, dx   [batch][inputs]
 *   dy      [batch][outputs]
 *   w, dw   [outputs/16][inputs][16], the last panel exactly as wide as what is left: the layout of a 1x1 convolution
 * Pointers are aligned to 4 bytes; what is written overlaps nothing that is read. Any values, also not finite.
 * Every result has one accumulator. Products with zeros of dy may be left out of weight gradients, where et_nonzero.h says
 * that no bit depends on them. Needs no scratch; builds with vectors use up to 72 KiB of stack.
 * Bits: numerics N1 and N2, the same for every build of this file.
 */
#ifndef ET_DENSE_GRAD_H
#define ET_DENSE_GRAD_H

#include "et_dense.h"
#include "et_optimizer.h"

/* dx[n][k] = sum over j ascending of dy[n][j] * w[k][j], one et_madd each, from 0. */
ET_SHARED
ET_CHECKED et_status et_dense_grad_input_f32(const et_dense_shape *shape, const float *dy, const float *w, float *dx);

/* dw[k][j] = sum over n ascending of x[n][k] * dy[n][j], one et_madd each, from 0.
 *   accumulate  0, 1 or 2, as et_conv_grad_weight_f32 has it
 */
ET_SHARED
ET_CHECKED et_status et_dense_grad_weight_f32(const et_dense_shape *shape, const float *x, const float *dy, float *dw,
                                              int32_t accumulate);

/* One step of gradient descent with the same sums, without memory for them:
 * w = madd(-learning_rate, g, w), g = dw, or madd(weight_decay, w, dw) unless weight_decay is 0, as et_sgd_f32 has it.
 * Where a dw is not finite, w is left as it was; all others are updated, and the status is ET_NONFINITE_GRADIENT.
 */
ET_SHARED
ET_CHECKED et_status et_dense_update_f32(const et_dense_shape *shape, float learning_rate, float weight_decay,
                                         const float *x, const float *dy, float *w);

/* The same for the rules of et_optimizer.h: momentum, whose velocity lies as w does, and Adam, whose mean m and variance v
 * do. Where a dw is not finite, the states are left as they were too. */
ET_SHARED
ET_CHECKED et_status et_dense_momentum_f32(const et_dense_shape *shape, float learning_rate, float weight_decay,
                                         float momentum, bool nesterov, const float *x, const float *dy, float *w,
                                         float *velocity);
ET_SHARED
ET_CHECKED et_status et_dense_adam_f32(const et_dense_shape *shape, float learning_rate, const et_adam *options,
                                     const float *powers, const float *x, const float *dy, float *w, float *m,
                                     float *v);

#endif
