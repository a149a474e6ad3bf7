/* See et_fixed_conv.h. */
#include "et_fixed_conv.h"

#include "et_each.h"
#include "et_fixed_scale.h"
#include "et_fixed_sparse.h"

/* A convolution over an image that has its padding. */
typedef struct {
    const int8_t *image;
    ptrdiff_t row;   /* elements of a row of the image */
    int32_t step_h;  /* strides */
    int32_t step_w;
    int32_t pixel;   /* channels of a pixel */
    int32_t kernel_h;
    ptrdiff_t run;   /* elements that the taps of one row see: kernel_w * pixel */
    int32_t out_h;
    int32_t out_w;
    const int8_t *w; /* [kernel_h * run][outputs] */
    int32_t outputs;
} padded_conv;

/* Copies an image into the middle of zeros. Gives the image itself where there is nothing to add. */
static const int8_t *pad_image(
    const int8_t *image, int32_t height, int32_t width, int32_t channels, int32_t top, int32_t left, int32_t padded_h,
    int32_t padded_w, int8_t *to)
{
    if (top == 0 && left == 0 && padded_w == width && padded_h <= height)
        return image;
    int8_t *at = to;
    for (int32_t h = 0; h < padded_h; ++h) {
        const int32_t from = h - top;
        if (from < 0 || from >= height) {
            for (int32_t i = padded_w * channels; i > 0; --i)
                *at++ = 0;
            continue;
        }
        const int32_t shown = width < padded_w - left ? width : padded_w - left;
        const int8_t *source = image + (ptrdiff_t)from * width * channels;
        for (int32_t i = left * channels; i > 0; --i)
            *at++ = 0;
        for (int32_t i = shown * channels; i > 0; --i)
            *at++ = *source++;
        for (int32_t i = (padded_w - left - shown) * channels; i > 0; --i)
            *at++ = 0;
    }
    return to;
}

#if ET_SCALAR_CORE

/* Gradients by 4 x 4 are too much for Clang. */
#ifdef __clang__
enum { MOST_IN_FOURS = 4 };
#else
enum { MOST_IN_FOURS = 1 << 30 };
#endif

#include "et_fixed_conv_four.inc"

/* Sums of rows of inputs by four outputs in registers. */
#define DECLARE_4(m) int32_t c##m##0 = 0, c##m##1 = 0, c##m##2 = 0, c##m##3 = 0;
#define ADD_4(m)                                                              \
    {                                                                         \
        const int32_t a = column[m];                                          \
        const int32_t p0 = a * b0, p1 = a * b1, p2 = a * b2, p3 = a * b3;     \
        c##m##0 += p0;                                                        \
        c##m##1 += p1;                                                        \
        c##m##2 += p2;                                                        \
        c##m##3 += p3;                                                        \
    }
#define STORE_4(m)           \
    {                        \
        to[0] = c##m##0;     \
        to[1] = c##m##1;     \
        to[2] = c##m##2;     \
        to[3] = c##m##3;     \
        to += pitch;         \
    }

/* Sums of one pixel by 16 or 8 channels; an input of 0, of which ReLU leaves many, costs next to nothing. */
#define ADD_ONE(j) c##j += a * w[j];
#define STORE_ONE(j) to[j] = c##j;
#define DECLARE_ONE(j) int32_t c##j = 0;
#define EACH_8(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)
#define EACH_16(DO) EACH_8(DO) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13) DO(14) DO(15)
#define DEFINE_ONE(NAME, EACH)                                                                                     \
    static ET_NOINLINE void NAME(ptrdiff_t count, const int8_t *column, const int8_t *w, ptrdiff_t pitch, int32_t *to) \
    {                                                                                                              \
        EACH(DECLARE_ONE)                                                                                          \
        for (const int8_t *end = column + count; column != end; ++column, w += pitch) {                            \
            const int32_t a = *column;                                                                             \
            if (a != 0) {                                                                                          \
                EACH(ADD_ONE)                                                                                      \
            }                                                                                                      \
        }                                                                                                          \
        EACH(STORE_ONE)                                                                                            \
    }
DEFINE_ONE(sum_1x16, EACH_16)
DEFINE_ONE(sum_1x8, EACH_8)

static int32_t sum_one(ptrdiff_t count, const int8_t *column, const int8_t *w, ptrdiff_t pitch)
{
    int32_t sum = 0;
    for (; count > 0; --count, ++column, w += pitch)
        sum += *column * *w;
    return sum;
}

