/* The residual stream of a binary network where multiplications are allowed: see et_stream_b1.h.
 *
 * v = (sum * factor + half) >> right, with half = 2^(right - 1), or 0 where right is 0.
 */
#ifndef ET_STREAM_I16_H
#define ET_STREAM_I16_H

#include "et_base.h"

/* codes[i] = rint(x[i] * scale), ties to even, clipped to [-largest, largest] (at most 32767); NaN gives 0. */
ET_CHECKED et_status et_stream_from_real_i16(size_t count, float scale, int32_t largest, const float *x,
    int16_t *codes);

/* x[i] = codes[i] * scale. */
ET_CHECKED et_status et_real_from_stream_i16(size_t count, float scale, const int16_t *codes, float *x);

/* As et_block_b1. */
ET_CHECKED et_status et_block_i16(size_t rows, size_t channels, uint32_t right, uint32_t up, const int16_t *sums,
    const int16_t *parameters, const int16_t *shortcut, int16_t *y);

/* As et_projection_b1. */
ET_CHECKED et_status et_projection_i16(size_t rows, size_t channels, size_t outputs, uint32_t right,
    int32_t largest, const int16_t *codes, const uint8_t *signs, const int16_t *factors, int16_t *v);

#endif
