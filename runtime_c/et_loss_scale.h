/* Dynamic loss scaling for gradients in binary16 (Micikevicius et al., arXiv 1710.03740, section 3.2).
 *
 *   state   float32 [2]: the scale, a power of two from 1 to 2^24, and the steps since it last changed
 * Elements in any memory order common to both; y may be x. Subnormal results apart, scaling is exact.
 */
#ifndef ET_LOSS_SCALE_H
#define ET_LOSS_SCALE_H

#include "et_base.h"

/* y = state[0] * x, rounded to binary16 as et_half.h has it */
ET_CHECKED et_status et_to_fp16_scaled_f32(size_t count, const float *state, const float *x, uint16_t *y);

/* y = x * (1 / state[0]) */
ET_CHECKED et_status et_unscale_f32(size_t count, const float *state, const float *x, float *y);

/* seen_next[0] = 1 if an element of the gradient is infinite or NaN, else seen[0], or 0 where seen is NULL. */
ET_CHECKED et_status et_seen_nonfinite_f32(size_t count, const float *gradient, const float *seen, float *seen_next);

/* If seen[0] is not 0: halves the scale (not below 1), starts to count anew, and gives ET_NONFINITE_GRADIENT. Else
 * counts a step, and after `growth` of them doubles the scale (not beyond 2^24) and starts anew. next may be state. */
ET_CHECKED et_status et_loss_scale_check_f32(float growth, const float *seen, const float *state, float *next);

#endif