/* What one pixel sees. */
static void gather_one(const padded_conv *conv, const int8_t *from, int8_t *column)
{
    for (int32_t k = conv->kernel_h; k > 0; --k, from += conv->row)
        for (const int8_t *source = from, *end = from + conv->run; source != end; ++source)
            *column++ = *source;
}

static inline uint32_t pair_of(int32_t lower, int32_t upper)
{
    return word_of(lower) + (word_of(upper) << 16);
}

#define GATHER(i)                               \
    column[2 * (i)] = pair_of(a[i], b[i]);      \
    column[2 * (i) + 1] = pair_of(c[i], d[i]);  \
    ET_BARRIER();

/* What four pixels see, side by side. */
static void gather_four(const padded_conv *conv, const int8_t *const from[4], uint32_t *column)
{
    const int8_t *a = from[0], *b = from[1], *c = from[2], *d = from[3];
    const ptrdiff_t skip = conv->row - conv->run;
    for (int32_t k = conv->kernel_h; k > 0; --k, a += skip, b += skip, c += skip, d += skip) {
        ptrdiff_t left = conv->run;
        for (; left >= 8; left -= 8, a += 8, b += 8, c += 8, d += 8, column += 16) {
            GATHER(0) GATHER(1) GATHER(2) GATHER(3) GATHER(4) GATHER(5) GATHER(6) GATHER(7)
        }
        for (; left > 0; --left, ++a, ++b, ++c, ++d, column += 2) {
            GATHER(0)
        }
    }
}

/* All pixels of an image. column: scratch for what four pixels see. */
static void convolve(const padded_conv *conv, void *column, int32_t *sums)
{
    const ptrdiff_t count = conv->kernel_h * conv->run, pitch = conv->outputs;
    const ptrdiff_t most = conv->out_h * conv->out_w >= 4 ? products_that_fit(count * pitch, conv->w) : 0;
    const ptrdiff_t step = (ptrdiff_t)conv->step_w * conv->pixel, next = conv->step_h * conv->row - conv->out_w * step;
    const int8_t *at = conv->image, *seen[4];
    int32_t w = 0;
    for (int32_t left = conv->out_h * conv->out_w; left > 0;) {
        const int32_t pixels = left >= 4 ? 4 : 1;
        for (int32_t m = 0; m < pixels; ++m, at += step) {
            if (w == conv->out_w) {
                w = 0;
                at += next;
            }
            seen[m] = at;
            ++w;
        }
        if (pixels == 4)
            gather_four(conv, seen, column);
        else
            gather_one(conv, seen[0], column);
        if (pixels == 4) {
            sum_four(count, most, column, conv->w, conv->outputs, sums);
        } else {
            int32_t j = 0;
            for (; j + 16 <= conv->outputs; j += 16)
                sum_1x16(count, column, conv->w + j, pitch, sums + j);
            for (; j + 8 <= conv->outputs; j += 8)
                sum_1x8(count, column, conv->w + j, pitch, sums + j);
            for (; j < conv->outputs; ++j)
                sums[j] = sum_one(count, column, conv->w + j, pitch);
        }
        sums += pixels * pitch;
        left -= pixels;
    }
}

/* dw of K inputs by 4 outputs over all pixels of an image. x: what the first pixel sees of them; g: the same outputs. */
#define DEFINE_PIXEL_SUMS(NAME, ROWS, INPUTS)                                                                      \
    static ET_NOINLINE void NAME(const padded_conv *conv, const int8_t *x, const int8_t *g, int32_t *to, bool add) \
    {                                                                                                              \
        const ptrdiff_t pitch = conv->outputs, step = (ptrdiff_t)conv->step_w * conv->pixel;                       \
        const ptrdiff_t next = conv->step_h * conv->row - conv->out_w * step;                                      \
        ROWS(DECLARE_4)                                                                                            \
        for (int32_t h = conv->out_h; h > 0; --h, x += next) {                                                     \
            for (const int8_t *end = x + conv->out_w * step; x != end;) {                                          \
                const int8_t *column = x;                                                                          \
                const int32_t b0 = g[0], b1 = g[1], b2 = g[2], b3 = g[3];                                          \
                ROWS(ADD_BARRIER_4)                                                                                \
                x += step;                                                                                         \
                g += pitch;                                                                                        \
                ET_OPAQUE(x);                                                                                      \
            }                                                                                                      \
        }                                                                                                          \
        if (add) {                                                                                                 \
            int32_t *const first = to;                                                                             \
            ROWS(ADD_STORED_4)                                                                                     \
            to = first;                                                                                            \
        }                                                                                                          \
        ROWS(STORE_4)                                                                                              \
    }
