/* See et_half_native_weight.h. */
#include "et_half_native_weight.h"

#include "et_half_number.h"
#include "et_reach.h"
#include "et_repeat.h"

/* Stored weights of which rows and columns draw (et_stored_sgd.h), on a core with halves of its own. */
#if ET_HAS_ZFH
/* Whether steps are madd(rate, sum, w) with a w in reach of float32 and no bounds: the usual case. */
static bool draws_at_once(const et_half_form *form, const et_half_sink *sink, float *rate)
{
    const et_stored_sgd *options = sink->options;
    *rate = sink->back * form->unscale;
    return sink->stored != NULL && options->lines != 0u && options->weight_decay == 0.0f
           && *rate / form->unscale == sink->back && *rate >= -0x1p100f && *rate <= 0x1p100f
           && options->low == -ET_INFINITY && options->high == ET_INFINITY;
}

#define NOISE(random) ((random) >> 19) /* below the last bit of binary16 that float32 has */
#define LEAST_BITS 0x38800000u         /* 2^-14: smaller numbers have fewer bits */

/* Rounded towards 0, to the largest number where it is larger. */
static inline et_float16 cut_off(uint32_t bits)
{
    et_float16 result;
    __asm__("fcvt.h.s %0, %1, rtz" : "=f"(result) : "f"(et_from_bits_f32(bits)));
    return result;
}
#endif

/* Where the sums of a tile go: into weights by one multiply-add each if all are finite, else into `sums`. */
typedef struct {
    float *w; /* NULL: into `stored`, or always into sums */
    et_element *stored;
    const uint16_t *rows; /* what the rows and the columns of the tile drew, for `stored` */
    const uint16_t *columns;
    ptrdiff_t pitch;
    float rate;
    float *sums;
} target;

/* Rows and columns whose numbers are drawn together. */
enum { DRAWN_ROWS = 64, DRAWN_COLUMNS = 64, MOST_SUMS = 24, PANEL = 16, ALL = -1 };

/* Tiles are a few input channels (x[m]) by a few output channels; sums stay in registers over all pixels of a tap. */
#define DECLARE_COLUMN(m, j) et_number c##m##_##j = 0;
#define DECLARE(m, COLUMNS) COLUMNS(DECLARE_COLUMN, m)
#define GRADIENT(m, j) const et_number b##j = ET_ELEMENT_VALUE(dy[j]);
#define ADD_COLUMN(m, j) c##m##_##j = et_number_madd(a, b##j, c##m##_##j);
#define ADD(m, COLUMNS)                              \
    {                                                \
        const et_number a = ET_ELEMENT_VALUE(x[m]);  \
        COLUMNS(ADD_COLUMN, m)                       \
        ET_BARRIER();                                \
    }
#define OUTER(ROWS, COLUMNS) \
    COLUMNS(GRADIENT, 0)     \
    ROWS(ADD, COLUMNS)
#if ET_FORM_HALF_THREE
/* The side of a tile that is loaded first is the shorter: 3 x 8 would not fit into the registers otherwise. */
#define OUTER_3(ROWS, COLUMNS)                                                                                      \
    const et_number a0 = ET_ELEMENT_VALUE(x[0]), a1 = ET_ELEMENT_VALUE(x[1]), a2 = ET_ELEMENT_VALUE(x[2]);          \
    COLUMNS(ADD_TO_3_ROWS, 0)
#define ADD_TO_3_ROWS(m, j)                         \
    {                                               \
        GRADIENT(m, j)                              \
        c0_##j = et_number_madd(a0, b##j, c0_##j);  \
        c1_##j = et_number_madd(a1, b##j, c1_##j);  \
        c2_##j = et_number_madd(a2, b##j, c2_##j);  \
        ET_BARRIER();                               \
    }
