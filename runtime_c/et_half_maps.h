/* What lies between the layers of a network on binary16: ReLU, sums of tensors, and sums over rows, with arithmetic of
 * binary16 ("native"). Formats and rounding: et_half.h.
 *
 *   x, y, a, b, dy, dx    uint16, elements in any memory order common to all of a call; a result may take the place of
 *                         an operand, else nothing overlaps
 */
#ifndef ET_HALF_MAPS_H
#define ET_HALF_MAPS_H

#include "et_base.h"

/* y = x where x > 0, else 0; NaN gives 0 */
ET_CHECKED et_status et_relu_fp16(size_t count, const uint16_t *x, uint16_t *y);

/* dx = dy where y, an output of ReLU and so without a sign, is not +0; else 0 */
ET_CHECKED et_status et_relu_grad_fp16(size_t count, const uint16_t *dy, const uint16_t *y, uint16_t *dx);

/* y = a + b, rounded once */
ET_CHECKED et_status et_add_fp16(size_t count, const uint16_t *a, const uint16_t *b, uint16_t *y);

/* The same, then y where y > 0, else +0 (for NaN too). Programs with such sums define ET_FORM_RECTIFY. */
ET_CHECKED et_status et_add_relu_fp16(size_t count, const uint16_t *a, const uint16_t *b, uint16_t *y);

/* y[c] = factor * (sum over rows of x[row][c]), in float32 from 0, rows ascending; x [rows][channels] */
ET_CHECKED et_status et_sum_rows_fp16(size_t rows, size_t channels, float factor, const uint16_t *x, float *y);

/* y[n][c] = (sum over rows of x[n][row][c] in float32, from 0, ascending) * (1 / rows), rounded to float32 and then to
 * binary16; x [images][rows][channels] */
ET_CHECKED et_status et_mean_rows_fp16(size_t images, size_t rows, size_t channels, const uint16_t *x, uint16_t *y);

/* dx[n][row][c] = dy[n][c] * (1 / rows), rounded likewise; dx does not overlap dy */
ET_CHECKED et_status et_mean_rows_grad_fp16(size_t images, size_t rows, size_t channels, const uint16_t *dy,
                                            uint16_t *dx);

#endif
