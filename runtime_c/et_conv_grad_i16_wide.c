#include "et_conv_grad_i16_wide.h"

#include "et_integer.h"
#include "et_scaled_sum.h"
#include "et_sink.h"

#define ET_CODE int16_t
#define ET_SUM int64_t
#define ET_IS_WIDE 1
#include "et_integer_tile.inc"

#include "et_conv_grad_integer.inc"

et_status et_conv_grad_input_i16_wide(const et_conv_shape *shape, const int16_t *g, const int16_t *w, const float *g_scale,
                                  int32_t g_scale_step, const float *w_scale, void *scratch, float *dx)
{
    grad_input_codes(shape, g, w, g_scale, g_scale_step, w_scale, scratch, dx);
    return ET_OK;
}

et_status et_conv_grad_input_signs_i16_wide(const et_conv_shape *shape, const int16_t *g, const uint8_t *signs,
                                        const float *g_scale, int32_t g_scale_step, const float *w_scale,
                                        int32_t block, void *scratch, float *dx)
{
    grad_input_signs(shape, g, signs, g_scale, g_scale_step, w_scale, block, scratch, dx);
    return ET_OK;
}

et_status et_conv_grad_weight_i16_wide(const et_conv_shape *shape, const int16_t *x, const int16_t *g, const float *x_scale,
                                   const float *g_scale, int32_t g_scale_step, float *dw)
{
    grad_weight_stored(shape, x, g, x_scale, g_scale, g_scale_step, dw);
    return ET_OK;
}

et_status et_conv_update_i16_wide(const et_conv_shape *shape, float learning_rate, float weight_decay, const int16_t *x,
                             const int16_t *g, const float *x_scale, const float *g_scale, int32_t g_scale_step,
                             float *w)
{
    return updated_weights(shape, learning_rate, weight_decay, x, g, x_scale, g_scale, g_scale_step, w);
}
