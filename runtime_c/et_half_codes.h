/* Tensors rounded to binary16 or bfloat16, and back. Formats and rounding: et_half.h.
 *
 * Elements in any memory order common to both; what is written does not overlap what is read, but dx may be dy.
 */
#ifndef ET_HALF_CODES_H
#define ET_HALF_CODES_H

#include "et_base.h"

/* y = factor * x, rounded to float32 and then to the format */
ET_CHECKED et_status et_to_fp16_f32(size_t count, float factor, const float *x, uint16_t *y);
ET_CHECKED et_status et_to_bf16_f32(size_t count, float factor, const float *x, uint16_t *y);

/* y = x, exact */
ET_CHECKED et_status et_from_fp16_f32(size_t count, const uint16_t *x, float *y);
ET_CHECKED et_status et_from_bf16_f32(size_t count, const uint16_t *x, float *y);

/* dx = dy where y > 0, else 0. `infinity`: its bits in the format of y; NaN is not larger than 0. */
ET_CHECKED et_status et_relu_grad_half_f32(size_t count, uint16_t infinity, const float *dy, const uint16_t *y,
                                           float *dx);

#endif
