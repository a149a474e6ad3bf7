/* Moving values without changing them. */
#ifndef ET_COPY_H
#define ET_COPY_H

#include "et_base.h"

/* y[i] = x[i].
 *   x, y  float32 [count]; the same memory, or none in common
 */
ET_CHECKED et_status et_copy_f32(int32_t count, const float *x, float *y);

/* The same for any element type, and zeros: `count` bytes. */
ET_CHECKED et_status et_copy_bytes(size_t count, const void *x, void *y);
ET_CHECKED et_status et_zero_bytes(size_t count, void *y);

/* y[i] = x[order[i]]: another layout of the same values.
 *   order  int32 [count], each in [0, count)
 *   x, y   float32 [count]; may not overlap
 */
ET_CHECKED et_status et_permute_f32(int32_t count, const int32_t *order, const float *x, float *y);

#endif
