/* Dropout while training. */
#ifndef ET_DROPOUT_H
#define ET_DROPOUT_H

#include "et_base.h"

/* y[i] = x[i] * scale where et_random_unit_f32(seed, step, stream, i) >= ratio, else +0. Its gradient is itself.
 *   x, y  float32 [count], row-major, count < 2^32; y may be x exactly
 */
ET_CHECKED et_status et_dropout_f32(
    size_t count, float ratio, float scale, uint32_t seed, uint32_t step, uint32_t stream, const float *x, float *y);

#endif
