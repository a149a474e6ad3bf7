/* Dense layer with float32, its gradients, and the product of two activations.
 *
 * Layouts
 *   x, dx   [batch][inputs]
 *   y, dy   [batch][outputs]
 *   w, dw   [outputs/16][inputs][16], the last panel exactly as wide as what is left: the layout of a 1x1 convolution
 *   bias    [outputs], or NULL for none
 * Pointers are aligned to 4 bytes; what is written overlaps nothing that is read. Any values, also not finite.
 *
 * Every result has one accumulator. Scratch: none in memory of the caller (vector builds: 64 KiB of stack).
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
ET_CHECKED et_status et_dense_f32(const et_dense_shape *shape, const float *x, const float *w, const float *bias,
                                  float *y);

/* dx[n][k] = sum over j ascending of dy[n][j] * w[k][j], one et_madd each, from 0. */
ET_CHECKED et_status et_dense_grad_input_f32(const et_dense_shape *shape, const float *dy, const float *w, float *dx);

/* dw[k][j] = sum over n ascending of x[n][k] * dy[n][j], one et_madd each, from 0.
 *   accumulate  0: dw is overwritten; 1: the finished sum is added to dw by one plain addition
 */
ET_CHECKED et_status et_dense_grad_weight_f32(const et_dense_shape *shape, const float *x, const float *dy, float *dw,
                                              int32_t accumulate);

/* Matrices in row-major order, without packing. a is [rows][inner], or [inner][rows] if transpose_a; b is
 * [inner][columns], or [columns][inner] if transpose_b; c is [rows][columns].
 * Matrix number i of the batch starts at a + i * a_step and b + i * b_step (elements; 0: one matrix for all), and at
 * c + i * rows * columns. */
typedef struct {
    int32_t batch;
    int32_t rows;
    int32_t inner;
    int32_t columns;
    int32_t a_step;
    int32_t b_step;
    int32_t transpose_a;
    int32_t transpose_b;
} et_matmul_shape;

/* c[i][m][n] = sum over k ascending of a[i][m][k] * b[i][k][n], one et_madd each, from 0. */
ET_CHECKED et_status et_matmul_f32(const et_matmul_shape *shape, const float *a, const float *b, float *c);

#endif
