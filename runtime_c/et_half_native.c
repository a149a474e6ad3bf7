/* See et_half_native.h. */
#include "et_half_native.h"

#include "et_half.h"

/* A number of binary16 as the core computes with it: in its own registers, or as float32. */
#if ET_HAS_ZFH
typedef _Float16 number;
static inline number from_bits(uint16_t bits)
{
    union { uint16_t bits; _Float16 value; } both;
    both.bits = bits;
    return both.value;
}
static inline number rounded(float x) { return (number)x; }
static inline number madd(number a, number b, number s) { return __builtin_fmaf16(a, b, s); }
static inline uint16_t to_bits(number x)
{
    union { _Float16 value; uint16_t bits; } both;
    both.value = x;
    return x == x ? both.bits : (uint16_t)0x7E00u;
}
#else
typedef float number;
static inline number from_bits(uint16_t bits) { return et_from_fp16(bits); }
static inline number rounded(float x) { return et_from_fp16(et_to_fp16(x)); }
static inline number madd(number a, number b, number s) { return et_madd_fp16(a, b, s); }
static inline uint16_t to_bits(number x) { return et_to_fp16(x); }
#endif

enum { LANES = 4 }; /* sums that advance together */

static inline number weight(const et_half_form *form, const void *w, ptrdiff_t index)
{
    return form->stored ? from_bits(((const uint16_t *)w)[index]) : rounded(((const float *)w)[index]);
}

et_status et_half_native(const et_conv_shape *shape, const et_half_form *form, const uint16_t *x, const void *w,
                         const float *bias, uint16_t *y)
{
    const ptrdiff_t inputs = shape->channels / shape->groups, outputs = shape->out_channels / shape->groups;
    for (ptrdiff_t n = 0; n < shape->batch; n++)
        for (ptrdiff_t oh = 0; oh < shape->out_height; oh++)
            for (ptrdiff_t ow = 0; ow < shape->out_width; ow++, y += shape->out_channels)
                for (ptrdiff_t group = 0; group < shape->groups; group++)
                    for (ptrdiff_t o = 0; o < outputs; o += LANES) {
                        const ptrdiff_t first = group * outputs + o, lanes = outputs - o < LANES ? outputs - o : LANES;
                        number s[LANES];
                        for (ptrdiff_t j = 0; j < lanes; j++)
                            s[j] = rounded(bias != NULL ? bias[first + j] : 0.0f);
                        for (ptrdiff_t kh = 0; kh < shape->kernel_h; kh++)
                            for (ptrdiff_t kw = 0; kw < shape->kernel_w; kw++) {
                                const ptrdiff_t ih = oh * shape->stride_h + kh * shape->dilation_h - shape->pad_top;
                                const ptrdiff_t iw = ow * shape->stride_w + kw * shape->dilation_w - shape->pad_left;
                                if (ih < 0 || ih >= shape->height || iw < 0 || iw >= shape->width)
                                    continue;
                                const uint16_t *pixel =
                                    x + ((n * shape->height + ih) * shape->width + iw) * shape->channels + group * inputs;
                                ptrdiff_t at = (kh * shape->kernel_w + kw) * inputs * shape->out_channels + first;
                                for (ptrdiff_t i = 0; i < inputs; i++, at += shape->out_channels) {
                                    const number value = from_bits(pixel[i]);
                                    for (ptrdiff_t j = 0; j < lanes; j++)
                                        s[j] = madd(value, weight(form, w, at + j), s[j]);
                                }
                            }
                        for (ptrdiff_t j = 0; j < lanes; j++)
                            y[first + j] = to_bits(s[j]);
                    }
    return ET_OK;
}

/* The output that meets input `at` with tap k, or -1. */
static inline ptrdiff_t output_of(ptrdiff_t at, ptrdiff_t k, ptrdiff_t pad, ptrdiff_t dilation, ptrdiff_t stride,
                                  ptrdiff_t outputs)
{
    const ptrdiff_t distance = at + pad - k * dilation;
    return distance >= 0 && distance % stride == 0 && distance / stride < outputs ? distance / stride : -1;
}

