/* See et_optimizer.h. */
#include "et_optimizer.h"

#include "et_each.h"
#include "et_math.h"

et_status et_sgd_f32(
    size_t count, float learning_rate, float weight_decay, const float *gradient, const float *w, float *w_next)
{
    const float back = -learning_rate;
    ET_TRY(et_check_finite_f32(count, gradient, ET_NONFINITE_GRADIENT));
    if (weight_decay != 0.0f) {
#define VALUE(i) et_madd(back, et_madd(weight_decay, w[i], gradient[i]), w[i])
        ET_EACH(count, w_next, VALUE);
#undef VALUE
    } else {
#define VALUE(i) et_madd(back, gradient[i], w[i])
        ET_EACH(count, w_next, VALUE);
#undef VALUE
    }
    return ET_OK;
}

et_status et_sgd_momentum_f32(
    size_t count, float learning_rate, float weight_decay, float momentum, bool nesterov, const float *gradient,
    const float *w, float *w_next, const float *velocity, float *velocity_next)
{
    const float back = -learning_rate;
    const bool decays = weight_decay != 0.0f;
    ET_TRY(et_check_finite_f32(count, gradient, ET_NONFINITE_GRADIENT));
    for (size_t i = 0; i < count; ++i) {
        const float weight = w[i];
        const float g = decays ? et_madd(weight_decay, weight, gradient[i]) : gradient[i];
        const float v = et_madd(momentum, velocity[i], g);
        const float step = nesterov ? et_madd(momentum, v, g) : v;
        velocity_next[i] = v;
        w_next[i] = et_madd(back, step, weight);
    }
    return ET_OK;
}

et_status et_adam_advance_f32(float beta1, float beta2, const float *powers, float *powers_next)
{
    powers_next[0] = powers[0] * beta1;
    powers_next[1] = powers[1] * beta2;
    return ET_OK;
}

et_status et_adam_f32(
    size_t count, float learning_rate, const et_adam *options, const float *powers, const float *gradient,
    const float *w, float *w_next, const float *m, float *m_next, const float *v, float *v_next)
{
    const et_adam constants = *options;
    const bool decays = constants.weight_decay != 0.0f;
    const float back = -(learning_rate / (1.0f - powers[0]));
    const float correction = et_sqrt_f32(1.0f - powers[1]);
    ET_TRY(et_check_finite_f32(count, gradient, ET_NONFINITE_GRADIENT));
    for (size_t i = 0; i < count; ++i) {
        const float weight = w[i];
        const float g = decays ? et_madd(constants.weight_decay, weight, gradient[i]) : gradient[i];
        const float mean = et_madd(constants.rate1, g - m[i], m[i]);
        const float square = et_madd(constants.rate2 * g, g, constants.beta2 * v[i]);
        const float divisor = et_sqrt_f32(square) / correction + constants.epsilon;
        m_next[i] = mean;
        v_next[i] = square;
        w_next[i] = et_madd(back, mean / divisor, weight);
    }
    return ET_OK;
}
