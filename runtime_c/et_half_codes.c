/* See et_half_codes.h. */
#include "et_half_codes.h"

#include "et_half.h"

et_status et_to_fp16_f32(size_t count, float factor, const float *x, uint16_t *y)
{
    et_to_fp16_row((ptrdiff_t)count, factor, x, y);
    return ET_OK;
}

et_status et_to_bf16_f32(size_t count, float factor, const float *x, uint16_t *y)
{
    for (size_t i = 0; i < count; i++)
        y[i] = et_to_bf16(factor * x[i]);
    return ET_OK;
}

et_status et_from_fp16_f32(size_t count, const uint16_t *x, float *y)
{
    et_from_fp16_row((ptrdiff_t)count, x, y);
    return ET_OK;
}

et_status et_from_bf16_f32(size_t count, const uint16_t *x, float *y)
{
    for (size_t i = 0; i < count; i++)
        y[i] = et_from_bf16(x[i]);
    return ET_OK;
}
