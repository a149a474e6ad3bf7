/* Plain SGD on int16 weights from integer gradients, rounded stochastically as it is stored.
 *
 *   rate     (learning_rate * factor) * 2^(e - exponent) = M / 2^k for the gradient's scale factor * 2^e; the product is
 *            a float32, M its upper 16 bits, rounded; k at most 30
 *            (smaller rates lose bits of M) and at least 1 (a rate of 2^15 or more counts as 65535 / 2)
 *   t        floor((sum * M + r) / 2^k), r uniform below 2^k from half i % 4 of random number i / 4 of (seed, step,
 *            stream), halves 2 and 3 being those of et_random_more(): the half in the upper 16 bits of k, half a unit of it added
 *   stored'  stored - t, clamped to [-32767, 32767]
 *
 * If a scale or the learning rate is not finite: ET_NONFINITE_GRADIENT, and nothing has changed (N8). stored_next may be
 * stored.
 */
#ifndef ET_FIXED_SGD_H
#define ET_FIXED_SGD_H

#include "et_base.h"

/* sums int32 [count], their scale one float32 */
ET_CHECKED et_status et_fixed_sgd_i16(
    size_t count, int32_t exponent, float learning_rate, uint32_t seed, uint32_t step, uint32_t stream,
    const int32_t *sums, const float *scale, const int16_t *stored, int16_t *stored_next);

/* The same for sums that are x[i] * g[j], stored [inputs][outputs], without memory for them; scale: of x times of g. */
ET_CHECKED et_status et_fixed_outer_sgd_i16(
    size_t inputs, size_t outputs, int32_t exponent, float learning_rate, uint32_t seed, uint32_t step, uint32_t stream,
    const int8_t *x, const int8_t *g, const float *x_scale, const float *g_scale, const int16_t *stored,
    int16_t *stored_next);

#endif
