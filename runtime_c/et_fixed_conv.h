/* Convolution of int8 mantissas to exact int32 sums, and its two gradients. One group, no dilation.
 *
 *   forward           sums[oh][ow][oc] = sum over kh, kw, ic of x[oh * stride + kh - pad][..][ic] * w[kh][kw][ic][oc]
 *   data gradient     dx[h][w][ic]     = sum over all (oh, kh), (ow, kw) that meet there, oc of g[oh][ow][oc] * w
 *   weight gradient   dw[kh][kw][ic][oc] = sum over n, oh, ow of x * g[n][oh][ow][oc]
 *
 *   x        int8 [batch][height][width][channels]; padding counts as 0
 *   w        int8 [kernel_h][kernel_w][channels][out_channels]
 *   g        int8 [batch][out_height][out_width][out_channels]
 *   sums, dx, dw   int32; no sum is beyond the int32 range (N7)
 *   scratch  the bytes that the function beside each kernel says; aligned to 4
 * A dense layer of a batch is one image of a row of pixels. Exact, so in any order: the same bits for every build.
 *
 * A small core copies the image with its padding into scratch, gathers the inputs of four pixels side by side, once for
 * all output channels and two in a word, and sums tiles of 4 x 3 in registers. The data gradient of stride 1 is the
 * forward convolution of the padded gradient with turned weights. A weight gradient of which most codes are 0 lists the
 * others.
 */
#ifndef ET_FIXED_CONV_H
#define ET_FIXED_CONV_H

#include "et_fixed_sparse.h"

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
    int32_t pad_top;
    int32_t pad_left;
} et_fixed_conv;

/* Bytes of the padded image that `out` pixels see. */
static inline size_t et_fixed_padded_bytes(
    int32_t out_h, int32_t out_w, int32_t stride_h, int32_t stride_w, int32_t kernel_h, int32_t kernel_w, int32_t channels)
{
    return (size_t)((out_h - 1) * stride_h + kernel_h) * (size_t)((out_w - 1) * stride_w + kernel_w) * (size_t)channels;
}

/* Bytes of what four pixels see of an image of `pixels` outputs, or of what one sees where there are fewer. */
static inline size_t et_fixed_column_bytes(int32_t pixels, size_t taps)
{
    return pixels >= 4 ? 8u * taps : (taps + 3u) / 4u * 4u;
}

static inline size_t et_fixed_conv_scratch_bytes(const et_fixed_conv *s)
{
    return et_fixed_padded_bytes(s->out_height, s->out_width, s->stride_h, s->stride_w, s->kernel_h, s->kernel_w, s->channels)
           + et_fixed_column_bytes(s->out_height * s->out_width, (size_t)(s->kernel_h * s->kernel_w * s->channels));
}

static inline size_t et_fixed_conv_grad_input_scratch_bytes(const et_fixed_conv *s)
{
    const size_t taps = (size_t)(s->kernel_h * s->kernel_w * s->out_channels);
    return et_fixed_padded_bytes(s->height, s->width, 1, 1, s->kernel_h, s->kernel_w, s->out_channels)
           + taps * (size_t)s->channels + et_fixed_column_bytes(s->height * s->width, taps);
}

static inline size_t et_fixed_conv_grad_weight_scratch_bytes(const et_fixed_conv *s)
{
    return et_fixed_padded_bytes(s->out_height, s->out_width, s->stride_h, s->stride_w, s->kernel_h, s->kernel_w, s->channels)
           + ET_FIXED_LISTS_BYTES;
}

/* sums_scale, dx_scale, dw_scale: the product of the two scales before (et_fixed.h), a power of two of at least 2^-126;
 * NaN where a factor is NaN. */
ET_CHECKED et_status et_fixed_conv_i8(
    const et_fixed_conv *shape, const int8_t *x, const int8_t *w, const float *x_scale, const float *w_scale,
    void *scratch, int32_t *sums, float *sums_scale);

ET_CHECKED et_status et_fixed_conv_grad_input_i8(
    const et_fixed_conv *shape, const int8_t *g, const int8_t *w, const float *g_scale, const float *w_scale,
    void *scratch, int32_t *dx, float *dx_scale);

ET_CHECKED et_status et_fixed_conv_grad_weight_i8(
    const et_fixed_conv *shape, const int8_t *x, const int8_t *g, const float *x_scale, const float *g_scale,
    void *scratch, int32_t *dw, float *dw_scale);

/* y = float32(sum) * scale, or madd(float32(sum), scale, bias[channel]); count a multiple of channels. */
ET_CHECKED et_status et_fixed_real(
    size_t count, size_t channels, const int32_t *sums, const float *scale, const float *bias, float *y);

#endif
