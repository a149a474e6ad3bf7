/* One bit for each element: what the backward pass of an activation needs to know of its input. */
#ifndef ET_RANGE_MASK_H
#define ET_RANGE_MASK_H

#include "et_base.h"

/* Bit i % 8 of byte i / 8 is set where minimum <= x[i] and x[i] <= maximum, so not for NaN; bits beyond the last
 * element are 0. Read by et_pass_masked_f32.
 *   x     float32 [count]
 *   mask  uint8 [ceil(count / 8)]; may not overlap x
 */
ET_CHECKED et_status et_range_mask_f32(size_t count, float minimum, float maximum, const float *x, uint8_t *mask);

#endif
