/* Max pooling of binary16 in windows that neither overlap nor reach beyond the image: strides are the sizes of the
 * kernel, dilations are 1, and there is no padding. What is left of the image at its lower and right end is not seen.
 *
 *   x, dx    uint16 [batch][height][width][channels]
 *   y, dy    uint16 [batch][out_height][out_width][channels]
 *   position bits of which tap won, as et_pool.h has it for the kernel of the same name; at most 16 taps
 * Taps in row-major order; one that is greater takes the place of those before it, NaN never is. dx is dy at the tap
 * that won, and +0 elsewhere.
 */
#ifndef ET_HALF_POOL_H
#define ET_HALF_POOL_H

#include "et_pool.h"

ET_CHECKED et_status et_max_pool_fp16(const et_pool_shape *shape, const uint16_t *x, uint16_t *y);

ET_CHECKED et_status et_max_pool_packed_fp16(const et_pool_shape *shape, int32_t bits, const uint16_t *x, uint16_t *y,
                                             uint8_t *position);

/* The same, then y where y > 0, else +0 (for NaN too). Programs with such pools define ET_FORM_RECTIFY. */
ET_CHECKED et_status et_max_pool_relu_fp16(const et_pool_shape *shape, const uint16_t *x, uint16_t *y);

ET_CHECKED et_status et_max_pool_relu_packed_fp16(const et_pool_shape *shape, int32_t bits, const uint16_t *x,
                                                  uint16_t *y, uint8_t *position);

ET_CHECKED et_status et_max_pool_grad_packed_fp16(const et_pool_shape *shape, int32_t bits, const uint16_t *dy,
                                                  const uint8_t *position, uint16_t *dx);

#endif