#define ADD_BARRIER_4(m) \
    ADD_4(m)             \
    ET_BARRIER();
#define ADD_STORED_4(m)      \
    {                        \
        c##m##0 += to[0];    \
        c##m##1 += to[1];    \
        c##m##2 += to[2];    \
        c##m##3 += to[3];    \
        to += pitch;         \
    }
#define ROWS_4(DO) DO(0) DO(1) DO(2) DO(3)
#define ROWS_3(DO) DO(0) DO(1) DO(2)
#define ROWS_1(DO) DO(0)
DEFINE_PIXEL_SUMS(pixel_sums_4x4, ROWS_4, 4)
DEFINE_PIXEL_SUMS(pixel_sums_3x4, ROWS_3, 3)
DEFINE_PIXEL_SUMS(pixel_sums_1x4, ROWS_1, 1)

static int32_t pixel_sum(const padded_conv *conv, const int8_t *x, const int8_t *g)
{
    int32_t sum = 0;
    for (int32_t h = 0; h < conv->out_h; ++h)
        for (int32_t w = 0; w < conv->out_w; ++w, g += conv->outputs)
            sum += x[h * conv->step_h * conv->row + (ptrdiff_t)w * conv->step_w * conv->pixel] * *g;
    return sum;
}

/* dw of an image: [kernel_h * run][outputs]. */
static void correlate(const padded_conv *conv, const int8_t *g, int32_t *dw, bool add)
{
    for (int32_t k = 0; k < conv->kernel_h; ++k) {
        const int8_t *x = conv->image + k * conv->row;
        for (ptrdiff_t i = 0; i < conv->run;) {
            const ptrdiff_t left = conv->run - i, rows = left % 4 == 0 && left <= MOST_IN_FOURS ? 4 : left >= 3 ? 3 : 1;
            int32_t j = 0;
            for (; j + 4 <= conv->outputs; j += 4) {
                if (rows == 4)
                    pixel_sums_4x4(conv, x + i, g + j, dw + j, add);
                else if (rows == 3)
                    pixel_sums_3x4(conv, x + i, g + j, dw + j, add);
                else
                    pixel_sums_1x4(conv, x + i, g + j, dw + j, add);
            }
            for (; j < conv->outputs; ++j)
                for (ptrdiff_t m = 0; m < rows; ++m) {
                    int32_t *to = dw + m * conv->outputs + j;
                    *to = pixel_sum(conv, x + i + m, g + j) + (add ? *to : 0);
                }
            dw += rows * conv->outputs;
            i += rows;
        }
    }
}

#else
#include "et_fixed_conv_lanes.inc"
#endif

/* The forward convolution without its image. */
static padded_conv forward_of(const et_fixed_conv *shape, const int8_t *w)
{
    const padded_conv conv = {
        .row = (ptrdiff_t)((shape->out_width - 1) * shape->stride_w + shape->kernel_w) * shape->channels,
        .step_h = shape->stride_h,
        .step_w = shape->stride_w,
        .pixel = shape->channels,
        .kernel_h = shape->kernel_h,
        .run = (ptrdiff_t)shape->kernel_w * shape->channels,
        .out_h = shape->out_height,
        .out_w = shape->out_width,
        .w = w,
        .outputs = shape->out_channels,
    };
    return conv;
}

/* correlate() where most of g is 0. */
static void correlate_sparse(const padded_conv *conv, const int8_t *g, void *lists, int32_t *dw, bool add)
{
    const ptrdiff_t step = (ptrdiff_t)conv->step_w * conv->pixel;
    const et_fixed_seen seen = {
        conv->image, false, conv->row, step, conv->step_h * conv->row - conv->out_w * step, conv->kernel_h, conv->run,
        conv->out_h, conv->out_w, conv->outputs,
    };
    for (ptrdiff_t i = add ? 0 : conv->kernel_h * conv->run * conv->outputs; i > 0; --i)
        dw[i - 1] = 0;
    et_fixed_sparse_grad_weight(&seen, g, lists, dw);
}

static const int8_t *padded_input(const et_fixed_conv *shape, const int8_t *x, int8_t *scratch)
{
    return pad_image(
        x, shape->height, shape->width, shape->channels, shape->pad_top, shape->pad_left,
        (shape->out_height - 1) * shape->stride_h + shape->kernel_h,
        (shape->out_width - 1) * shape->stride_w + shape->kernel_w, scratch);
}

