/* Softmax and log-softmax over the middle one of three axes.
 *
 * For all kernels here: float32 [outer][length][inner], row-major, sizes >= 1; the output may be any input exactly (in
 * place). Every sum goes over the middle axis in ascending order from +0 (N2). The maximum is the first of equals.
 */
#ifndef ET_SOFTMAX_H
#define ET_SOFTMAX_H

#include "et_base.h"

/* e = exp(x - max); y = e / (sum of e) */
ET_CHECKED et_status et_softmax_f32(int32_t outer, int32_t length, int32_t inner, const float *x, float *y);

/* dx = (dy - d) * y, d = sum of dy * y by multiply-adds */
ET_CHECKED et_status et_softmax_grad_f32(
    int32_t outer, int32_t length, int32_t inner, const float *dy, const float *y, float *dx);

/* y = (x - max) - log(sum of exp(x - max)) */
ET_CHECKED et_status et_log_softmax_f32(int32_t outer, int32_t length, int32_t inner, const float *x, float *y);

/* dx = madd(-exp(y), sum of dy, dy) */
ET_CHECKED et_status et_log_softmax_grad_f32(
    int32_t outer, int32_t length, int32_t inner, const float *dy, const float *y, float *dx);

#endif
