/* See et_fixed_wide.h. */
#include "et_fixed_wide.h"

#define ET_CODE int16_t
#include "et_fixed_wide.inc"

et_status et_fixed_wide_conv_i16(
    const et_fixed_wide *shape, const int16_t *x, const int16_t *w, const float *x_scale, const float *w_scale,
    const float *bias, float *y)
{
    return conv(shape, x, w, x_scale, w_scale, bias, y);
}

et_status et_fixed_wide_grad_input_i16(
    const et_fixed_wide *shape, const int16_t *g, const int16_t *w, const float *g_scale, const float *w_scale,
    float *dx)
{
    return grad_input(shape, g, w, g_scale, w_scale, dx);
}

et_status et_fixed_wide_grad_weight_i16(
    const et_fixed_wide *shape, const int16_t *x, const int16_t *g, const float *x_scale, const float *g_scale,
    float *dw)
{
    return grad_weight(shape, x, g, x_scale, g_scale, dw);
}
