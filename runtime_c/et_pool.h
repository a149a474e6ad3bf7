/* Pooling over the two spatial axes of channels-last images; 1-D pooling has height 1.
 *
 * Images are float32 [batch][height][width][channels], pooled ones [batch][out_height][out_width][channels]. A window
 * begins at output * stride - pad and has taps `dilation` apart. Taps on padding do not exist; "in order" below is the
 * row-major order of the taps that lie inside. Input and output may not overlap. No scratch.
 */
#ifndef ET_POOL_H
#define ET_POOL_H

#include "et_base.h"

typedef struct {
    int32_t batch;
    int32_t height;
    int32_t width;
    int32_t channels;
    int32_t out_height;
    int32_t out_width;
    int32_t kernel_height;
    int32_t kernel_width;
    int32_t stride_height;
    int32_t stride_width;
    int32_t dilation_height;
    int32_t dilation_width;
    int32_t pad_top;
    int32_t pad_left;
    int32_t pad_bottom;
    int32_t pad_right;
    int32_t count_include_pad; /* averages only, 0 or 1: taps on padding count, though they add nothing */
} et_pool_shape;

/* Maximum of each window: starts with the first tap, then takes, in order, every one that is greater. NaN is not
 * greater, and nothing is greater than NaN. ET_BAD_ARGUMENT where a window has no tap inside.
 */
ET_SHARED
ET_CHECKED et_status et_max_pool_f32(const et_pool_shape *shape, const float *x, float *y);

/* The same, and which tap it was: kernel row * kernel_width + kernel column, the first of equal ones.
 *   position  uint8 (windows of at most 256 taps) or uint16 (65536), as y
 */
ET_SHARED
ET_CHECKED et_status et_max_pool_arg8_f32(const et_pool_shape *shape, const float *x, float *y, uint8_t *position);
ET_SHARED
ET_CHECKED et_status et_max_pool_arg16_f32(const et_pool_shape *shape, const float *x, float *y, uint16_t *position);

/* The same with positions in 2 bits (windows of at most 4 taps) or 4 bits (16).
 *   position  uint8 [batch][out_height][out_width][ceil(channels * bits / 8)]: channel c has the bits from c * bits on,
 *             the lowest bit of each byte first; unused bits are 0
 */
ET_SHARED
ET_CHECKED et_status et_max_pool_packed_f32(
    const et_pool_shape *shape, int32_t bits, const float *x, float *y, uint8_t *position);

typedef struct {
    int32_t batch;
    int32_t height;
    int32_t width;
    int32_t channels;
    int32_t out_height;
    int32_t out_width;
    int32_t stride_height;
    int32_t stride_width;
    int32_t pad_top;
    int32_t pad_left;
    const int32_t *tap_offset; /* for each position in the window, elements from its first tap: one image row is
                                * width * channels of them */
} et_max_pool_grad_shape;

/* dx = 0, then each dy is added to the element that won its window; windows ascend in row-major order.
 *   dy, position  as y and position above
 *   dx            as x
 */
ET_SHARED
ET_CHECKED et_status et_max_pool_grad_arg8_f32(
    const et_max_pool_grad_shape *shape, const float *dy, const uint8_t *position, float *dx);
ET_SHARED
ET_CHECKED et_status et_max_pool_grad_arg16_f32(
    const et_max_pool_grad_shape *shape, const float *dy, const uint16_t *position, float *dx);
ET_SHARED
ET_CHECKED et_status et_max_pool_grad_packed_f32(
    const et_max_pool_grad_shape *shape, int32_t bits, const float *dy, const uint8_t *position, float *dx);

/* Mean of each window: the taps are added in order, from 0; the sum is multiplied by 1 / count, rounded once. `count`
 * is the number of taps inside the image, or inside the padded image with count_include_pad.
 */
ET_CHECKED et_status et_average_pool_f32(const et_pool_shape *shape, const float *x, float *y);

/* dx = 0, then dy * (1 / count), rounded once, is added to each tap of its window; windows ascend in row-major order.
 */
ET_CHECKED et_status et_average_pool_grad_f32(const et_pool_shape *shape, const float *dy, float *dx);

#endif
