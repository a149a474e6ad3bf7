/* Codes of gradients, with noise (DoReFa-Net, arXiv 1606.06160, section 2.4). One scale for each sample.
 *
 *   m      largest |g| of the sample
 *   f      levels * 2^15 / m, rounded to float32
 *   place  floor(|g| * f), of the exact product, with the sign of g: in [-levels * 2^15, levels * 2^15]
 *   code   2 * ((place + levels * 2^15 + h) >> 16) - levels, an odd integer in [-levels, levels]; h is half i % 2, lowest
 *          first, of random number i / 2 of (seed, step, stream), for element i of the tensor
 *   scale  m / levels
 *
 * |g| below 2^-126 counts as 0. Where m is below 2^-100, all places are 0, and so is the scale; where an element is not
 * finite, all places of its sample are 0 and the scale is NaN. But for m / levels and f, integer instructions only.
 *
 *   levels  2^bits - 1, bits 1 .. 8
 *   g       float32 [batch][size]
 *   codes   int8 (levels <= 127) or int16 [batch][size]; may not overlap g
 *   scale   float32 [batch]
 */
#ifndef ET_DOREFA_GRADIENT_H
#define ET_DOREFA_GRADIENT_H

#include "et_base.h"

ET_CHECKED et_status et_dorefa_gradient_i8(size_t batch, size_t size, uint32_t levels, uint32_t seed, uint32_t step,
    uint32_t stream, const float *g, int8_t *codes, float *scale);
ET_CHECKED et_status et_dorefa_gradient_i16(size_t batch, size_t size, uint32_t levels, uint32_t seed, uint32_t step,
    uint32_t stream, const float *g, int16_t *codes, float *scale);

#endif
