/* A dense layer over a batch, its gradients and the update of its weights, float32, with the weights output by output.
 *
 *   x, dx   [batch][inputs]
 *   y, dy   [batch][outputs]
 *   w, dw   [outputs][inputs]
 *   bias    [outputs], or NULL for none
 * It is what et_dense.h and et_dense_grad.h have, in another layout of the weights: forward, lanes of vectors are samples,
 * so a batch should fill them; in return the gradient of the weights, whose lanes are inputs, lies as they do.
 * Pointers are aligned to 4 bytes; what is written overlaps nothing that is read. Any values, also not finite.
 * Every result has one accumulator. Products with zeros of dy may be left out of weight gradients, where et_nonzero.h says
 * that no bit depends on them. Needs no scratch; builds for hosts with vectors use 80 KiB of stack.
 * Bits: numerics N1 and N2, the same for every build of this file, and the same as those of et_dense.h.
 */
#ifndef ET_DENSE_BATCH_H
#define ET_DENSE_BATCH_H

#include "et_dense.h"
#include "et_optimizer.h"

/* y[n][j] = bias[j] + sum over k ascending of x[n][k] * w[j][k], one et_madd each. */
ET_SHARED
ET_CHECKED et_status et_dense_batch_f32(const et_dense_shape *shape, const float *x, const float *w, const float *bias,
                                        float *y);

/* The same, then y where y > 0, else +0, and the ceiling where that is less, as et_dense_relu_f32 has it. */
ET_SHARED
ET_CHECKED et_status et_dense_batch_relu_f32(const et_dense_shape *shape, float ceiling, const float *x, const float *w,
                                             const float *bias, float *y);

/* dx[n][k] = sum over j ascending of dy[n][j] * w[j][k], one et_madd each, from 0. */
ET_SHARED
ET_CHECKED et_status et_dense_batch_grad_input_f32(const et_dense_shape *shape, const float *dy, const float *w, float *dx);

/* dw[j][k] = sum over n ascending of x[n][k] * dy[n][j], one et_madd each, from 0.
 *   accumulate  0, 1 or 2, as et_conv_grad_weight_f32 has it
 */
ET_SHARED
ET_CHECKED et_status et_dense_batch_grad_weight_f32(const et_dense_shape *shape, const float *x, const float *dy, float *dw,
                                                    int32_t accumulate);

/* One step of plain gradient descent, with momentum, and of Adam, with the same sums and without memory for them, as
 * et_dense_grad.h has them. */
ET_SHARED
ET_CHECKED et_status et_dense_batch_update_f32(const et_dense_shape *shape, float learning_rate, float weight_decay,
                                               const float *x, const float *dy, float *w);
ET_SHARED
ET_CHECKED et_status et_dense_batch_momentum_f32(const et_dense_shape *shape, float learning_rate, float weight_decay,
                                                 float momentum, bool nesterov, const float *x, const float *dy, float *w,
                                                 float *velocity);
ET_SHARED
ET_CHECKED et_status et_dense_batch_adam_f32(const et_dense_shape *shape, float learning_rate, const et_adam *options,
                                             const float *powers, const float *x, const float *dy, float *w, float *m,
                                             float *v);

#endif
