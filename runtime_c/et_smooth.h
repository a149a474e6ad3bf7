/* Smooth activations made of et_math.h's functions, and their gradients, element by element.
 *
 * For all kernels here: float32 [count] in any memory order common to the operands; the output may be any input exactly
 * (in place), and must not overlap one otherwise. NaN gives NaN, and so does -inf where a product with 0 arises.
 */
#ifndef ET_SMOOTH_H
#define ET_SMOOTH_H

#include "et_base.h"

/* y = et_erf_f32(x) */
ET_CHECKED et_status et_erf_each_f32(size_t count, const float *x, float *y);

/* dx = dy * (et_exp_f32(-(x * x)) * 2/sqrt(pi)) */
ET_CHECKED et_status et_erf_grad_f32(size_t count, const float *dy, const float *x, float *dx);

/* y = x * 0.5 * (et_erf_f32(x * sqrt(1/2)) + 1), from the left */
ET_CHECKED et_status et_gelu_f32(size_t count, const float *x, float *y);

/* dx = dy * madd(x, density, 0.5 * (et_erf_f32(x * sqrt(1/2)) + 1)); density = et_exp_f32(x * x * -0.5) / sqrt(2 pi),
 * times the reciprocal rounded to float32 */
ET_CHECKED et_status et_gelu_grad_f32(size_t count, const float *dy, const float *x, float *dx);

/* y = x * 0.5 * (et_tanh_f32(x * madd(0.044715 * c, x * x, c)) + 1), from the left; c = sqrt(2 / pi) */
ET_CHECKED et_status et_gelu_tanh_f32(size_t count, const float *x, float *y);

/* dx = dy * madd(x * 0.5 * madd(-t, t, 1), madd(3 * 0.044715 * c, x * x, c), 0.5 * (t + 1)); t: the tanh above */
ET_CHECKED et_status et_gelu_tanh_grad_f32(size_t count, const float *dy, const float *x, float *dx);

/* y = x * et_sigmoid_f32(alpha * x) */
ET_CHECKED et_status et_swish_f32(size_t count, float alpha, const float *x, float *y);

/* dx = dy * (s * madd(z, 1 - s, 1)), z = alpha * x, s = et_sigmoid_f32(z) */
ET_CHECKED et_status et_swish_grad_f32(size_t count, float alpha, const float *dy, const float *x, float *dx);

#endif
