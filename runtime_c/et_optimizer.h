/* One step of an optimizer for one weight.
 *
 * For all kernels here: float32 [count] in any memory order common to the operands. A `..._next` output may be the
 * input it replaces exactly (in place), and must not overlap anything otherwise. The whole gradient is checked first
 * (N8): if an element is not finite, the kernel returns ET_NONFINITE_GRADIENT and has changed nothing.
 */
#ifndef ET_OPTIMIZER_H
#define ET_OPTIMIZER_H

#include "et_base.h"

/* g = gradient, or madd(weight_decay, w, gradient) unless weight_decay is 0
 * w_next = madd(-learning_rate, g, w) */
ET_CHECKED et_status et_sgd_f32(
    size_t count, float learning_rate, float weight_decay, const float *gradient, const float *w, float *w_next);

/* g as above; velocity_next = madd(momentum, velocity, g)
 * s = madd(momentum, velocity_next, g) if nesterov, else velocity_next
 * w_next = madd(-learning_rate, s, w) */
ET_CHECKED et_status et_sgd_momentum_f32(
    size_t count, float learning_rate, float weight_decay, float momentum, bool nesterov, const float *gradient,
    const float *w, float *w_next, const float *velocity, float *velocity_next);

/* Constants of Adam: rate1 = 1 - beta1 and rate2 = 1 - beta2 are rounded once when compiling. */
typedef struct {
    float rate1;
    float beta2;
    float rate2;
    float epsilon;
    float weight_decay;
} et_adam;

/* powers_next = (powers[0] * beta1, powers[1] * beta2); float32 [2] each */
ET_CHECKED et_status et_adam_advance_f32(float beta1, float beta2, const float *powers, float *powers_next);

/* rate = learning_rate / (1 - powers[0]); correction = sqrt(1 - powers[1]); g as for SGD
 * m_next = madd(rate1, g - m, m)
 * v_next = madd(rate2 * g, g, beta2 * v)
 * w_next = madd(-rate, m_next / (sqrt(v_next) / correction + epsilon), w)
 *   powers  float32 [2], advanced already for this step */
ET_CHECKED et_status et_adam_f32(
    size_t count, float learning_rate, const et_adam *options, const float *powers, const float *gradient,
    const float *w, float *w_next, const float *m, float *m_next, const float *v, float *v_next);

#endif
