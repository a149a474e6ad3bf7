/* The signs of int16 weights, packed, and their mean magnitude: weights of one bit of a layer on integers.
 *
 *   w      int16 [taps][inputs][outputs], row-major, fixed point with the resolution `unit`; fewer than 2^31 of
 *          them, at most 16384 outputs
 *   signs  uint8 [outputs][taps][ceil(inputs / 8)]: bit j of byte b is that of input 8 b + j, 1 for w >= 0 and 0 for w < 0;
 *          bits beyond the last input are 0
 *   scale  float32, one: (float32(sum of magnitudes) / float32(count)) * unit, the magnitude of w < 0 being -w - 1; the sum
 *          is exact, and at least 1 is taken
 * signs may not overlap w. A small core reads two weights at a time where w is aligned to 4. No scratch. Integer instructions only, but for the scale.
 */
#ifndef ET_FIXED_SIGNS_H
#define ET_FIXED_SIGNS_H

#include "et_base.h"

ET_CHECKED et_status et_fixed_signs_i16(
    size_t taps, size_t inputs, size_t outputs, float unit, const int16_t *w, uint8_t *signs, float *scale);

#endif
