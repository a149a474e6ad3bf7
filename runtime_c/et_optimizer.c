/* See et_optimizer.h. */
#include "et_optimizer.h"

#include "et_each.h"
#include "et_math.h"

/* The loops below work in place on memory of which the compiler knows that nothing overlaps: what is kept elsewhere is
 * copied there first, which the compiler of models never asks for. */
static void copy_unless_same(size_t count, const float *from, float *to)
{
    if (from == to)
        return;
    for (size_t i = 0; i < count; ++i)
        to[i] = from[i];
}

static void sgd(size_t count, float back, const float *ET_RESTRICT gradient, float *ET_RESTRICT w)
{
#define VALUE(i) et_madd(back, gradient[i], w[i])
    ET_EACH(count, w, VALUE);
#undef VALUE
}

static void sgd_with_decay(
    size_t count, float back, float weight_decay, const float *ET_RESTRICT gradient, float *ET_RESTRICT w)
{
#define VALUE(i) et_madd(back, et_madd(weight_decay, w[i], gradient[i]), w[i])
    ET_EACH(count, w, VALUE);
#undef VALUE
}

et_status et_sgd_f32(
    size_t count, float learning_rate, float weight_decay, const float *gradient, const float *w, float *w_next)
{
    ET_TRY(et_check_finite_f32(count, gradient, ET_NONFINITE_GRADIENT));
    copy_unless_same(count, w, w_next);
    if (weight_decay != 0.0f)
        sgd_with_decay(count, -learning_rate, weight_decay, gradient, w_next);
    else
        sgd(count, -learning_rate, gradient, w_next);
    return ET_OK;
}

static void sgd_momentum(
    size_t count, float back, float weight_decay, float momentum, bool nesterov, const float *ET_RESTRICT gradient,
    float *ET_RESTRICT w, float *ET_RESTRICT velocity)
{
    const bool decays = weight_decay != 0.0f;
    for (size_t i = 0; i < count; ++i) {
        const float weight = w[i];
        const float g = decays ? et_madd(weight_decay, weight, gradient[i]) : gradient[i];
        const float v = et_madd(momentum, velocity[i], g);
        const float step = nesterov ? et_madd(momentum, v, g) : v;
        velocity[i] = v;
        w[i] = et_madd(back, step, weight);
    }
}

et_status et_sgd_momentum_f32(
    size_t count, float learning_rate, float weight_decay, float momentum, bool nesterov, const float *gradient,
    const float *w, float *w_next, const float *velocity, float *velocity_next)
{
    ET_TRY(et_check_finite_f32(count, gradient, ET_NONFINITE_GRADIENT));
    copy_unless_same(count, w, w_next);
    copy_unless_same(count, velocity, velocity_next);
    sgd_momentum(count, -learning_rate, weight_decay, momentum, nesterov, gradient, w_next, velocity_next);
    return ET_OK;
}

et_status et_adam_advance_f32(float beta1, float beta2, const float *powers, float *powers_next)
{
    powers_next[0] = powers[0] * beta1;
    powers_next[1] = powers[1] * beta2;
    return ET_OK;
}

static void adam(
    size_t count, float back, float correction, const et_adam constants, const float *ET_RESTRICT gradient,
    float *ET_RESTRICT w, float *ET_RESTRICT m, float *ET_RESTRICT v)
{
    const bool decays = constants.weight_decay != 0.0f;
    for (size_t i = 0; i < count; ++i) {
        const float weight = w[i];
        const float g = decays ? et_madd(constants.weight_decay, weight, gradient[i]) : gradient[i];
        const float mean = et_madd(constants.rate1, g - m[i], m[i]);
        const float square = et_madd(constants.rate2 * g, g, constants.beta2 * v[i]);
        const float divisor = et_sqrt_f32(square) / correction + constants.epsilon;
        m[i] = mean;
        v[i] = square;
        w[i] = et_madd(back, mean / divisor, weight);
    }
}

et_status et_adam_f32(
    size_t count, float learning_rate, const et_adam *options, const float *powers, const float *gradient,
    const float *w, float *w_next, const float *m, float *m_next, const float *v, float *v_next)
{
    const float rate = learning_rate / (1.0f - powers[0]);
    const float correction = et_sqrt_f32(1.0f - powers[1]);
    ET_TRY(et_check_finite_f32(count, gradient, ET_NONFINITE_GRADIENT));
    copy_unless_same(count, w, w_next);
    copy_unless_same(count, m, m_next);
    copy_unless_same(count, v, v_next);
    adam(count, -rate, correction, *options, gradient, w_next, m_next, v_next);
    return ET_OK;
}
