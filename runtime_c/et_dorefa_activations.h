/* Codes of activations (DoReFa-Net, arXiv 1606.06160, section 2.3), and the gradient of the clip in front of them.
 *
 *   code = the integer nearest to levels * x, ties to even, of the exact product; 0 for x <= 0 and NaN, levels for x >= 1
 *
 * Integer instructions only: a core without floating point needs about twenty an element.
 *
 *   levels  2^bits - 1, bits 1 .. 8
 *   x       float32 [count]
 *   codes   int8 (levels <= 127) or int16 [count]; may not overlap x
 *   mask    uint8 [ceil(count / 8)]: bit i % 8 of byte i / 8 is set where 0 < x < 1; bits beyond the last are 0
 */
#ifndef ET_DOREFA_ACTIVATIONS_H
#define ET_DOREFA_ACTIVATIONS_H

#include "et_base.h"

ET_CHECKED et_status et_dorefa_activations_i8(size_t count, uint32_t levels, const float *x, int8_t *codes);
ET_CHECKED et_status et_dorefa_activations_i16(size_t count, uint32_t levels, const float *x, int16_t *codes);

/* The same, and what the backward pass needs to know of x: a 1-bit mask for et_pass_masked_f32. */
ET_CHECKED et_status et_dorefa_activations_masked_i8(
    size_t count, uint32_t levels, const float *x, int8_t *codes, uint8_t *mask);
ET_CHECKED et_status et_dorefa_activations_masked_i16(
    size_t count, uint32_t levels, const float *x, int16_t *codes, uint8_t *mask);

#endif
