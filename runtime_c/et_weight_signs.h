/* The signs of real weights, packed: those that they have, or drawn with a probability that follows from the weight.
 *
 *   w      [taps][inputs][outputs]: float32, or stored in 16 bits (et_stored.h)
 *   signs  uint8 [outputs][taps][ceil(inputs / 8)]: bit j of byte b is that of input 8 b + j, 1 for +1 and 0 for -1; bits
 *          beyond the last input are 0
 * signs may not overlap w. No scratch.
 */
#ifndef ET_WEIGHT_SIGNS_H
#define ET_WEIGHT_SIGNS_H

#include "et_base.h"

/* bit = w >= 0: both zeros give 1, NaN gives 0. */
ET_CHECKED et_status et_pack_signs_f32(size_t taps, size_t inputs, size_t outputs, const float *w, uint8_t *signs);
ET_CHECKED et_status et_pack_signs_fixed16(
    size_t taps, size_t inputs, size_t outputs, const int16_t *w, uint8_t *signs);
ET_CHECKED et_status et_pack_signs_fp16(size_t taps, size_t inputs, size_t outputs, const uint16_t *w, uint8_t *signs);

/* bit = et_random_unit_f32(seed, step, stream, i) < madd(w, slope, 0.5), i the index of the weight; NaN gives 0. */
ET_CHECKED et_status et_draw_signs_f32(
    size_t taps, size_t inputs, size_t outputs, float slope, uint32_t seed, uint32_t step, uint32_t stream,
    const float *w, uint8_t *signs);
ET_CHECKED et_status et_draw_signs_fixed16(
    size_t taps, size_t inputs, size_t outputs, int32_t exponent, float slope, uint32_t seed, uint32_t step,
    uint32_t stream, const int16_t *w, uint8_t *signs);
ET_CHECKED et_status et_draw_signs_fp16(
    size_t taps, size_t inputs, size_t outputs, float slope, uint32_t seed, uint32_t step, uint32_t stream,
    const uint16_t *w, uint8_t *signs);

#endif
