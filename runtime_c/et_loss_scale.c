/* See et_loss_scale.h. */
#include "et_loss_scale.h"

#include "et_each.h"
#include "et_half.h"

#define UNSCALED(i) (x[i] * factor)

et_status et_to_fp16_scaled_f32(size_t count, const float *state, const float *x, uint16_t *y)
{
    et_to_fp16_row((ptrdiff_t)count, state[0], x, y);
    return ET_OK;
}

et_status et_unscale_f32(size_t count, const float *state, const float *x, float *y)
{
    const float factor = 1.0f / state[0];
    ET_EACH(count, y, UNSCALED);
    return ET_OK;
}

et_status et_seen_nonfinite_f32(size_t count, const float *gradient, const float *seen, float *seen_next)
{
    const bool finite = et_check_finite_f32(count, gradient, ET_NONFINITE_GRADIENT) == ET_OK;
    seen_next[0] = !finite ? 1.0f : seen != NULL ? seen[0] : 0.0f;
    return ET_OK;
}

et_status et_loss_scale_check_f32(float growth, const float *seen, const float *state, float *next)
{
    const float scale = state[0], steps = state[1] + 1.0f;
    const bool failed = seen[0] != 0.0f, grows = !failed && steps >= growth;
    if (failed)
        next[0] = scale > 2.0f ? scale * 0.5f : 1.0f;
    else
        next[0] = !grows ? scale : scale < 0x1p24f ? scale * 2.0f : 0x1p24f;
    next[1] = failed || grows ? 0.0f : steps;
    return failed ? ET_NONFINITE_GRADIENT : ET_OK;
}
