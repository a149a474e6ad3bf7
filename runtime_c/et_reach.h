/* Which outputs one kernel tap reaches: what the gradients of convolution weights sum over. */
#ifndef ET_REACH_H
#define ET_REACH_H

#include "et_conv_shape.h"

typedef struct {
    int32_t first;
    int32_t count;
} et_span;

/* One axis: the outputs o with 0 <= o < out_size and 0 <= o * stride + offset < size. */
et_span et_span_of(int32_t size, int32_t out_size, int32_t stride, int32_t offset);

/* In each image a rectangle of outputs, walked row by row beside the inputs that they meet. */
typedef struct {
    int32_t images; /* 0: none, and x and dy are not to be read */
    int32_t rows;
    int32_t columns;
    ptrdiff_t x_first; /* elements before the first input and the first output */
    ptrdiff_t dy_first;
    ptrdiff_t x_column; /* from one pixel to the next */
    ptrdiff_t dy_column;
    ptrdiff_t x_row; /* from the end of a row to the start of the next */
    ptrdiff_t dy_row;
    ptrdiff_t x_image; /* from the end of an image to the start of the next */
    ptrdiff_t dy_image;
} et_reach;

/* Of tap (kh, kw). */
et_reach et_reach_of(const et_conv_shape *shape, int32_t kh, int32_t kw);

#endif
