/* The product of two activations, float32, with either of them transposed: its gradients are products as well.
 *
 * Pointers are aligned to 4 bytes; what is written overlaps nothing that is read. Any values, also not finite.
 * Every result has one accumulator. Needs no scratch.
 * Bits: numerics N1 and N2, the same for every build of this file.
 */
#ifndef ET_MATMUL_H
#define ET_MATMUL_H

#include "et_base.h"

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