static float product_of(const float *a, const float *b)
{
    return et_fixed_product(*a, *b);
}

et_status et_fixed_conv_i8(
    const et_fixed_conv *shape, const int8_t *x, const int8_t *w, const float *x_scale, const float *w_scale,
    void *scratch, int32_t *sums, float *sums_scale)
{
    *sums_scale = product_of(x_scale, w_scale);
    padded_conv conv = forward_of(shape, w);
    const size_t taps = (size_t)(conv.kernel_h * conv.run);
    int8_t *const padded = (int8_t *)scratch + et_fixed_column_bytes(conv.out_h * conv.out_w, taps);
    for (int32_t n = 0; n < shape->batch; ++n) {
        conv.image = padded_input(shape, x, padded);
        convolve(&conv, scratch, sums);
        x += (ptrdiff_t)shape->height * shape->width * shape->channels;
        sums += (ptrdiff_t)shape->out_height * shape->out_width * shape->out_channels;
    }
    return ET_OK;
}

/* dx[i] = sum over the outputs of g * w[i][output]: one pixel, one tap. */
static ET_NOINLINE void rows_of_one(int32_t inputs, int32_t outputs, const int8_t *g, const int8_t *w, int32_t *dx)
{
    int32_t i = 0;
    for (; i + 4 <= inputs; i += 4, w += 4 * outputs) {
        const int8_t *w0 = w, *w1 = w0 + outputs, *w2 = w1 + outputs, *w3 = w2 + outputs;
        int32_t c0 = 0, c1 = 0, c2 = 0, c3 = 0;
        const int8_t *at = g, *const end = g + outputs;
        for (; end - at >= 4; at += 4, w0 += 4, w1 += 4, w2 += 4, w3 += 4) {
            const int32_t a0 = at[0], a1 = at[1], a2 = at[2], a3 = at[3];
            c0 += a0 * w0[0] + a1 * w0[1] + a2 * w0[2] + a3 * w0[3];
            ET_BARRIER();
            c1 += a0 * w1[0] + a1 * w1[1] + a2 * w1[2] + a3 * w1[3];
            ET_BARRIER();
            c2 += a0 * w2[0] + a1 * w2[1] + a2 * w2[2] + a3 * w2[3];
            ET_BARRIER();
            c3 += a0 * w3[0] + a1 * w3[1] + a2 * w3[2] + a3 * w3[3];
            ET_BARRIER();
        }
        for (; at != end; ++at) {
            const int32_t a = *at;
            c0 += a * *w0++;
            c1 += a * *w1++;
            c2 += a * *w2++;
            c3 += a * *w3++;
        }
        dx[i] = c0;
        dx[i + 1] = c1;
        dx[i + 2] = c2;
        dx[i + 3] = c3;
    }
    for (; i < inputs; ++i, w += outputs) {
        int32_t sum = 0;
        for (int32_t j = 0; j < outputs; ++j)
            sum += g[j] * w[j];
        dx[i] = sum;
    }
}

/* w turned by 180 degrees, inputs and outputs exchanged: [kernel_h][kernel_w][out_channels][channels]. */
static void turn(const et_fixed_conv *shape, const int8_t *w, int8_t *turned)
{
    const int32_t inputs = shape->channels, outputs = shape->out_channels;
    for (int32_t tap = shape->kernel_h * shape->kernel_w - 1; tap >= 0; --tap, w += (ptrdiff_t)inputs * outputs)
        for (int32_t i = 0; i < inputs; ++i) {
            int8_t *to = turned + (ptrdiff_t)tap * inputs * outputs + i;
            const int8_t *from = w + (ptrdiff_t)i * outputs;
            for (const int8_t *end = from + outputs; from != end; ++from, to += inputs)
                *to = *from;
        }
}

/* Any stride: every product is added where it belongs. */
static void spread(const et_fixed_conv *shape, const int8_t *g, const int8_t *w, int32_t *dx)
{
    const ptrdiff_t pixels = (ptrdiff_t)shape->height * shape->width * shape->channels;
    for (ptrdiff_t i = 0; i < pixels; ++i)
        dx[i] = 0;
    for (int32_t oh = 0; oh < shape->out_height; ++oh)
        for (int32_t ow = 0; ow < shape->out_width; ++ow, g += shape->out_channels)
            for (int32_t kh = 0; kh < shape->kernel_h; ++kh)
                for (int32_t kw = 0; kw < shape->kernel_w; ++kw) {
                    const int32_t h = oh * shape->stride_h + kh - shape->pad_top;
                    const int32_t v = ow * shape->stride_w + kw - shape->pad_left;
                    if (h < 0 || h >= shape->height || v < 0 || v >= shape->width)
                        continue;
                    int32_t *to = dx + ((ptrdiff_t)h * shape->width + v) * shape->channels;
                    const int8_t *from = w + ((ptrdiff_t)kh * shape->kernel_w + kw) * shape->channels * shape->out_channels;
                    for (int32_t i = 0; i < shape->channels; ++i, from += shape->out_channels) {
                        int32_t sum = 0;
                        for (int32_t j = 0; j < shape->out_channels; ++j)
                            sum += g[j] * from[j];
                        to[i] += sum;
                    }
                }
}

