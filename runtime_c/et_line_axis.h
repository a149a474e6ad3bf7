/* The two axes of an image as kernels see them that take a line of outputs at a time. Not for callers.
 *
 * Outputs share inputs with one another where stride and dilation have a common divisor: outputs `between` apart read
 * inputs that are `apart` dilations apart. So a row or column of outputs falls into `between` lines, and the inputs of one
 * line are numbered in steps of the dilation, from that of the first tap of its first output on.
 */
#ifndef ET_LINE_AXIS_H
#define ET_LINE_AXIS_H

#include "et_conv_shape.h"

typedef struct {
    int32_t size; /* of the input */
    int32_t outputs;
    int32_t taps;
    int32_t stride;
    int32_t dilation;
    int32_t pad;
    int32_t apart;
    int32_t between;
    ptrdiff_t x_step; /* elements from one pixel to the next */
    ptrdiff_t y_step;
    ptrdiff_t w_step; /* from one tap to the next */
} et_line_axis;

typedef struct {
    int32_t position; /* of input 0, which may be before the image */
    int32_t first; /* input that is inside the image */
    int32_t end;
    int32_t count; /* outputs */
} et_line;

/* n / by, rounded up, for n >= 0. */
static inline int32_t et_ceil_div(int32_t n, int32_t by)
{
    return (n + by - 1) / by;
}

/* The line of outputs from number `output` on, which is below `between`. */
static inline et_line et_line_of(const et_line_axis *axis, int32_t output)
{
    const int32_t position = output * axis->stride - axis->pad;
    const et_line line = {
        .position = position,
        .first = position < 0 ? et_ceil_div(-position, axis->dilation) : 0,
        .end = position < axis->size ? et_ceil_div(axis->size - position, axis->dilation) : 0,
        .count = output < axis->outputs ? et_ceil_div(axis->outputs - output, axis->between) : 0,
    };
    return line;
}

/* Fills in `apart` and `between`. */
static inline void et_line_axis_divide(et_line_axis *axis)
{
    int32_t common = axis->stride;
    for (int32_t rest = axis->dilation; rest != 0;) {
        const int32_t next = common % rest;
        common = rest;
        rest = next;
    }
    axis->apart = axis->stride / common;
    axis->between = axis->dilation / common;
}

/* Both axes of a layer. */
static inline void et_line_axes(const et_conv_shape *shape, et_line_axis *down, et_line_axis *right)
{
    const ptrdiff_t channels = shape->channels, outputs = shape->out_channels;
    const et_line_axis rows = {
        .size = shape->height,
        .outputs = shape->out_height,
        .taps = shape->kernel_h,
        .stride = shape->stride_h,
        .dilation = shape->dilation_h,
        .pad = shape->pad_top,
        .x_step = shape->width * channels,
        .y_step = shape->out_width * outputs,
        .w_step = shape->kernel_w * (channels / shape->groups) * outputs,
    };
    const et_line_axis columns = {
        .size = shape->width,
        .outputs = shape->out_width,
        .taps = shape->kernel_w,
        .stride = shape->stride_w,
        .dilation = shape->dilation_w,
        .pad = shape->pad_left,
        .x_step = channels,
        .y_step = outputs,
        .w_step = channels / shape->groups * outputs,
    };
    *down = rows;
    *right = columns;
    et_line_axis_divide(down);
    et_line_axis_divide(right);
}

#endif
