/* Convolution of int8 or int16 mantissas and its gradients, any groups and dilation: exact int64 sums, each rounded to float32 once and scaled.
 *
 *   y[..][oc]          = float32(sum x w) * (x_scale * w_scale), or madd(float32(sum), x_scale * w_scale, bias[oc])
 *   dx[..][ic]         = float32(sum g w) * (g_scale * w_scale)
 *   dw[kh][kw][ic][oc] = float32(sum over all samples x g) * (x_scale * g_scale)
 *
 *   x     int8 or int16 [batch][height][width][channels]; padding counts as 0
 *   w     like x [kernel_h][kernel_w][channels / groups][out_channels]
 *   g     like x [batch][out_height][out_width][out_channels]
 *   bias  float32 [out_channels] or NULL; scales float32, one each
 * Needs no scratch. Sums are exact, so they have no order: the same bits for every build.
 */
#ifndef ET_FIXED_WIDE_H
#define ET_FIXED_WIDE_H

#include "et_base.h"

typedef struct {
    int32_t batch;
    int32_t height;
    int32_t width;
    int32_t channels;
    int32_t out_height;
    int32_t out_width;
    int32_t out_channels;
    int32_t kernel_h;
    int32_t kernel_w;
    int32_t stride_h;
    int32_t stride_w;
    int32_t dilation_h;
    int32_t dilation_w;
    int32_t pad_top;
    int32_t pad_left;
    int32_t groups;
} et_fixed_wide;

ET_CHECKED et_status et_fixed_wide_conv_i8(
    const et_fixed_wide *shape, const int8_t *x, const int8_t *w, const float *x_scale, const float *w_scale,
    const float *bias, float *y);

ET_CHECKED et_status et_fixed_wide_grad_input_i8(
    const et_fixed_wide *shape, const int8_t *g, const int8_t *w, const float *g_scale, const float *w_scale,
    float *dx);

ET_CHECKED et_status et_fixed_wide_grad_weight_i8(
    const et_fixed_wide *shape, const int8_t *x, const int8_t *g, const float *x_scale, const float *g_scale,
    float *dw);

ET_CHECKED et_status et_fixed_wide_conv_i16(
    const et_fixed_wide *shape, const int16_t *x, const int16_t *w, const float *x_scale, const float *w_scale,
    const float *bias, float *y);

ET_CHECKED et_status et_fixed_wide_grad_input_i16(
    const et_fixed_wide *shape, const int16_t *g, const int16_t *w, const float *g_scale, const float *w_scale,
    float *dx);

ET_CHECKED et_status et_fixed_wide_grad_weight_i16(
    const et_fixed_wide *shape, const int16_t *x, const int16_t *g, const float *x_scale, const float *g_scale,
    float *dw);

#endif
