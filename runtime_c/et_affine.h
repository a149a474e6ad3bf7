/* Affine int8 codes of real values, which stand for (code - zero) * scale. x and y may not overlap. */
#ifndef ET_AFFINE_H
#define ET_AFFINE_H

#include "et_base.h"

/* y = zero + rint(x * inverse), ties to even, where x * inverse is first brought into [-128 - zero, 127 - zero]; NaN
 * becomes -128.
 *   x, y  float32, int8 [count];  zero: -128 to 127
 */
ET_CHECKED et_status et_affine_quantize_i8(size_t count, float inverse, int32_t zero, const float *x, int8_t *y);

#endif