et_status et_half_native_grad_input(const et_conv_shape *shape, const et_half_form *form, const uint16_t *dy,
                                    const void *w, float *dx)
{
    const ptrdiff_t inputs = shape->channels / shape->groups, outputs = shape->out_channels / shape->groups;
    for (ptrdiff_t n = 0; n < shape->batch; n++)
        for (ptrdiff_t ih = 0; ih < shape->height; ih++)
            for (ptrdiff_t iw = 0; iw < shape->width; iw++)
                for (ptrdiff_t group = 0; group < shape->groups; group++)
                    for (ptrdiff_t c = 0; c < inputs; c += LANES) {
                        const ptrdiff_t lanes = inputs - c < LANES ? inputs - c : LANES;
                        number s[LANES];
                        for (ptrdiff_t j = 0; j < lanes; j++)
                            s[j] = rounded(0.0f);
                        for (ptrdiff_t kh = 0; kh < shape->kernel_h; kh++)
                            for (ptrdiff_t kw = 0; kw < shape->kernel_w; kw++) {
                                const ptrdiff_t oh = output_of(ih, kh, shape->pad_top, shape->dilation_h,
                                                               shape->stride_h, shape->out_height);
                                const ptrdiff_t ow = output_of(iw, kw, shape->pad_left, shape->dilation_w,
                                                               shape->stride_w, shape->out_width);
                                if (oh < 0 || ow < 0)
                                    continue;
                                const uint16_t *pixel =
                                    dy + ((n * shape->out_height + oh) * shape->out_width + ow) * shape->out_channels
                                    + group * outputs;
                                const ptrdiff_t at =
                                    ((kh * shape->kernel_w + kw) * inputs + c) * shape->out_channels + group * outputs;
                                for (ptrdiff_t o = 0; o < outputs; o++) {
                                    const number value = from_bits(pixel[o]);
                                    for (ptrdiff_t j = 0; j < lanes; j++)
                                        s[j] = madd(value, weight(form, w, at + j * shape->out_channels + o), s[j]);
                                }
                            }
                        float *target =
                            dx + ((n * shape->height + ih) * shape->width + iw) * shape->channels + group * inputs + c;
                        for (ptrdiff_t j = 0; j < lanes; j++)
                            target[j] = (float)s[j] * form->unscale;
                    }
    return ET_OK;
}

void et_half_native_grad_weight(const et_conv_shape *shape, ptrdiff_t input, ptrdiff_t inputs, ptrdiff_t output,
                                ptrdiff_t outputs, const uint16_t *x, const uint16_t *dy, float *sums)
{
    for (ptrdiff_t kh = 0; kh < shape->kernel_h; kh++)
        for (ptrdiff_t kw = 0; kw < shape->kernel_w; kw++)
            for (ptrdiff_t i = 0; i < inputs; i++)
                for (ptrdiff_t o = 0; o < outputs; o += LANES, sums += LANES) {
                    const ptrdiff_t lanes = outputs - o < LANES ? outputs - o : LANES;
                    number s[LANES];
                    for (ptrdiff_t j = 0; j < lanes; j++)
                        s[j] = rounded(0.0f);
                    for (ptrdiff_t n = 0; n < shape->batch; n++)
                        for (ptrdiff_t oh = 0; oh < shape->out_height; oh++)
                            for (ptrdiff_t ow = 0; ow < shape->out_width; ow++) {
                                const ptrdiff_t ih = oh * shape->stride_h + kh * shape->dilation_h - shape->pad_top;
                                const ptrdiff_t iw = ow * shape->stride_w + kw * shape->dilation_w - shape->pad_left;
                                if (ih < 0 || ih >= shape->height || iw < 0 || iw >= shape->width)
                                    continue;
                                const number value = from_bits(
                                    x[((n * shape->height + ih) * shape->width + iw) * shape->channels + input + i]);
                                const uint16_t *g =
                                    dy + ((n * shape->out_height + oh) * shape->out_width + ow) * shape->out_channels
                                    + output + o;
                                for (ptrdiff_t j = 0; j < lanes; j++)
                                    s[j] = madd(value, from_bits(g[j]), s[j]);
                            }
                    for (ptrdiff_t j = 0; j < lanes; j++)
                        sums[j] = (float)s[j];
                    if (lanes < LANES)
                        sums -= LANES - lanes;
                }
}
