/* See et_fixed_lanes.h. */
#include "et_fixed_lanes.h"

#include "et_each.h"
#include "et_fixed_scale.h"
#include "et_fixed_sparse.h"

#if ET_SCALAR_CORE

typedef struct {
    const uint32_t *image; /* with its padding, two channels a word */
    ptrdiff_t row;         /* words of a row */
    ptrdiff_t step;        /* words from one output's pixel to the next */
    ptrdiff_t next;        /* words from the end of a row of outputs to the next one's first pixel */
    int32_t width;         /* outputs in a row */
    int32_t rows;          /* of outputs whose sums fit into 16 bits */
    ptrdiff_t outputs;
} lanes;

static inline uint32_t word_of(int32_t value)
{
    return (uint32_t)value;
}

static uint32_t both(const int8_t *pair)
{
    return word_of(pair[0]) + (word_of(pair[1]) << 16);
}

static uint32_t *zeros(uint32_t *to, int32_t count)
{
    for (; count > 0; --count)
        *to++ = 0;
    return to;
}

/* The image amid zeros, two channels a word. */
static void pack_image(const et_fixed_conv *shape, const int8_t *image, uint32_t *to)
{
    const int32_t pairs = shape->channels / 2, rows = (shape->out_height - 1) * shape->stride_h + shape->kernel_h;
    const int32_t width = (shape->out_width - 1) * shape->stride_w + shape->kernel_w;
    const int32_t room = width - shape->pad_left, shown = shape->width < room ? shape->width : room;
    for (int32_t h = 0; h < rows; ++h) {
        const int32_t from = h - shape->pad_top;
        if (from < 0 || from >= shape->height) {
            to = zeros(to, width * pairs);
            continue;
        }
        const int8_t *source = image + (ptrdiff_t)from * shape->width * shape->channels;
        to = zeros(to, shape->pad_left * pairs);
        for (int32_t i = shown * pairs; i > 0; --i, source += 2)
            *to++ = both(source);
        to = zeros(to, (room - shown) * pairs);
    }
}

/* Adds the two sums of a word to those of two channels. */
static inline void take_apart(uint32_t sums, int32_t *first, int32_t *second)
{
    const int32_t low = (int16_t)(sums & 0xFFFFu);
    *first += low;
    *second += (int32_t)(sums - (uint32_t)low) >> 16;
}

#define DECLARE(m) uint32_t c##m##0 = 0, c##m##1 = 0, c##m##2 = 0, c##m##3 = 0;
#define ADD(m)                       \
    {                                \
        const uint32_t a = image[m]; \
        c##m##0 += a * b0;           \
        c##m##1 += a * b1;           \
        c##m##2 += a * b2;           \
        c##m##3 += a * b3;           \
        ET_BARRIER();                \
    }
