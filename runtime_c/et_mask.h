/* What the gradient of an activation needs of every element, in k bits: masks of k = 1, 2, 3 or 4.
 *
 * Element i has the bits i * k to i * k + k - 1 of a stream that fills each byte from its lowest bit: eight elements take
 * k bytes, and the last ones ceil(rest * k / 8), unused bits 0. A mask overlaps nothing; dx may be dy exactly.
 */
#ifndef ET_MASK_H
#define ET_MASK_H

#include "et_base.h"

typedef struct {
    int32_t bits;         /* k */
    int32_t borders;      /* how many, at least 1 */
    const float *border;  /* ascending, no NaN */
    const uint8_t *code;  /* [borders + 1], below 2^k */
} et_mask_bins;

/* mask = code[how many borders x lies above]; NaN lies above none.
 *   x  float32 [count];  mask  uint8 [ceil(count * bits / 8)]
 */
ET_SHARED
ET_CHECKED et_status et_mask_f32(const et_mask_bins *bins, size_t count, const float *x, uint8_t *mask);

typedef struct {
    int32_t bits;
    const float *factor; /* [2^bits] */
} et_mask_factors;

/* dx = factor[code] * dy, rounded once; +0 where the factor is 0.
 *   dy, dx  float32 [count];  mask as above
 */
ET_CHECKED et_status et_mask_gradient_f32(
    const et_mask_factors *factors, size_t count, const float *dy, const uint8_t *mask, float *dx);

/* dx = dy where the bit of a 1-bit mask is set, else +0: the factors 0 and 1. */
ET_SHARED
ET_CHECKED et_status et_pass_masked_f32(size_t count, const float *dy, const uint8_t *mask, float *dx);

#endif
