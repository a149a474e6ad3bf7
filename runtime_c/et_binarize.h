/* Signs of activations, one bit each, and the surrogate gradient that trains what is in front of them.
 *
 * x float32 [rows][channels], shift float32 [channels], bits uint8 [rows][ceil(channels / 8)]: bit j of byte b stands
 * for channel 8 b + j, 1 is +1 and 0 is -1; bits beyond the last channel are 0. No scratch.
 */
#ifndef ET_BINARIZE_H
#define ET_BINARIZE_H

#include "et_base.h"

/* bit = madd(beta, x, shift) >= 0; NaN gives 0. bits may not overlap x. */
ET_CHECKED et_status et_binarize_activations_f32(size_t rows, size_t channels, float beta, const float *x,
    const float *shift, uint8_t *bits);

/* dz = dy * et_sigmoid_slope_f32(madd(beta, x, shift)). dz [rows][channels] may be dy or x. */
ET_CHECKED et_status et_binarize_activations_grad_f32(size_t rows, size_t channels, float beta, const float *dy,
    const float *x, const float *shift, float *dz);

/* y = +1 where the bit is 1, else -1. y [rows][channels] may not overlap bits. */
ET_CHECKED et_status et_unpack_signs_f32(size_t rows, size_t channels, const uint8_t *bits, float *y);

/* y = +1 where the bit is 1, else -1: weights as they lie for other kernels.
 *   bits  uint8 [outputs][taps][ceil(inputs / 8)]
 *   y     float32 [taps][inputs][outputs]; may not overlap bits
 */
ET_CHECKED et_status et_unpack_weight_signs_f32(size_t taps, size_t inputs, size_t outputs, const uint8_t *bits,
    float *y);

#endif
