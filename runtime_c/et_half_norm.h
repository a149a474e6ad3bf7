/* Batch normalization of binary16 ("native"): statistics and sums in float32, results by multiply-adds of binary16.
 *
 *   x, y, dx    uint16 [rows][channels]; y may be x, dx may be dy
 *   dy          uint16, times the scale of the gradients
 *   all others  float32 [channels]
 * h() rounds to binary16, fma16 is a multiply-add that rounds once to binary16 (et_half.h), whatever ET_FMA is. Rows
 * ascending; sums start from 0. toolkit/ops/half_norm.py is the same in NumPy.
 */
#ifndef ET_HALF_NORM_H
#define ET_HALF_NORM_H

#include "et_base.h"

/* gain = gamma / sqrt(var + epsilon);  y = fma16(x, h(gain), h(madd(-mean, gain, beta))) */
ET_CHECKED et_status et_batch_norm_fp16(int32_t rows, int32_t channels, float epsilon, const uint16_t *x,
                                        const float *gamma, const float *beta, const float *mean, const float *var,
                                        uint16_t *y);

/* mean = sum(x) * (1 / rows);  squares = sum of madd(x, x, ...)
 * biased = madd(-mean, mean, squares * (1 / rows)), 0 unless it is greater
 * inverse = 1 / sqrt(biased + epsilon);  variance = biased * (rows / (rows - 1))
 * gain = gamma * inverse;  y as above. At least two rows. */
ET_CHECKED et_status et_batch_norm_train_fp16(int32_t rows, int32_t channels, float epsilon, const uint16_t *x,
                                              const float *gamma, const float *beta, uint16_t *y, float *mean,
                                              float *inverse, float *variance);

/* dbeta = sum(dy) * unscale;  dgamma = (madd(-mean, sum(dy), sum of madd(dy, x, ...)) * inverse) * unscale */
ET_CHECKED et_status et_batch_norm_grad_parameters_fp16(int32_t rows, int32_t channels, float unscale,
                                                        const uint16_t *dy, const uint16_t *x, const float *mean,
                                                        const float *inverse, float *dgamma, float *dbeta);

/* a = gamma * inverse;  slope = -(a * (((dgamma * inverse) * (1 / rows)) * scale))
 * shift = madd(-slope, mean, -(a * ((dbeta * (1 / rows)) * scale)))
 * dx = fma16(dy, h(a), fma16(x, h(slope), h(shift))) */
ET_CHECKED et_status et_batch_norm_grad_batch_fp16(int32_t rows, int32_t channels, float scale, const uint16_t *dy,
                                                   const uint16_t *x, const float *gamma, const float *mean,
                                                   const float *inverse, const float *dgamma, const float *dbeta,
                                                   uint16_t *dx);

/* dx = h(dy * h(gamma * inverse)) */
ET_CHECKED et_status et_batch_norm_grad_running_fp16(int32_t rows, int32_t channels, const uint16_t *dy,
                                                     const float *gamma, const float *inverse, uint16_t *dx);

#endif
