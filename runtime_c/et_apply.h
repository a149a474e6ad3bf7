/* Updates of a weight from sums that are complete: what the kernels et_..._update, et_..._momentum and et_..._adam do with
 * theirs, for programs that walk over their batch and keep the sums from part to part.
 *
 * For all kernels here: float32 [count] in any memory order common to the operands, which do not overlap. Where a sum
 * is not finite, its weight and states are left as they were; all others are updated, and the status is
 * ET_NONFINITE_GRADIENT.
 */
#ifndef ET_APPLY_H
#define ET_APPLY_H

#include "et_optimizer.h"

/* The rule of et_sgd_f32. */
ET_CHECKED et_status et_apply_update_f32(size_t count, float learning_rate, float weight_decay, const float *sums,
                                         float *w);

/* The rule of et_sgd_momentum_f32. */
ET_CHECKED et_status et_apply_momentum_f32(size_t count, float learning_rate, float weight_decay, float momentum,
                                           bool nesterov, const float *sums, float *w, float *velocity);

/* The rule of et_adam_f32. */
ET_CHECKED et_status et_apply_adam_f32(size_t count, float learning_rate, const et_adam *options, const float *powers,
                                       const float *sums, float *w, float *m, float *v);

#endif
