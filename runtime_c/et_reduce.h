/* Means over the middle axis of float32 [outer][count][inner]. */
#ifndef ET_REDUCE_H
#define ET_REDUCE_H

#include "et_base.h"

typedef struct {
    int32_t outer;
    int32_t count;
    int32_t inner;
} et_reduce_shape;

/* y = (sum over count, ascending, from 0, by plain additions) * (1 / count), the factor rounded once.
 *   x  float32 [outer][count][inner]
 *   y  float32 [outer][inner]; may not overlap x
 */
ET_CHECKED et_status et_reduce_mean_f32(const et_reduce_shape *shape, const float *x, float *y);

/* dx = dy * (1 / count) for each of the count elements.
 *   dy  float32 [outer][inner]
 *   dx  float32 [outer][count][inner]; may not overlap dy
 */
ET_CHECKED et_status et_reduce_mean_grad_f32(const et_reduce_shape *shape, const float *dy, float *dx);

#endif
