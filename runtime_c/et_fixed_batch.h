/* Batch normalization with the statistics of the batch, on the int32 sums of a convolution (et_fixed_unit.h).
 *
 * et_fixed_batch_affine, per channel, with z = (sum + half) >> s of at most 14 bits and share = 1 / rows:
 *   mean     = (float32(sum of z) * share) * z_scale
 *   variance = ((float32(rows * sum of z^2 - (sum of z)^2) * share) * share * z_scale) * z_scale
 *   inverse  = 1 / sqrt(variance + epsilon), a = gamma * inverse, b = madd(-mean, a, beta)
 *   unbiased = variance * (rows / (rows - 1))
 * et_fixed_batch_unit_grad_i8, with z' of the gradient, da and db as et_fixed_unit_grad_i8 has them:
 *   dgamma = inverse * madd(-mean, db, da)
 *   slope  = -(a * ((dgamma * inverse) * share)), shift = madd(-mean, slope, -(a * (db * share)))
 *   t      = ((z * mantissa of slope) >> s1) + shift, plus (z' * mantissa of a) >> s2 where a winner was, in the coarsest
 *            of the units of the two products and of 2^-28 of the largest shift
 *   g      = t rounded stochastically to 7 bits of the largest, with and without what reaches the winners; with
 *            gradient_levels to odd codes, of the largest with them
 *
 *   rows   2 to 2^16; sums int32 [rows][channels], all others as in et_fixed_unit.h
 *   scratch  4 * (elements of sums + 5 * channels) bytes, aligned to 4
 */
#ifndef ET_FIXED_BATCH_H
#define ET_FIXED_BATCH_H

#include "et_fixed_unit.h"

ET_CHECKED et_status et_fixed_batch_affine(
    size_t rows, size_t channels, float epsilon, const int32_t *sums, const float *scale, const float *gamma,
    const float *beta, float *a, float *b, float *mean, float *inverse, float *unbiased, float *z_scale);

ET_CHECKED et_status et_fixed_batch_unit_grad_i8(
    const et_fixed_unit *shape, uint32_t seed, uint32_t step, const int32_t *d, const float *d_scale, const float *a,
    const uint8_t *place, const int16_t *kept, const float *kept_scale, const int32_t *sums, const float *sums_scale,
    const float *z_scale, const float *mean, const float *inverse, void *scratch, int8_t *g, float *g_scale, float *db,
    float *dgamma);

#endif
