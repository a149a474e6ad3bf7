#include "et_conv_i8.h"

#include "et_integer.h"

#define ET_CODE int8_t
#define ET_SUM int32_t
#define ET_IS_WIDE 0
#include "et_conv_integer.inc"

#if ET_SCALAR_CORE && ET_FORM_CODES_SLIDE
#include "et_slide_codes.inc"
#endif

et_status et_conv_i8(const et_conv_shape *shape, int32_t x_zero, const int8_t *x, const int8_t *w,
                     const float *x_scale, const float *w_scale, int32_t w_scale_step, const float *bias,
                     const int32_t *start, void *scratch, float *y)
{
    const et_epilogue end = et_epilogue_real(x_scale, w_scale, w_scale_step, bias, start);
    conv_codes(shape, x, w, x_zero, &end, y, scratch);
    return ET_OK;
}

et_status et_conv_codes_i8(const et_conv_shape *shape, int32_t x_zero, int32_t levels, const int8_t *x,
                           const int8_t *w, const int32_t *thresholds, const int8_t *direction, void *scratch,
                           int8_t *y)
{
    const et_epilogue end = et_epilogue_codes(thresholds, levels, direction);
    conv_codes(shape, x, w, x_zero, &end, y, scratch);
    return ET_OK;
}

et_status et_conv_requantized_i8(const et_conv_shape *shape, int32_t x_zero, int32_t zero, int32_t low, int32_t high,
                                 const int8_t *x, const int8_t *w, const int32_t *start, const int32_t *multiplier,
                                 const int8_t *shift, void *scratch, int8_t *y)
{
    const ptrdiff_t terms = (ptrdiff_t)shape->kernel_h * shape->kernel_w * (shape->channels / shape->groups);
    const et_epilogue end =
        et_epilogue_requantized(start, multiplier, shift, shape->out_channels, terms, zero, low, high);
#if ET_SCALAR_CORE && ET_FORM_CODES_SLIDE
    if (slide_to_codes(shape, x, w, x_zero, &end, y))
        return ET_OK;
#endif
    conv_codes(shape, x, w, x_zero, &end, y, scratch);
    return ET_OK;
}
