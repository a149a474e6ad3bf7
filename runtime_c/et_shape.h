/* Moving values to other places: transposition, slices, padding, concatenation. float32; input and output may not
 * overlap. No arithmetic, so NaN payloads and signed zeros are kept; but for the gradient of padding with copies.
 */
#ifndef ET_SHAPE_H
#define ET_SHAPE_H

#include "et_base.h"

/* One side of a copy is dense: row-major [size0]..[size5]. The other is walked in strides: its element for the index
 * (i0, .., i5) is number offset + i0 * stride0 + .. + i5 * stride5. Sizes are at least 1; unused axes come first, with
 * size 1.
 */
typedef struct {
    int32_t size0;
    int32_t size1;
    int32_t size2;
    int32_t size3;
    int32_t size4;
    int32_t size5;
    int32_t stride0;
    int32_t stride1;
    int32_t stride2;
    int32_t stride3;
    int32_t stride4;
    int32_t stride5;
    int32_t offset;
} et_walk;

/* y = x with its axes in another order.
 *   walk  its sizes are those of y, its strides those of x
 */
ET_CHECKED et_status et_transpose_f32(const et_walk *walk, const float *x, float *y);

/* y = part of x.
 *   walk  its sizes are those of y, its strides those of x
 */
ET_CHECKED et_status et_slice_f32(const et_walk *walk, const float *x, float *y);

/* y = `value` everywhere, but x where the walk goes.
 *   walk   its sizes are those of x, its strides those of y
 *   count  elements of y
 */
ET_CHECKED et_status et_pad_f32(const et_walk *walk, int32_t count, float value, const float *x, float *y);

/* Padding with copies: y[i0][i1][i2][i3] is `inner` elements of x from source0[i0] + source1[i1] + source2[i2] +
 * source3[i3] on. Sizes are at least 1; unused axes come first, with size 1 and source {0}.
 */
typedef struct {
    int32_t size0;
    int32_t size1;
    int32_t size2;
    int32_t size3;
    int32_t inner;
    const int32_t *source0;
    const int32_t *source1;
    const int32_t *source2;
    const int32_t *source3;
} et_border_shape;

/* y = x with a border of copies of its own elements.
 *   y  float32 [size0][size1][size2][size3][inner]
 */
ET_CHECKED et_status et_border_pad_f32(const et_border_shape *shape, const float *x, float *y);

/* dx = 0, then each dy is added to the element that it is a copy of, in ascending order of dy.
 *   count  elements of dx
 *   dy     as y
 */
ET_CHECKED et_status et_border_pad_grad_f32(const et_border_shape *shape, int32_t count, const float *dy, float *dx);

/* `blocks` times: length0 elements of x0, then length1 of x1, and so on. An input of length 0 may be NULL. */
typedef struct {
    int32_t blocks;
    int32_t length0;
    int32_t length1;
    int32_t length2;
    int32_t length3;
} et_concat_shape;

/* y = x0, x1, x2, x3 side by side along an axis.
 *   x0..x3  float32 [blocks][length of each]
 *   y       float32 [blocks][sum of the lengths]
 */
ET_CHECKED et_status et_concat_f32(const et_concat_shape *shape, const float *x0, const float *x1, const float *x2,
    const float *x3, float *y);

#endif
