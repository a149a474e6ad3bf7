/* Maximum pooling of integer codes: what et_pool.h says of float32, for int8 and int16.
 *
 * Input and output may not overlap. No scratch. ET_BAD_ARGUMENT where a window has no tap inside.
 */
#ifndef ET_POOL_CODES_H
#define ET_POOL_CODES_H

#include "et_pool.h"

ET_CHECKED et_status et_max_pool_i8(const et_pool_shape *shape, const int8_t *x, int8_t *y);
ET_CHECKED et_status et_max_pool_i16(const et_pool_shape *shape, const int16_t *x, int16_t *y);

/* The same, and which tap it was, the first of equal ones. */
ET_CHECKED et_status et_max_pool_arg8_i8(const et_pool_shape *shape, const int8_t *x, int8_t *y, uint8_t *position);
ET_CHECKED et_status et_max_pool_arg16_i8(const et_pool_shape *shape, const int8_t *x, int8_t *y, uint16_t *position);
ET_CHECKED et_status et_max_pool_arg8_i16(const et_pool_shape *shape, const int16_t *x, int16_t *y, uint8_t *position);
ET_CHECKED et_status et_max_pool_arg16_i16(
    const et_pool_shape *shape, const int16_t *x, int16_t *y, uint16_t *position);
ET_CHECKED et_status et_max_pool_packed_i8(
    const et_pool_shape *shape, int32_t bits, const int8_t *x, int8_t *y, uint8_t *position);
ET_CHECKED et_status et_max_pool_packed_i16(
    const et_pool_shape *shape, int32_t bits, const int16_t *x, int16_t *y, uint8_t *position);

#endif
