/* Dense layer with float32. A batch of 1 is a vector times a matrix; more rows are a 1x1 convolution over them.
 *
 *   x       [batch][inputs]
 *   y       [batch][outputs]
 *   w       [outputs/16][inputs][16], the last panel exactly as wide as what is left: the layout of a 1x1 convolution
 *   bias    [outputs], or NULL for none
 * Pointers are aligned to 4 bytes; what is written overlaps nothing that is read. Any values, also not finite.
 * Every result has one accumulator. Needs no scratch.
 * Bits: numerics N1 and N2, the same for every build of this file.
 */
#ifndef ET_DENSE_H
#define ET_DENSE_H

#include "et_base.h"

typedef struct {
    int32_t batch;
    int32_t inputs;
    int32_t outputs;
} et_dense_shape;

/* y[n][j] = bias[j] + sum over k ascending of x[n][k] * w[k][j], one et_madd each. */
ET_SHARED
ET_CHECKED et_status et_dense_f32(const et_dense_shape *shape, const float *x, const float *w, const float *bias,
                                  float *y);

/* The same, then y where y > 0, else +0 (for NaN too), and the ceiling where that is less; it is above 0, and infinite for
 * ReLU alone. Programs with such layers define ET_FORM_RECTIFY, and with a finite ceiling ET_FORM_CEILING. */
ET_SHARED
ET_CHECKED et_status et_dense_relu_f32(const et_dense_shape *shape, float ceiling, const float *x, const float *w,
                                       const float *bias, float *y);

#endif
