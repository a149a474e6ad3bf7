/* The signs of real weights, packed: those that they have, or drawn with a probability that follows from the weight.
 *
 *   w      [groups][panel][taps][inputs][width]: float32, or stored in 16 bits (et_stored.h). A panel is `width` output
 *          channels of a group, the last one of what is left; with one group and a width of `outputs`, that is
 *          [taps][inputs][outputs]
 *   signs  uint8 [outputs][taps][ceil(inputs / 8)]: bit j of byte b is that of input 8 b + j, 1 for +1 and 0 for -1;
 *          bits beyond the last input are 0
 * signs may not overlap w. No scratch.
 */
#ifndef ET_WEIGHT_SIGNS_H
#define ET_WEIGHT_SIGNS_H

#include "et_base.h"

/* bit = w >= 0: both zeros give 1, NaN gives 0. */
ET_CHECKED et_status et_pack_signs_f32(
    size_t taps, size_t inputs, size_t outputs, size_t groups, size_t width, const float *w, uint8_t *signs);
ET_CHECKED et_status et_pack_signs_fixed16(
    size_t taps, size_t inputs, size_t outputs, size_t groups, size_t width, const int16_t *w, uint8_t *signs);
ET_CHECKED et_status et_pack_signs_fp16(
    size_t taps, size_t inputs, size_t outputs, size_t groups, size_t width, const uint16_t *w, uint8_t *signs);

/* bit = et_random_unit_f32(seed, step, stream, i) < madd(w, slope, 0.5), i the index of the weight
 * in [taps][inputs][outputs]; NaN gives 0. */
ET_CHECKED et_status et_draw_signs_f32(
    size_t taps, size_t inputs, size_t outputs, size_t groups, size_t width, float slope, uint32_t seed,
    uint32_t step, uint32_t stream, const float *w, uint8_t *signs);
ET_CHECKED et_status et_draw_signs_fixed16(
    size_t taps, size_t inputs, size_t outputs, size_t groups, size_t width, int32_t exponent, float slope,
    uint32_t seed, uint32_t step, uint32_t stream, const int16_t *w, uint8_t *signs);
ET_CHECKED et_status et_draw_signs_fp16(
    size_t taps, size_t inputs, size_t outputs, size_t groups, size_t width, float slope, uint32_t seed,
    uint32_t step, uint32_t stream, const uint16_t *w, uint8_t *signs);

#endif
