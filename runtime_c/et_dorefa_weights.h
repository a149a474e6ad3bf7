/* Codes of weights (DoReFa-Net, arXiv 1606.06160, sections 2.1 and 2.2), and their gradient. One scale for the layer.
 *
 *   w      float32, row-major
 *   codes  odd integers in [-levels, levels], levels = 2^bits - 1: int8 to 7 bits, int16 to 8; code / levels is the value
 */
#ifndef ET_DOREFA_WEIGHTS_H
#define ET_DOREFA_WEIGHTS_H

#include "et_base.h"

/* One bit per weight: 1 is +1, where w >= 0; 0 is -1, so for NaN. And the mean magnitude.
 *
 *   w      float32 [taps][inputs][outputs], at most 2^32 - 1 of them
 *   signs  uint8 [outputs][taps][ceil(inputs / 8)], bits beyond the last input are 0; may not overlap w
 *   scale  float32, one: with 2^e the power of two of the largest magnitude, every magnitude is cut to a multiple of
 *          2^(e - 31) (0 below 2^-126), their sum is divided by their number, cut to that multiple, then to 24 bits; 0
 *          if the result is below 2^-126. NaN if a weight is not finite.
 *
 * Integer instructions only.
 */
ET_CHECKED et_status et_dorefa_signs_f32(
    size_t taps, size_t inputs, size_t outputs, const float *w, uint8_t *signs, float *scale);

/* code = 2 * rint(madd(tanh(w), h, levels / 2)) - levels, h = (levels / 2) / tanh(max |w|), 0 where max |w| is below
 * 2^-100: all codes are 1 then. NaN among the weights makes all codes -levels.
 */
ET_CHECKED et_status et_dorefa_weights_i8(size_t count, uint32_t levels, const float *w, int8_t *codes);
ET_CHECKED et_status et_dorefa_weights_i16(size_t count, uint32_t levels, const float *w, int16_t *codes);

/* dw = dy * (et_tanh_slope_f32(tanh(w)) * inverse), inverse = 1 / tanh(max |w|), 0 where max |w| is below
 * 2^-100. dw may be dy or w. */
ET_CHECKED et_status et_dorefa_weights_grad_f32(size_t count, const float *dy, const float *w, float *dw);

#endif
