/* Affine int8 codes of real values, which stand for (code - zero) * scale. x and y may not overlap. */
#ifndef ET_AFFINE_H
#define ET_AFFINE_H

#include "et_base.h"

/* y = zero + rint(x * inverse), ties to even, where x * inverse is first brought into [-128 - zero, 127 - zero]; NaN
 * becomes -128.
 *   x, y  float32, int8 [count];  zero: -128 to 127
 */
ET_CHECKED et_status et_affine_quantize_i8(size_t count, float inverse, int32_t zero, const float *x, int8_t *y);

/* The same with a range found in x:
 *   low = min(0, smallest x), high = max(0, largest x), NaN counting for neither
 *   scale = (high - low) / 255, inverse = 255 / (high - low) or 0 where high = low
 *   zero = -128 + rint(-low * inverse), the product first brought into [0, 255], NaN becoming 0
 *
 *   x      float32 [count]
 *   y      int8 [count]
 *   range  float32 [2]: scale, zero
 */
ET_CHECKED et_status et_encode_range_i8(size_t count, const float *x, int8_t *y, float *range);

/* x = (y - zero) * scale, rounded once. */
ET_CHECKED et_status et_decode_range_i8(size_t count, const int8_t *y, const float *range, float *x);

#endif