et_status et_fixed_conv_grad_input_i8(
    const et_fixed_conv *shape, const int8_t *g, const int8_t *w, const float *g_scale, const float *w_scale,
    void *scratch, int32_t *dx, float *dx_scale)
{
    *dx_scale = product_of(g_scale, w_scale);
    const int32_t inputs = shape->channels, outputs = shape->out_channels;
    const ptrdiff_t x_image = (ptrdiff_t)shape->height * shape->width * inputs;
    const ptrdiff_t g_image = (ptrdiff_t)shape->out_height * shape->out_width * outputs;
    const int32_t top = shape->kernel_h - 1 - shape->pad_top, left = shape->kernel_w - 1 - shape->pad_left;
    if (shape->batch == 1 && x_image == inputs && g_image == outputs && top == 0 && left == 0
        && shape->kernel_h * shape->kernel_w == 1) {
        rows_of_one(inputs, outputs, g, w, dx);
        return ET_OK;
    }
    if (shape->stride_h != 1 || shape->stride_w != 1 || top < 0 || left < 0) {
        for (int32_t n = 0; n < shape->batch; ++n)
            spread(shape, g + n * g_image, w, dx + n * x_image);
        return ET_OK;
    }
    const ptrdiff_t taps = (ptrdiff_t)shape->kernel_h * shape->kernel_w * outputs;
    int8_t *const turned = (int8_t *)scratch + et_fixed_column_bytes(shape->height * shape->width, (size_t)taps);
    int8_t *const padded = turned + taps * inputs;
    turn(shape, w, turned);
    padded_conv conv = {
        .row = (ptrdiff_t)(shape->width + shape->kernel_w - 1) * outputs,
        .step_h = 1,
        .step_w = 1,
        .pixel = outputs,
        .kernel_h = shape->kernel_h,
        .run = (ptrdiff_t)shape->kernel_w * outputs,
        .out_h = shape->height,
        .out_w = shape->width,
        .w = turned,
        .outputs = inputs,
    };
    for (int32_t n = 0; n < shape->batch; ++n) {
        conv.image = pad_image(
            g + n * g_image, shape->out_height, shape->out_width, outputs, top, left, shape->height + shape->kernel_h - 1,
            shape->width + shape->kernel_w - 1, padded);
        convolve(&conv, scratch, dx + n * x_image);
    }
    return ET_OK;
}

et_status et_fixed_conv_grad_weight_i8(
    const et_fixed_conv *shape, const int8_t *x, const int8_t *g, const float *x_scale, const float *g_scale,
    void *scratch, int32_t *dw, float *dw_scale)
{
    *dw_scale = product_of(x_scale, g_scale);
    padded_conv conv = forward_of(shape, NULL);
    int8_t *const padded = (int8_t *)scratch + ET_FIXED_LISTS_BYTES;
    const ptrdiff_t count = (ptrdiff_t)conv.out_h * conv.out_w * conv.outputs;
    for (int32_t n = 0; n < shape->batch; ++n) {
        conv.image = padded_input(shape, x, padded);
        if (et_fixed_is_sparse(conv.outputs, count, g, 1, 2))
            correlate_sparse(&conv, g, scratch, dw, n > 0);
        else
            correlate(&conv, g, dw, n > 0);
        x += (ptrdiff_t)shape->height * shape->width * shape->channels;
        g += count;
    }
    return ET_OK;
}

et_status et_fixed_real(
    size_t count, size_t channels, const int32_t *sums, const float *scale, const float *bias, float *y)
{
    const float unit = *scale;
    for (size_t i = 0; i < count; i += channels)
        for (size_t c = 0; c < channels; ++c) {
            const float real = (float)sums[i + c];
            y[i + c] = bias == NULL ? real * unit : et_madd(real, unit, bias[c]);
        }
    return ET_OK;
}
