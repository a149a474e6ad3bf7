/* See et_half_codes.h. */
#include "et_half_codes.h"

#include "et_each.h"
#include "et_half.h"

#define TO_FP16(i) et_to_fp16(factor * x[i])
#define TO_FP16_AS_IT_IS(i) et_to_fp16(x[i])
#define TO_BF16(i) et_to_bf16(factor * x[i])
#define FROM_FP16(i) et_from_fp16(x[i])
#define FROM_BF16(i) et_from_bf16(x[i])
#define PASS(i) (y[i] != 0u && y[i] <= infinity ? dy[i] : 0.0f) /* the sign makes y larger than infinity */

et_status et_to_fp16_f32(size_t count, float factor, const float *x, uint16_t *y)
{
#if ET_HAS_F16C
    et_to_fp16_row((ptrdiff_t)count, factor, x, y);
#else
    if (factor == 1.0f)
        ET_EACH_OF(uint16_t, count, y, TO_FP16_AS_IT_IS);
    else
        ET_EACH_OF(uint16_t, count, y, TO_FP16);
#endif
    return ET_OK;
}

et_status et_to_bf16_f32(size_t count, float factor, const float *x, uint16_t *y)
{
    ET_EACH_OF(uint16_t, count, y, TO_BF16);
    return ET_OK;
}

et_status et_from_fp16_f32(size_t count, const uint16_t *x, float *y)
{
#if ET_HAS_F16C
    et_from_fp16_row((ptrdiff_t)count, x, y);
#else
    ET_EACH(count, y, FROM_FP16);
#endif
    return ET_OK;
}

et_status et_from_bf16_f32(size_t count, const uint16_t *x, float *y)
{
    ET_EACH(count, y, FROM_BF16);
    return ET_OK;
}

et_status et_relu_grad_half_f32(size_t count, uint16_t infinity, const float *dy, const uint16_t *y, float *dx)
{
    ET_EACH(count, dx, PASS);
    return ET_OK;
}
