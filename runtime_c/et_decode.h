/* The real values that codes stand for, for layers whose other operand has no codes. No scratch; y may not overlap. */
#ifndef ET_DECODE_H
#define ET_DECODE_H

#include "et_base.h"

/* y = (float) code * scale[row].
 *   codes  int8 or int16 [rows][size]
 *   scale  float32 [rows]; rows is 1 where all of them share one
 *   y      float32 [rows][size]
 */
ET_CHECKED et_status et_decode_codes_i8(size_t rows, size_t size, const int8_t *codes, const float *scale, float *y);
ET_CHECKED et_status et_decode_codes_i16(size_t rows, size_t size, const int16_t *codes, const float *scale, float *y);

/* y = scale where the bit is 1, else -scale.
 *   signs  uint8 [outputs][taps][ceil(inputs / 8)], bit j of byte b stands for input 8 b + j
 *   scale  float32, one
 *   y      float32 [taps][inputs][outputs]
 */
ET_CHECKED et_status et_decode_signs_f32(
    size_t taps, size_t inputs, size_t outputs, const uint8_t *signs, const float *scale, float *y);

#endif
