/* Activations and their gradients, element by element.
 *
 * For all kernels here: float32 [count] in any memory order common to the operands; the output may be any input exactly
 * (in place), and must not overlap one otherwise. Comparisons with NaN are false (N4).
 */
#ifndef ET_ACTIVATION_H
#define ET_ACTIVATION_H

#include "et_base.h"

/* y = x where x > 0, else +0 (also for NaN) */
ET_SHARED
ET_CHECKED et_status et_relu_f32(size_t count, const float *x, float *y);

/* dx = dy where y > 0, else +0 */
ET_SHARED
ET_CHECKED et_status et_relu_grad_f32(size_t count, const float *dy, const float *y, float *dx);

/* y = x where x > 0, else alpha * x */
ET_CHECKED et_status et_leaky_relu_f32(size_t count, float alpha, const float *x, float *y);

/* dx = dy where sign > 0, else alpha * dy. sign is x, or y if alpha > 0 */
ET_CHECKED et_status et_leaky_relu_grad_f32(size_t count, float alpha, const float *dy, const float *sign, float *dx);

/* y = x where x > 0, else x * slope; a slope for every element (see et_broadcast.h for fewer) */
ET_CHECKED et_status et_prelu_f32(size_t count, const float *x, const float *slope, float *y);

/* dslope = +0 where x > 0, else dy * x */
ET_CHECKED et_status et_prelu_grad_slope_f32(size_t count, const float *dy, const float *x, float *dslope);

/* v = x > low ? x : low; y = v < high ? v : high. NaN gives low, and high where low > high */
ET_CHECKED et_status et_clip_f32(size_t count, float low, float high, const float *x, float *y);

/* dx = dy where low <= x and x <= high, else +0 */
ET_CHECKED et_status et_clip_grad_f32(size_t count, float low, float high, const float *dy, const float *x, float *dx);

/* y = clip(madd(alpha, x, beta), 0, 1) */
ET_CHECKED et_status et_hard_sigmoid_f32(size_t count, float alpha, float beta, const float *x, float *y);

/* dx = alpha * dy where 0 < y and y < 1, else +0 */
ET_CHECKED et_status et_hard_sigmoid_grad_f32(size_t count, float alpha, const float *dy, const float *y, float *dx);

/* y = x * clip(madd(1/6, x, 1/2), 0, 1) */
ET_CHECKED et_status et_hard_swish_f32(size_t count, const float *x, float *y);

/* dx = +0 where x <= -3; dy where x >= 3; else dy * madd(1/3, x, 1/2) */
ET_CHECKED et_status et_hard_swish_grad_f32(size_t count, const float *dy, const float *x, float *dx);

/* y = et_sigmoid_f32(x) */
ET_CHECKED et_status et_sigmoid_each_f32(size_t count, const float *x, float *y);

/* dx = dy * (y * (1 - y)) */
ET_CHECKED et_status et_sigmoid_grad_f32(size_t count, const float *dy, const float *y, float *dx);

/* y = et_tanh_f32(x) */
ET_CHECKED et_status et_tanh_each_f32(size_t count, const float *x, float *y);

/* dx = dy * madd(-y, y, 1) */
ET_CHECKED et_status et_tanh_grad_f32(size_t count, const float *dy, const float *y, float *dx);

#endif
