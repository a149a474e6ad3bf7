/* Weights that are kept within limits as they are updated.
 *
 * float32 [count] in any memory order common to the operands. w' = -limit where v < -limit, limit where v > limit, else
 * v; NaN stays.
 */
#ifndef ET_CLIPPED_STEP_H
#define ET_CLIPPED_STEP_H

#include "et_base.h"

/* v = madd(scale, proposed - old, old). next may be old or proposed. */
ET_CHECKED et_status et_clip_scaled_step_f32(
    size_t count, float scale, float limit, const float *old, const float *proposed, float *next);

/* g = gradient, or madd(weight_decay, w, gradient) unless weight_decay is 0; v = madd(-(learning_rate * scale), g, w).
 * w_next may be w. The whole gradient is checked first (N8): if an element is not finite, ET_NONFINITE_GRADIENT and
 * nothing has changed. */
ET_CHECKED et_status et_sgd_clipped_f32(
    size_t count, float learning_rate, float scale, float weight_decay, float limit, const float *gradient,
    const float *w, float *w_next);

#endif
