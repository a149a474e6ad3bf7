/* Products of matrices that lie anywhere: what et_matmul.c and et_dense_batch.c have in common. Not for callers.
 *
 * Strides say where the operands are, so that transposed ones need no code of their own. Every result has one accumulator.
 * Builds for hosts with vectors use 56 KiB of stack where b is turned.
 */
#ifndef ET_PRODUCT_H
#define ET_PRODUCT_H

#include "et_base.h"
#include "et_lanes.h"

/* a[m * a_row + k * a_step], b[k * b_step + n * b_column] and c[m * c_row + n]; b_column or b_step is 1. */
typedef struct {
    int32_t rows;
    int32_t inner;
    int32_t columns;
    ptrdiff_t a_row;
    ptrdiff_t a_step;
    ptrdiff_t b_column;
    ptrdiff_t b_step;
    ptrdiff_t c_row;
    const float *a;
    const float *b;
    float *c;
    bool resume; /* sums go on from what c holds */
#if ET_LANES >= 8
    const float *initial; /* [rows] what they begin with if they do not go on, or NULL for 0 */
#endif
} et_product;

/* c[m][n] = c[m][n], initial[m] or 0, plus sum over k ascending of a[m][k] * b[k][n], one et_madd each. */
void et_product_sum(const et_product *of);

#endif
