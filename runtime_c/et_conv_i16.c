#include "et_conv_i16.h"

#include "et_integer.h"

#define ET_CODE int16_t
#define ET_SUM int32_t
#define ET_IS_WIDE 0
#include "et_conv_integer.inc"

et_status et_conv_i16(const et_conv_shape *shape, int32_t x_zero, const int16_t *x, const int16_t *w,
                      const float *x_scale, const float *w_scale, int32_t w_scale_step, const float *bias,
                      const int32_t *start, void *scratch, float *y)
{
    const et_epilogue end = et_epilogue_real(x_scale, w_scale, w_scale_step, bias, start);
    conv_codes(shape, x, w, x_zero, &end, y, scratch);
    return ET_OK;
}
