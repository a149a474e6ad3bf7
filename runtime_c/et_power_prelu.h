/* PRelu with a slope of 2^k for each channel, and its gradients.
 *
 * x, y, dy, dx float32 [rows][channels]; exponent, dexponent float32 [channels].
 * k = et_rint_f32(exponent), clipped to [-126, 127]; NaN gives -126. The slope is a normal number, so that the product
 * is exact unless it becomes subnormal. No scratch.
 */
#ifndef ET_POWER_PRELU_H
#define ET_POWER_PRELU_H

#include "et_base.h"

/* y = x where x >= 0, else x * 2^k (NaN too). y may be x. */
ET_CHECKED et_status et_power_prelu_f32(size_t rows, size_t channels, const float *x, const float *exponent, float *y);

/* dx = dy where x >= 0, else dy * 2^k. dx may be dy or x. */
ET_CHECKED et_status et_power_prelu_grad_input_f32(size_t rows, size_t channels, const float *dy, const float *x,
    const float *exponent, float *dx);

/* dexponent = sum * (2^k * ln 2), where sum = madd(dy, x, sum) for each row with x < 0, ascending, from 0.
 * dexponent may not overlap the others. */
ET_CHECKED et_status et_power_prelu_grad_exponent_f32(size_t rows, size_t channels, const float *dy, const float *x,
    const float *exponent, float *dexponent);

#endif
