/* The residual stream of a binary network without a multiplication: signs, blocks, projections, means.
 *
 * Codes are int16 that stand for code * 2^-fraction, [rows][channels]; see toolkit/ops/stream.py and stream_block.py
 * for what is computed. Sums are int32 and must not overflow. Right shifts round towards minus infinity. No scratch.
 */
#ifndef ET_STREAM_B1_H
#define ET_STREAM_B1_H

#include "et_base.h"

/* What follows the sums of one channel. */
#define ET_BLOCK_PARAMETERS 4 /* factor, b1, slope, b2 */

/* bits [rows][ceil(channels / 8)]: code >= threshold[c], bit j of byte b for channel 8 b + j; 0 beyond the last. */
ET_CHECKED et_status et_signs_b1(size_t rows, size_t channels, const int16_t *codes, const int16_t *thresholds,
    uint8_t *bits);

/* v = (sum << factor) >> right; h = v + shortcut + b1; y = (h >= 0 ? h : (h << up) >> slope) + b2.
 * parameters [channels][4]. shortcut may be NULL; y may be sums or shortcut. */
ET_CHECKED et_status et_block_b1(size_t rows, size_t channels, uint32_t right, uint32_t up, const int16_t *sums,
    const int16_t *parameters, const int16_t *shortcut, int16_t *y);

/* v [rows][outputs] = (sum << factor[oc]) >> right, clipped to [-largest, largest], where sum adds the codes whose sign
 * is 1 and subtracts the others. signs [outputs][ceil(channels / 8)]. v may not overlap codes. */
ET_CHECKED et_status et_projection_b1(size_t rows, size_t channels, size_t outputs, uint32_t right,
    int32_t largest, const int16_t *codes, const uint8_t *signs, const int16_t *factors, int16_t *v);

/* Means of windows that lie side by side, of 2^shift codes each. */
typedef struct {
    int32_t rows; /* of results, of all images */
    int32_t columns;
    int32_t channels;
    int32_t window_rows;
    int32_t window_columns;
    int32_t row; /* codes from row to row */
    int32_t window_row; /* codes from window to window, downwards */
    int32_t window_column;
    int32_t shift;
} et_average_shape_b1;

/* y [rows][columns][channels] = (sum of the window + half) >> shift. y may not overlap codes. */
ET_CHECKED et_status et_stream_average_b1(const et_average_shape_b1 *shape, const int16_t *codes, int16_t *y);

#endif
