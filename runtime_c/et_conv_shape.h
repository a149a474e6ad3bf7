/* What the convolution kernels know of a layer: its sizes, and its borders cut into segments when compiling. */
#ifndef ET_CONV_SHAPE_H
#define ET_CONV_SHAPE_H

#include "et_base.h"

/* A run of results along one axis that meet the same kernel taps, so that no inner loop tests for borders.
 *   result  number r (0 <= r < count) lies at first + r * step
 *   tap     number t (0 <= t < taps) is kernel index tap + t * tap_step
 *   source  read by both: source + r * source_step + t * source_tap_step, always inside the source
 * Forward the results are outputs and the source is the input; for the gradient of the input it is the other way round.
 * taps is 0 where a result meets padding or gaps only; source is then 0.
 */
typedef struct {
    int16_t first;
    int16_t step;
    int16_t count;
    int16_t tap;
    int16_t tap_step;
    int16_t taps;
    int16_t source;
    int16_t source_step;
    int16_t source_tap_step;
} et_segment;

/* A convolution. 1-D ones have height, kernel_h and out_height 1.
 * Every result lies in exactly one of rows x columns (forward) and of grad_rows x grad_columns (gradient of the input).
 * A layer that is never run in one direction may leave out that direction's tables (NULL); its kernels then give
 * ET_BAD_ARGUMENT. Sizes along an axis are below 32768.
 */
typedef struct {
    int32_t batch;
    int32_t height; /* of the input */
    int32_t width;
    int32_t channels;
    int32_t out_height;
    int32_t out_width;
    int32_t out_channels;
    int16_t kernel_h;
    int16_t kernel_w;
    int16_t stride_h;
    int16_t stride_w;
    int16_t dilation_h;
    int16_t dilation_w;
    int16_t pad_top; /* the pads below and to the right follow from the sizes */
    int16_t pad_left;
    int32_t groups;
    int32_t row_count; /* segments of the output, forward */
    int32_t column_count;
    const et_segment *rows;
    const et_segment *columns;
    int32_t grad_row_count; /* segments of the input, for its gradient */
    int32_t grad_column_count;
    const et_segment *grad_rows;
    const et_segment *grad_columns;
} et_conv_shape;

#endif
