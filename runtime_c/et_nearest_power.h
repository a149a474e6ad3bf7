/* The power of two that is nearest on a logarithmic scale, and its gradient; element by element. */
#ifndef ET_NEAREST_POWER_H
#define ET_NEAREST_POWER_H

#include "et_base.h"

/* y = 2^k, k = log2(x) rounded: up where the fraction of x exceeds sqrt(2), which no float32 equals. Below 2^-27, and
 * for NaN, 2^-27; at most 2^127. Integer operations and one comparison. y may be x. */
ET_CHECKED et_status et_nearest_power_of_two_f32(size_t count, const float *x, float *y);

/* dx = dy * (y / x) where x >= 2^-27, else +0. dx may be dy or x. */
ET_CHECKED et_status et_nearest_power_of_two_grad_f32(size_t count, const float *dy, const float *x, float *dx);

#endif