#define TAKE_APART(m)                                 \
    {                                                 \
        int32_t *const other = to + outputs;          \
        take_apart(c##m##0, to, other);               \
        take_apart(c##m##1, to + 1, other + 1);       \
        take_apart(c##m##2, to + 2, other + 2);       \
        take_apart(c##m##3, to + 3, other + 3);       \
        to = other + outputs;                         \
    }
#define WORDS_3(DO) DO(0) DO(1) DO(2)
#define WORDS_1(DO) DO(0)
/* Sums of `height` rows for some pairs of inputs by four outputs. */
#define DEFINE(NAME, WORDS)                                                                                           \
    static ET_NOINLINE void NAME(                                                                                     \
        const lanes *l, int32_t height, const uint32_t *image, const int8_t *g, int32_t *to)                          \
    {                                                                                                                 \
        const ptrdiff_t outputs = l->outputs, step = l->step, along = l->width * step, next = l->next;                \
        WORDS(DECLARE)                                                                                                \
        for (; height > 0; --height, image += next)                                                                   \
            for (const uint32_t *end = image + along; image != end; image += step, g += outputs) {                    \
                const uint32_t b0 = word_of(g[0]), b1 = word_of(g[1]), b2 = word_of(g[2]), b3 = word_of(g[3]);         \
                WORDS(ADD)                                                                                            \
            }                                                                                                         \
        WORDS(TAKE_APART)                                                                                             \
    }
DEFINE(sums_of_3, WORDS_3)
DEFINE(sums_of_1, WORDS_1)

/* Of large codes two products fit into 16 bits: sums of words and of their upper halves, which are exact as HALF keeps
 * the lower ones from being negative. */
enum { HALF = 0x8000 };
#define DECLARE_WIDE(m)                        \
    uint32_t words##m##0 = 0, words##m##1 = 0; \
    int32_t upper##m##0 = 0, upper##m##1 = 0;
#define ADD_HALVES(m, product)               \
    {                                        \
        const uint32_t both = (product) + half; \
        words##m += both;                    \
        upper##m += (int32_t)both >> 16;     \
        ET_OPAQUE(words##m);                 \
        ET_OPAQUE(upper##m);                 \
        ET_BARRIER();                        \
    }
#define ADD_WIDE(m)                                           \
    {                                                         \
        const uint32_t first = image[m], second = next[m];    \
        ADD_HALVES(m##0, first * b0 + second * d0)            \
        ADD_HALVES(m##1, first * b1 + second * d1)            \
    }
#define ADD_LAST(m)                        \
    {                                      \
        const uint32_t last = image[m];    \
        ADD_HALVES(m##0, last * b0)        \
        ADD_HALVES(m##1, last * b1)        \
    }
#define STORE_WIDE(m)                                                      \
    to[0] += (int32_t)(words##m##0 - (word_of(upper##m##0) << 16) - bias); \
    to[1] += (int32_t)(words##m##1 - (word_of(upper##m##1) << 16) - bias); \
    to += outputs;                                                         \
    to[0] += upper##m##0;                                                  \
    to[1] += upper##m##1;                                                  \
    to += outputs;
/* Sums of all rows for some pairs of inputs by two outputs. */
#define DEFINE_WIDE(NAME, WORDS)                                                                                      \
    static ET_NOINLINE void NAME(                                                                                     \
        const lanes *l, int32_t height, const uint32_t *image, const int8_t *g, int32_t *to)                          \
    {                                                                                                                 \
        const ptrdiff_t outputs = l->outputs, step = l->step, along = (l->width - l->width % 2) * step;               \
        const uint32_t bias = HALF * (uint32_t)(height * ((l->width + 1) / 2));                                       \
        uint32_t half = HALF;                                                                                         \
        WORDS(DECLARE_WIDE)                                                                                           \
        ET_OPAQUE(half); /* in a register */                                                                          \
        for (; height > 0; --height, image += l->next) {                                                              \
            for (const uint32_t *end = image + along; image != end;) {                                                \
                const uint32_t *const next = image + step;                                                            \
                const uint32_t b0 = word_of(g[0]), b1 = word_of(g[1]);                                                \
                g += outputs;                                                                                         \
                const uint32_t d0 = word_of(g[0]), d1 = word_of(g[1]);                                                \
                g += outputs;                                                                                         \
                WORDS(ADD_WIDE)                                                                                       \
                image = next + step;                                                                                  \
            }                                                                                                         \
            if (l->width % 2 != 0) {                                                                                  \
                const uint32_t b0 = word_of(g[0]), b1 = word_of(g[1]);                                                \
                WORDS(ADD_LAST)                                                                                       \
                image += step;                                                                                        \
                g += outputs;                                                                                         \
            }                                                                                                         \
        }                                                                                                             \
        WORDS(STORE_WIDE)                                                                                             \
    }
/* As many as stay in registers. */
#ifdef __clang__
#define WORDS_MOST(DO) DO(0) DO(1)
enum { MOST_WIDE = 2 };
#else
#define WORDS_MOST WORDS_3
enum { MOST_WIDE = 3 };
#endif
DEFINE_WIDE(wide_sums_of_most, WORDS_MOST)
DEFINE_WIDE(wide_sums_of_1, WORDS_1)

/* The gradient of all rows; an even number of outputs. */
static void correlate_wide(const et_fixed_conv *shape, const lanes *l, const int8_t *g, int32_t *dw)
{
    const uint32_t *image = l->image;
    const ptrdiff_t run = (ptrdiff_t)shape->kernel_w * (shape->channels / 2);
    for (int32_t k = 0; k < shape->kernel_h; ++k, image += l->row)
        for (ptrdiff_t i = 0, size; i < run; i += size, dw += 2 * size * l->outputs) {
            size = run - i >= MOST_WIDE ? MOST_WIDE : 1;
            for (ptrdiff_t j = 0; j < l->outputs; j += 2)
                (size > 1 ? wide_sums_of_most : wide_sums_of_1)(l, shape->out_height, image + i, g + j, dw + j);
        }
}

/* The same for one pair and one output. */
static void sum_of_one(const lanes *l, int32_t height, const uint32_t *image, const int8_t *g, int32_t *to)
{
    uint32_t sum = 0;
    for (; height > 0; --height, image += l->next)
        for (int32_t w = l->width; w > 0; --w, image += l->step, g += l->outputs)
            sum += *image * word_of(*g);
    take_apart(sum, to, to + l->outputs);
}

/* Adds the gradient of `height` rows of outputs; image: what the first of them sees. */
static void correlate(
    const et_fixed_conv *shape, const lanes *l, int32_t height, const uint32_t *image, const int8_t *g, int32_t *dw)
{
    const int32_t run = shape->kernel_w * shape->channels / 2;
    for (int32_t k = 0; k < shape->kernel_h; ++k, image += l->row) {
        for (int32_t i = 0; i < run;) {
            const int32_t words = run - i >= 3 ? 3 : 1;
            int32_t j = 0;
            for (; j + 4 <= shape->out_channels; j += 4) {
                if (words == 3)
                    sums_of_3(l, height, image + i, g + j, dw + j);
                else
                    sums_of_1(l, height, image + i, g + j, dw + j);
            }
            for (; j < shape->out_channels; ++j)
                for (int32_t m = 0; m < words; ++m)
                    sum_of_one(l, height, image + i + m, g + j, dw + 2 * m * l->outputs + j);
            dw += 2 * words * l->outputs;
            i += words;
        }
    }
}

et_status et_fixed_lanes_grad_weight_i8(
    const et_fixed_conv *shape, int32_t largest_x, int32_t largest_g, const int8_t *x, const int8_t *g,
    const float *x_scale, const float *g_scale, void *scratch, int32_t *dw, float *dw_scale)
{
    const int32_t pixels = 32767 / (largest_x * largest_g);
    const ptrdiff_t pairs = shape->channels / 2, of_row = (ptrdiff_t)shape->out_width * shape->out_channels;
    const bool wide = pixels < shape->out_width;
    if (shape->channels % 2 != 0 || pixels < 2 || (wide && shape->out_channels % 2 != 0))
        return ET_BAD_ARGUMENT;
    *dw_scale = et_fixed_product(*x_scale, *g_scale);
    if (wide && et_fixed_is_sparse(shape->out_channels, shape->batch * shape->out_height * of_row, g, 1, 2))
        return et_fixed_conv_grad_weight_i8(shape, x, g, x_scale, g_scale, scratch, dw, dw_scale);
    lanes l;
    l.row = ((ptrdiff_t)(shape->out_width - 1) * shape->stride_w + shape->kernel_w) * pairs;
    l.step = shape->stride_w * pairs;
    l.next = shape->stride_h * l.row - shape->out_width * l.step;
    l.width = shape->out_width;
    l.rows = pixels / shape->out_width;
    l.outputs = shape->out_channels;
    int32_t *at = dw;
    for (ptrdiff_t i = shape->kernel_h * shape->kernel_w * 2 * pairs * l.outputs; i > 0; --i)
        *at++ = 0;
    for (int32_t n = 0; n < shape->batch; ++n, x += (ptrdiff_t)shape->height * shape->width * shape->channels) {
        const ptrdiff_t count = shape->out_height * of_row;
        uint32_t *const image = (uint32_t *)(void *)((char *)scratch + ET_FIXED_LISTS_BYTES);
        l.image = image;
        pack_image(shape, x, image);
        if (wide) {
            correlate_wide(shape, &l, g, dw);
            g += count;
            continue;
        }
        if (pixels >= ET_FIXED_LISTED && et_fixed_is_sparse(l.outputs, count, g, 1, 4)) {
            const et_fixed_seen seen = {
                image, true, l.row, l.step, l.next, shape->kernel_h, shape->kernel_w * pairs, shape->out_height, l.width,
                l.outputs,
            };
            et_fixed_sparse_grad_weight(&seen, g, scratch, dw);
            g += count;
            continue;
        }
        for (int32_t row = 0; row < shape->out_height; row += l.rows) {
            const int32_t left = shape->out_height - row, height = left < l.rows ? left : l.rows;
            correlate(shape, &l, height, l.image + row * shape->stride_h * l.row, g, dw);
            g += height * of_row;
        }
    }
    return ET_OK;
}

#else

et_status et_fixed_lanes_grad_weight_i8(
    const et_fixed_conv *shape, int32_t largest_x, int32_t largest_g, const int8_t *x, const int8_t *g,
    const float *x_scale, const float *g_scale, void *scratch, int32_t *dw, float *dw_scale)
{
    if (shape->channels % 2 != 0 || 32767 / (largest_x * largest_g) < 2)
        return ET_BAD_ARGUMENT;
    return et_fixed_conv_grad_weight_i8(shape, x, g, x_scale, g_scale, scratch, dw, dw_scale);
}

#endif
