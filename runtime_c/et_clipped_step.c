/* See et_clipped_step.h. */
#include "et_clipped_step.h"

#include "et_each.h"
#include "et_math.h"

static inline float within(float v, float limit)
{
    return v < -limit ? -limit : v > limit ? limit : v;
}

et_status et_clip_scaled_step_f32(
    size_t count, float scale, float limit, const float *old, const float *proposed, float *next)
{
    if (old == NULL || proposed == NULL || next == NULL)
        return ET_BAD_ARGUMENT;
#define VALUE(i) within(et_madd(scale, proposed[i] - old[i], old[i]), limit)
    ET_EACH(count, next, VALUE);
#undef VALUE
    return ET_OK;
}

et_status et_sgd_clipped_f32(
    size_t count, float learning_rate, float scale, float weight_decay, float limit, const float *gradient,
    const float *w, float *w_next)
{
    ET_TRY(et_check_finite_f32(count, gradient, ET_NONFINITE_GRADIENT));
    const float back = -(learning_rate * scale);
    if (weight_decay != 0.0f) {
#define VALUE(i) within(et_madd(back, et_madd(weight_decay, w[i], gradient[i]), w[i]), limit)
        ET_EACH(count, w_next, VALUE);
#undef VALUE
    } else {
#define VALUE(i) within(et_madd(back, gradient[i], w[i]), limit)
        ET_EACH(count, w_next, VALUE);
#undef VALUE
    }
    return ET_OK;
}
