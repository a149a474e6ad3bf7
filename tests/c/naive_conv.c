/* Convolutions and products spelled out: one accumulator per result, the reduction in the order that the headers of the
 * kernels give, taps on padding left out. Weights are in canonical order: [kh][kw][ic of the group][oc]. */
#include "et_conv_shape.h"
#include "et_matmul.h"

void naive_conv(const et_conv_shape *s, const float *x, const float *w, const float *bias, float *y);
void naive_conv_grad_input(const et_conv_shape *s, const float *dy, const float *w, float *dx);
void naive_conv_grad_weight(const et_conv_shape *s, const float *x, const float *dy, float *dw, int32_t accumulate);
void naive_matmul(const et_matmul_shape *s, const float *a, const float *b, float *c);

/* Offset of the input that output (oh, ow) meets under tap (kh, kw), or -1 for padding. */
static ptrdiff_t pixel(const et_conv_shape *s, int32_t n, int32_t oh, int32_t ow, int32_t kh, int32_t kw)
{
    const int32_t ih = oh * s->stride_h - s->pad_top + kh * s->dilation_h;
    const int32_t iw = ow * s->stride_w - s->pad_left + kw * s->dilation_w;
    if (ih < 0 || ih >= s->height || iw < 0 || iw >= s->width)
        return -1;
    return (((ptrdiff_t)n * s->height + ih) * s->width + iw) * s->channels;
}

static ptrdiff_t weight(const et_conv_shape *s, int32_t kh, int32_t kw, int32_t ic, int32_t oc)
{
    return (((ptrdiff_t)kh * s->kernel_w + kw) * (s->channels / s->groups) + ic) * s->out_channels + oc;
}

static ptrdiff_t output(const et_conv_shape *s, int32_t n, int32_t oh, int32_t ow)
{
    return (((ptrdiff_t)n * s->out_height + oh) * s->out_width + ow) * s->out_channels;
}

void naive_conv(const et_conv_shape *s, const float *x, const float *w, const float *bias, float *y)
{
    const int32_t ics = s->channels / s->groups, ocs = s->out_channels / s->groups;
    for (int32_t n = 0; n < s->batch; n++)
        for (int32_t oh = 0; oh < s->out_height; oh++)
            for (int32_t ow = 0; ow < s->out_width; ow++)
                for (int32_t oc = 0; oc < s->out_channels; oc++) {
                    float sum = bias != NULL ? bias[oc] : 0.0f;
                    for (int32_t kh = 0; kh < s->kernel_h; kh++)
                        for (int32_t kw = 0; kw < s->kernel_w; kw++) {
                            const ptrdiff_t at = pixel(s, n, oh, ow, kh, kw);
                            for (int32_t ic = 0; at >= 0 && ic < ics; ic++)
                                sum = et_madd(x[at + oc / ocs * ics + ic], w[weight(s, kh, kw, ic, oc)], sum);
                        }
                    y[output(s, n, oh, ow) + oc] = sum;
                }
}

void naive_conv_grad_input(const et_conv_shape *s, const float *dy, const float *w, float *dx)
{
    const int32_t ics = s->channels / s->groups, ocs = s->out_channels / s->groups;
    for (int32_t n = 0; n < s->batch; n++)
        for (int32_t ih = 0; ih < s->height; ih++)
            for (int32_t iw = 0; iw < s->width; iw++)
                for (int32_t c = 0; c < s->channels; c++) {
                    float sum = 0.0f;
                    for (int32_t kh = 0; kh < s->kernel_h; kh++)
                        for (int32_t kw = 0; kw < s->kernel_w; kw++) {
                            const int32_t h = ih + s->pad_top - kh * s->dilation_h;
                            const int32_t v = iw + s->pad_left - kw * s->dilation_w;
                            if (h < 0 || h % s->stride_h != 0 || h / s->stride_h >= s->out_height)
                                continue;
                            if (v < 0 || v % s->stride_w != 0 || v / s->stride_w >= s->out_width)
                                continue;
                            const ptrdiff_t at = output(s, n, h / s->stride_h, v / s->stride_w);
                            for (int32_t o = 0; o < ocs; o++) {
                                const int32_t oc = c / ics * ocs + o;
                                sum = et_madd(dy[at + oc], w[weight(s, kh, kw, c % ics, oc)], sum);
                            }
                        }
                    dx[(((ptrdiff_t)n * s->height + ih) * s->width + iw) * s->channels + c] = sum;
                }
}

void naive_conv_grad_weight(const et_conv_shape *s, const float *x, const float *dy, float *dw, int32_t accumulate)
{
    const int32_t ics = s->channels / s->groups, ocs = s->out_channels / s->groups;
    for (int32_t kh = 0; kh < s->kernel_h; kh++)
        for (int32_t kw = 0; kw < s->kernel_w; kw++)
            for (int32_t ic = 0; ic < ics; ic++)
                for (int32_t oc = 0; oc < s->out_channels; oc++) {
                    float sum = 0.0f;
                    for (int32_t n = 0; n < s->batch; n++)
                        for (int32_t oh = 0; oh < s->out_height; oh++)
                            for (int32_t ow = 0; ow < s->out_width; ow++) {
                                const ptrdiff_t at = pixel(s, n, oh, ow, kh, kw);
                                if (at >= 0)
                                    sum = et_madd(x[at + oc / ocs * ics + ic], dy[output(s, n, oh, ow) + oc], sum);
                            }
                    float *target = dw + weight(s, kh, kw, ic, oc);
                    *target = accumulate ? *target + sum : sum;
                }
}

void naive_matmul(const et_matmul_shape *s, const float *a, const float *b, float *c)
{
    for (int32_t i = 0; i < s->batch; i++, a += s->a_step, b += s->b_step)
        for (int32_t m = 0; m < s->rows; m++)
            for (int32_t n = 0; n < s->columns; n++) {
                float sum = 0.0f;
                for (int32_t k = 0; k < s->inner; k++)
                    sum = et_madd(a[s->transpose_a ? k * s->rows + m : m * s->inner + k],
                                  b[s->transpose_b ? n * s->inner + k : k * s->columns + n], sum);
                *c++ = sum;
            }
}