#endif
#define PAIR(m, j) c0_##j = et_number_madd(ET_ELEMENT_VALUE(x[j]), ET_ELEMENT_VALUE(dy[j]), c0_##j);
#define PAIRS(ROWS, COLUMNS) COLUMNS(PAIR, 0) /* depthwise */
#define STORE_COLUMN(m, j) *sums++ = (float)c##m##_##j;
#define STORE(m, COLUMNS) COLUMNS(STORE_COLUMN, m)
#define WATCH_COLUMN(m, j) watch = et_number_madd(c##m##_##j, 0, watch); /* NaN from what is not finite on */
#define WATCH(m, COLUMNS) COLUMNS(WATCH_COLUMN, m)
#define STEP_COLUMN(m, j) w[j] = et_madd(rate, (float)c##m##_##j, w[j]);
#define STEP(m, COLUMNS)     \
    COLUMNS(STEP_COLUMN, m)  \
    w += pitch;

#if ET_HAS_ZFH
#define NOISE_COLUMN(m, j) const uint32_t noise##j = to->columns[j];
#define DRAW_COLUMN(m, j)                                                                       \
    {                                                                                           \
        const uint32_t bits = et_bits_f32(et_madd(rate, (float)c##m##_##j, (float)w[j]));       \
        if (bits << 1 < least)                                                                  \
            left |= 1 << (m * columns + j);                                                     \
        else                                                                                    \
            w[j] = cut_off(bits + (drawn ^ noise##j));                                          \
        ET_BARRIER();                                                                           \
    }
#define DRAW(m, COLUMNS)                      \
    {                                         \
        const uint32_t drawn = to->rows[m];   \
        COLUMNS(DRAW_COLUMN, m)               \
        w += pitch;                           \
    }
#define DRAW_TILE(ROWS, COLUMNS, WIDTH)                      \
    if (to->stored != NULL) {                                \
        et_number watch = 0;                                 \
        ROWS(WATCH, COLUMNS)                                 \
        if (watch == 0) {                                    \
            enum { columns = WIDTH };                        \
            const float rate = to->rate;                     \
            const ptrdiff_t pitch = to->pitch;               \
            uint32_t least = LEAST_BITS << 1;                \
            ET_OPAQUE(least);                                \
            et_element *w = to->stored;                      \
            left = 0;                                        \
            COLUMNS(NOISE_COLUMN, 0)                         \
            ROWS(DRAW, COLUMNS)                              \
            if (left == 0)                                   \
                return 0;                                    \
        }                                                    \
    }
#else
#define DRAW_TILE(ROWS, COLUMNS, WIDTH)
#endif

/* The end of a tile: its sums go into weights, or to the caller. */
#define FINISH_TILE(ROWS, COLUMNS, WIDTH)        \
    if (to->w != NULL) {                         \
        et_number watch = 0;                     \
        ROWS(WATCH, COLUMNS)                     \
        if (watch == 0) {                        \
            const float rate = to->rate;         \
            const ptrdiff_t pitch = to->pitch;   \
            float *w = to->w;                    \
            ROWS(STEP, COLUMNS)                  \
            return 0;                            \
        }                                        \
    }                                            \
    int32_t left = ALL;                          \
    DRAW_TILE(ROWS, COLUMNS, WIDTH)              \
    float *sums = to->sums;                      \
    ROWS(STORE, COLUMNS)                         \
    return left;

/* Gives which sums are left to the caller, in `sums`: a bit for each, row-major. */
#define DEFINE_WEIGHT(NAME, ROWS, COLUMNS, WIDTH, TERMS)                                                            \
    static ET_NOINLINE int32_t NAME(const et_reach *reach, const et_element *x, const et_element *dy,               \
                                    const target *to)                                                               \
    {                                                                                                               \
        ROWS(DECLARE, COLUMNS)                                                                                      \
        const ptrdiff_t x_column = reach->x_column, dy_column = reach->dy_column;                                   \
        const ptrdiff_t width = reach->columns * dy_column, x_row = reach->x_row, dy_row = reach->dy_row;           \
        for (int32_t image = reach->images; image != 0; image--) {                                                  \
            for (int32_t row = reach->rows; row != 0; row--) {                                                      \
                const et_element *end = dy + width;                                                                 \
                do {                                                                                                \
                    TERMS(ROWS, COLUMNS)                                                                            \
                    x += x_column;                                                                                  \
                    dy += dy_column;                                                                                \
                    ET_OPAQUE(dy);                                                                                  \
                } while (dy != end);                                                                                \
                x += x_row;                                                                                         \
                dy += dy_row;                                                                                       \
            }                                                                                                       \
            x += reach->x_image;                                                                                    \
            dy += reach->dy_image;                                                                                  \
        }                                                                                                           \
        FINISH_TILE(ROWS, COLUMNS, WIDTH)                                                                           \
    }

typedef int32_t weight_function(const et_reach *reach, const et_element *x, const et_element *dy, const target *to);

/* A tile shape. */
typedef struct {
    int8_t rows;
    int8_t columns;
    weight_function *sums;
} tile_shape;

DEFINE_WEIGHT(weight_1x4, ET_PIXELS_1, ET_COLUMNS_4, 4, OUTER)
DEFINE_WEIGHT(weight_1x1, ET_PIXELS_1, ET_COLUMNS_1, 1, OUTER)
DEFINE_WEIGHT(pairs_4, ET_PIXELS_1, ET_COLUMNS_4, 4, PAIRS)
DEFINE_WEIGHT(pairs_1, ET_PIXELS_1, ET_COLUMNS_1, 1, PAIRS)

/* Registers for many sums pay where a multiply-add is an instruction. For each width the largest first. */
#if ET_HAS_ZFH
enum { LEAST_ROWS = 4 }; /* fewer go with more columns */
DEFINE_WEIGHT(weight_6x4, ET_PIXELS_6, ET_COLUMNS_4, 4, OUTER)
DEFINE_WEIGHT(weight_4x4, ET_PIXELS_4, ET_COLUMNS_4, 4, OUTER)
DEFINE_WEIGHT(weight_1x16, ET_PIXELS_1, ET_COLUMNS_16, 16, OUTER)
#if ET_FORM_HALF_THREE
DEFINE_WEIGHT(weight_3x8, ET_PIXELS_3, ET_COLUMNS_8, 8, OUTER_3)
#define THREE_BY_EIGHT {3, 8, weight_3x8},
#else
#define THREE_BY_EIGHT
#endif
DEFINE_WEIGHT(weight_2x8, ET_PIXELS_2, ET_COLUMNS_8, 8, OUTER)
DEFINE_WEIGHT(weight_1x8, ET_PIXELS_1, ET_COLUMNS_8, 8, OUTER)
DEFINE_WEIGHT(weight_1x6, ET_PIXELS_1, ET_COLUMNS_6, 6, OUTER)
DEFINE_WEIGHT(weight_6x2, ET_PIXELS_6, ET_COLUMNS_2, 2, OUTER)
DEFINE_WEIGHT(weight_1x2, ET_PIXELS_1, ET_COLUMNS_2, 2, OUTER)
DEFINE_WEIGHT(weight_6x1, ET_PIXELS_6, ET_COLUMNS_1, 1, OUTER)
static const tile_shape SHAPES[] = {{1, 16, weight_1x16}, THREE_BY_EIGHT    {2, 8, weight_2x8}, {1, 8, weight_1x8},
                                    {6, 4, weight_6x4},   {4, 4, weight_4x4}, {1, 4, weight_1x4}, {6, 2, weight_6x2},
                                    {1, 2, weight_1x2},   {6, 1, weight_6x1}, {1, 1, weight_1x1}, {1, 6, weight_1x6}};
DEFINE_WEIGHT(pairs_16, ET_PIXELS_1, ET_COLUMNS_16, 16, PAIRS)
DEFINE_WEIGHT(pairs_8, ET_PIXELS_1, ET_COLUMNS_8, 8, PAIRS)
DEFINE_WEIGHT(pairs_2, ET_PIXELS_1, ET_COLUMNS_2, 2, PAIRS)
static const tile_shape PAIR_SHAPES[] = {{1, 16, pairs_16}, {1, 8, pairs_8}, {1, 4, pairs_4}, {1, 2, pairs_2},
                                         {1, 1, pairs_1}};

#if ET_FORM_HALF_TRIPLES
#include "et_half_triples.inc"
#else
#define TRIPLE_SHAPES PAIR_SHAPES
#define goes_by_triples(shape) false
#endif

static ptrdiff_t tile_columns(const tile_shape *shapes, ptrdiff_t rows, ptrdiff_t left)
{
    if (shapes == SHAPES && rows == 1 && left == 6)
        return 6;
    const ptrdiff_t most = rows == 1 ? 16 : rows < LEAST_ROWS ? 8 : 4;
    ptrdiff_t width = 1;
    while (width < most && 2 * width <= left)
        width *= 2;
    return width;
}
#else
enum { LEAST_ROWS = 1 };
static const tile_shape SHAPES[] = {{1, 4, weight_1x4}, {1, 1, weight_1x1}};
static const tile_shape PAIR_SHAPES[] = {{1, 4, pairs_4}, {1, 1, pairs_1}};
#define TRIPLE_SHAPES PAIR_SHAPES
#define goes_by_triples(shape) false

static ptrdiff_t tile_columns(const tile_shape *shapes, ptrdiff_t rows, ptrdiff_t left)
{
    (void)shapes;
    (void)rows;
    return left >= 4 ? 4 : 1;
}
#endif

/* Rows that are worked on together, of those that are left: the last few by themselves. */
static ptrdiff_t rows_together(ptrdiff_t rows)
{
    const ptrdiff_t some = rows < DRAWN_ROWS ? rows : DRAWN_ROWS;
    const ptrdiff_t last = some % 6 < LEAST_ROWS ? some % 6 : 0;
    return some == last ? some : some - last;
}

static const tile_shape *shape_for(const tile_shape *shape, ptrdiff_t rows, ptrdiff_t columns)
{
    while (shape->columns != columns || shape->rows > rows)
        shape++;
    return shape;
}

/* Whether weights are stepped by madd(rate, sum, w), with the learning rate and the scale of the gradients in one
 * factor: exact where the rate is, since a power of two only moves the exponent. */
static bool steps_at_once(const et_half_form *form, const et_half_sink *sink, float *rate)
{
    *rate = sink->back * form->unscale;
    return sink->update && sink->stored == NULL && sink->weight_decay == 0.0f && *rate / form->unscale == sink->back;
}

/* What the tiles of some columns have in common. */
typedef struct {
    const et_half_form *form;
    et_half_sink *sink;
    const tile_shape *shapes;
    ptrdiff_t pitch;   /* from row to row of the weights */
    ptrdiff_t columns; /* output channels */
    bool at_once;      /* weights of float32 are stepped in their tiles */
    float rate;
#if ET_HAS_ZFH
    bool draws; /* stored ones are */
    uint16_t drawn[DRAWN_COLUMNS];
#endif
} slice;

/* What the columns from `first` on draw: tiles of all taps use it. */
static void draw_columns(slice *of, ptrdiff_t first)
{
#if ET_HAS_ZFH
    for (ptrdiff_t j = 0; of->draws && j < of->columns; j++)
        of->drawn[j] = (uint16_t)NOISE(et_random_at(of->sink->key, of->sink->options->rows + (uint32_t)(first + j)));
#else
    (void)of;
    (void)first;
#endif
}

/* One tap: `rows` input channels, at most DRAWN_ROWS, by the columns of the slice, the first of which is `index`. */
static void tap_sums(const slice *of, const et_reach *reach, ptrdiff_t rows, const et_element *x, const et_element *dy,
                     ptrdiff_t index)
{
    float sums[MOST_SUMS];
    const tile_shape *const shapes = of->shapes;
    const ptrdiff_t pitch = of->pitch;
    target to = {.pitch = pitch, .rate = of->rate, .sums = sums};
#if ET_HAS_ZFH
    uint16_t drawn[DRAWN_ROWS];
    for (ptrdiff_t row = 0; of->draws && row < rows; row++)
        drawn[row] = (uint16_t)NOISE(et_random_at(of->sink->key, (uint32_t)(index / pitch + row)));
#endif
    for (ptrdiff_t column = 0, width; column < of->columns; column += width) {
        width = tile_columns(shapes, rows, of->columns - column);
        const tile_shape *shape = shape_for(shapes, rows, width);
        const et_element *gradient = dy + column, *input = shapes == SHAPES ? x : x + column;
        ptrdiff_t first = index + column;
#if ET_HAS_ZFH
        to.columns = of->drawn + column;
#endif
        for (ptrdiff_t row = 0; row < rows;) {
            if (shape->rows > rows - row)
                shape = shape_for(shapes, rows - row, width);
            to.w = of->at_once ? of->sink->values + first : NULL;
#if ET_HAS_ZFH
            to.stored = of->draws ? (et_element *)of->sink->stored + first : NULL;
            to.rows = drawn + row;
#endif
            const int32_t rest = shape->sums(reach, input, gradient, &to);
            for (ptrdiff_t m = 0; rest != 0 && m < shape->rows; m++)
                for (ptrdiff_t j = 0; j < width; j++)
                    if ((rest >> (m * width + j) & 1) != 0)
                        et_half_keep(of->form, of->sink, 1, sums + m * width + j, first + m * pitch + j);
            row += shape->rows;
            input += shape->rows;
            first += shape->rows * pitch;
        }
    }
}

/* A layer with one pixel and one tap: every weight has one product. With `rate`, w = madd(rate, product, w) in place. */
#define LOAD(m, j) const et_number b##j = ET_ELEMENT_VALUE(dy[j]);
#define PRODUCT(m, j) w[j] = (float)et_number_madd(a, b##j, 0);
#define UPDATE(m, j) w[j] = et_madd(rate, (float)et_number_madd(a, b##j, 0), w[j]);
#define DEFINE_OUTER(NAME, COLUMNS, FINISH)                                                                         \
    static ET_NOINLINE void NAME(ptrdiff_t inputs, ptrdiff_t pitch, const et_element *x, const et_element *dy,      \
                                 float rate, float *w)                                                              \
    {                                                                                                               \
        COLUMNS(LOAD, 0)                                                                                            \
        (void)rate;                                                                                                 \
        for (const et_element *end = x + inputs; x != end; x++, w += pitch) {                                       \
            const et_number a = ET_ELEMENT_VALUE(*x);                                                               \
            COLUMNS(FINISH, 0)                                                                                      \
        }                                                                                                           \
    }
DEFINE_OUTER(update_16, ET_COLUMNS_16, UPDATE)
DEFINE_OUTER(update_1, ET_COLUMNS_1, UPDATE)
DEFINE_OUTER(products_16, ET_COLUMNS_16, PRODUCT)
DEFINE_OUTER(products_1, ET_COLUMNS_1, PRODUCT)

/* The largest magnitude, as bits: an infinity and NaN are larger than all numbers. */
static uint16_t largest(ptrdiff_t count, const uint16_t *x)
{
    uint16_t most = 0;
    for (ptrdiff_t i = 0; i < count; i++) {
        const uint16_t magnitude = (uint16_t)(x[i] & 0x7FFFu);
        most = magnitude > most ? magnitude : most;
    }
    return most;
}

/* Whether every product is finite: magnitudes round monotonically, so the product of the largest two decides. */
static bool products_finite(ptrdiff_t count_x, const uint16_t *x, ptrdiff_t count_y, const uint16_t *y)
{
    const uint16_t a = largest(count_x, x), b = largest(count_y, y);
    if (a >= 0x7C00u || b >= 0x7C00u)
        return false;
    return (et_to_fp16(et_from_fp16(a) * et_from_fp16(b)) & 0x7FFFu) < 0x7C00u;
}

static void outer(const et_conv_shape *shape, const et_half_form *form, et_half_sink *sink, const uint16_t *x,
                  const uint16_t *dy)
{
    const ptrdiff_t inputs = shape->channels, outputs = shape->out_channels;
    float rate;
    const bool whole = steps_at_once(form, sink, &rate) && products_finite(inputs, x, outputs, dy);
    for (ptrdiff_t column = 0, width; column < outputs; column += width) {
        width = outputs - column < PANEL ? 1 : PANEL;
        const et_element *values = (const et_element *)x, *gradients = (const et_element *)dy + column;
        if (whole) {
            (width == PANEL ? update_16 : update_1)(inputs, outputs, values, gradients, rate, sink->values + column);
            continue;
        }
        float products[PANEL];
        for (ptrdiff_t k = 0; k < inputs; k++) {
            (width == PANEL ? products_16 : products_1)(1, 0, values + k, gradients, 0.0f, products);
            et_half_keep(form, sink, width, products, k * outputs + column);
        }
    }
}

/* Makes one row of those that begin where the row before them ends. */
static void join_rows(et_reach *reach)
{
    if (reach->x_row == 0 && reach->dy_row == 0 && reach->rows > 1) {
        reach->columns *= reach->rows;
        reach->rows = 1;
    }
}

static et_status weight_gradient(const et_conv_shape *shape, const et_half_form *form, et_half_sink *sink,
                                 const uint16_t *x, const uint16_t *dy)
{
    const ptrdiff_t inputs = shape->channels / shape->groups, outputs = shape->out_channels / shape->groups;
    const ptrdiff_t pixels = (ptrdiff_t)shape->height * shape->width * shape->out_height * shape->out_width;
    const bool one_tap = shape->kernel_h == 1 && shape->kernel_w == 1 && shape->pad_top == 0 && shape->pad_left == 0;
    if (shape->batch == 1 && pixels == 1 && one_tap && shape->groups == 1) {
        outer(shape, form, sink, x, dy);
        return et_half_sink_status(sink);
    }
    const bool pairs = shape->channels == shape->groups && shape->out_channels == shape->groups;
    const ptrdiff_t groups = pairs ? 1 : shape->groups, columns = pairs ? shape->out_channels : outputs;
    const bool triples = pairs && goes_by_triples(shape);
    slice of = {.form = form, .sink = sink, .shapes = pairs ? PAIR_SHAPES : SHAPES, .pitch = shape->out_channels};
    if (triples)
        of.shapes = TRIPLE_SHAPES;
    of.at_once = steps_at_once(form, sink, &of.rate);
#if ET_HAS_ZFH
    of.draws = draws_at_once(form, sink, &of.rate);
#endif
    for (ptrdiff_t group = 0; group < groups; group++)
        for (ptrdiff_t column = 0; column < columns; column += of.columns) {
            of.columns = columns - column < DRAWN_COLUMNS ? columns - column : DRAWN_COLUMNS;
            draw_columns(&of, group * outputs + column);
            for (int32_t kh = 0; kh < shape->kernel_h; kh++)
                for (int32_t kw = 0; kw < shape->kernel_w; kw++) {
                    if (triples) {
                        const et_reach middle = et_reach_of(shape, kh, 1);
                        tap_sums(&of, &middle, 3, (const et_element *)x + middle.x_first + column,
                                 (const et_element *)dy + middle.dy_first + column, kh * 3 * of.pitch + column);
                        break;
                    }
                    et_reach reach = et_reach_of(shape, kh, kw);
                    join_rows(&reach);
                    const ptrdiff_t first = group * outputs + column;
                    const et_element *from = (const et_element *)x + reach.x_first + group * inputs;
                    const et_element *gradient = (const et_element *)dy + reach.dy_first + first;
                    const ptrdiff_t index = (kh * (ptrdiff_t)shape->kernel_w + kw) * inputs * of.pitch + first;
                    for (ptrdiff_t row = 0, some; row < inputs; row += some) {
                        some = rows_together(inputs - row);
                        tap_sums(&of, &reach, some, pairs ? from + column : from + row, gradient,
                                 index + row * of.pitch);
                    }
                }
        }
    return et_half_sink_status(sink);
}

et_status et_half_native_grad_weight(const et_conv_shape *shape, const et_half_form *form, const uint16_t *x,
                                     const uint16_t *dy, float *dw)
{
    et_half_sink sink = et_half_sink_gradient(dw);
    return weight_gradient(shape, form, &sink, x, dy);
}

et_status et_half_native_update(const et_conv_shape *shape, const et_half_form *form, float learning_rate,
                                float weight_decay, const uint16_t *x, const uint16_t *dy, float *w)
{
    et_half_sink sink = et_half_sink_update(learning_rate, weight_decay, w);
    return weight_gradient(shape, form, &sink, x, dy);
}

et_status et_half_native_update_stored(
    const et_conv_shape *shape, const et_half_form *form, const et_stored_sgd *options, float learning_rate,
    uint32_t seed, uint32_t step, const uint16_t *x, const uint16_t *dy, uint16_t *stored)
{
    et_half_sink sink = et_half_sink_stored(options, learning_rate, seed, step, stored);
    return weight_gradient(shape, form, &sink, x, dy);
}
