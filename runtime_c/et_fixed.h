/* Dynamic fixed point: integer mantissas that share one power of two per tensor (METHODS.md S22).
 *
 *   value = mantissa * scale, mantissas in [-(2^(bits-1) - 1), 2^(bits-1) - 1], bits 8 or 16
 *   scale = 2^e, e = floor(log2(largest magnitude)) + 1 - (bits - 1), but at least 2^-126
 *
 * Magnitudes are rounded, then the sign is put back. Magnitudes below 2^-126 count as 0; a tensor of zeros has the scale
 * 2^-126. If an element is not finite, the scale is NaN and all mantissas are 0: whatever is computed from them is NaN,
 * and the checks of loss and gradients find it. One pass for the largest magnitude, one for the mantissas; integer
 * instructions only.
 *
 *   x         float32 [count], row-major
 *   mantissa  int8 or int16 [count]
 *   scale     float32, one
 */
#ifndef ET_FIXED_H
#define ET_FIXED_H

#include "et_base.h"

/* To the nearest, ties to even. */
ET_CHECKED et_status et_fixed_nearest_i8(size_t count, const float *x, int8_t *mantissa, float *scale);
ET_CHECKED et_status et_fixed_nearest_i16(size_t count, const float *x, int16_t *mantissa, float *scale);

/* Stochastically: floor(magnitude / scale + u), magnitudes cut to 31 bits below the shared exponent.
 *   8 bits    u = (2 b + 1) / 512, b byte i % 4 of random number i / 4 of (seed, step, stream)
 *   16 bits   u = h / 65536, h half i % 2 of random number i / 2; byte and half 0 are the lowest
 */
ET_CHECKED et_status et_fixed_random_i8(
    size_t count, uint32_t seed, uint32_t step, uint32_t stream, const float *x, int8_t *mantissa, float *scale);
ET_CHECKED et_status et_fixed_random_i16(
    size_t count, uint32_t seed, uint32_t step, uint32_t stream, const float *x, int16_t *mantissa, float *scale);

/* Mantissas of weights whose master is int16: (master + 128) >> 8, at most 127; master in [-32767, 32767]. */
ET_CHECKED et_status et_fixed_upper_i8(size_t count, const int16_t *master, int8_t *mantissa);

#endif
