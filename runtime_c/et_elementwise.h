/* Arithmetic of equal shapes, element by element. Broadcasting is in et_broadcast.h.
 *
 * For all kernels here: float32 [count] in any memory order common to the operands; the output y may be any input
 * exactly (in place), and must not overlap one otherwise. Each result is one IEEE operation, rounded once (N1).
 */
#ifndef ET_ELEMENTWISE_H
#define ET_ELEMENTWISE_H

#include "et_base.h"

/* y = a + b */
ET_SHARED
ET_CHECKED et_status et_add_f32(size_t count, const float *a, const float *b, float *y);

/* y = a + b, then y where y > 0, else +0 (for NaN too), and the ceiling where that is less; it is above 0, and infinite for
 * ReLU alone. Programs that call it define ET_FORM_RECTIFY, and for a finite ceiling ET_FORM_CEILING. */
ET_SHARED
ET_CHECKED et_status et_add_relu_f32(size_t count, float ceiling, const float *a, const float *b, float *y);

/* dx = a + b where least <= y and y <= most, else +0; 0 < least <= most. Programs with it define ET_FORM_GATE. */
ET_SHARED
ET_CHECKED et_status et_add_gated_f32(size_t count, float least, float most, const float *a, const float *b,
                                      const float *y, float *dx);

/* y = a - b */
ET_CHECKED et_status et_sub_f32(size_t count, const float *a, const float *b, float *y);

/* y = a * b */
ET_CHECKED et_status et_mul_f32(size_t count, const float *a, const float *b, float *y);

/* y = a / b, correctly rounded (N3) */
ET_CHECKED et_status et_div_f32(size_t count, const float *a, const float *b, float *y);

/* y = -x, exact */
ET_CHECKED et_status et_neg_f32(size_t count, const float *x, float *y);

/* y = factor * x */
ET_CHECKED et_status et_scale_f32(size_t count, float factor, const float *x, float *y);

/* y = +0 */
ET_CHECKED et_status et_zero_f32(size_t count, float *y);

#endif
