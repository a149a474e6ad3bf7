/* See et_half_native.h. */
#include "et_half_native.h"

#include "et_half_number.h"
#include "et_repeat.h"

/* The sums of some columns (output channels forward, input channels backward) of the pixels of a region. */
typedef struct {
    int32_t taps_h;
    int32_t taps_w;
    int32_t run;       /* consecutive values of the source that one tap meets */
    int32_t columns;
    ptrdiff_t x_tap_h; /* elements from one tap to the next */
    ptrdiff_t x_tap_w;
    ptrdiff_t w_tap_h; /* rows of weights from one tap to the next */
    ptrdiff_t w_tap_w;
    ptrdiff_t pitch;   /* elements from one row of weights to the next */
    ptrdiff_t slice;   /* and from four columns to the next four: 4, unless they lie in panels of their own */
    const et_element *w; /* the first row of the first tap */
    const float *bias;
    et_element *halves;  /* the results as they are; or NULL */
    float *reals;        /* times `unscale` */
    float unscale;
    bool depthwise;      /* columns are groups of one channel, with weights side by side */
} product;

#define DECLARE_COLUMN(m, j) et_number c##m##_##j = 0;
#define DECLARE(m, COLUMNS)                \
    const et_element *x##m = x[m] - skip;  \
    COLUMNS(DECLARE_COLUMN, m)
#define START_COLUMN(m, j) c##m##_##j = et_number_of(of->bias[column + j]);
#define START(m, COLUMNS) COLUMNS(START_COLUMN, m)
#define NEXT_X(m, COLUMNS) x##m += step;
#define WEIGHT(m, j) const et_number b##j = ET_ELEMENT_VALUE(w[j]);
#define ADD_COLUMN(m, j) c##m##_##j = et_number_madd(a, b##j, c##m##_##j);
#define ADD(m, COLUMNS)                                 \
    {                                                   \
        const et_number a = ET_ELEMENT_VALUE(x##m[k]);  \
        COLUMNS(ADD_COLUMN, m)                          \
        ET_BARRIER();                                   \
    }
#define ROW(K, PIXELS, COLUMNS) \
    {                           \
        enum { k = K };         \
        COLUMNS(WEIGHT, 0)      \
        PIXELS(ADD, COLUMNS)    \
        w += pitch;             \
    }
/* The pointer of a pixel is found once: stores might change what it is found from. */
#define FINISH_HALF(m, j) y[j] = et_element_of(c##m##_##j);
#define FINISH_REAL(m, j) y[j] = (float)c##m##_##j * unscale;
#define FINISH_HALVES(m, COLUMNS)                            \
    {                                                        \
        et_element *const y = halves + (at[m] + column);     \
        COLUMNS(FINISH_HALF, m)                              \
    }
#define FINISH_REALS(m, COLUMNS)                             \
    {                                                        \
        float *const y = reals + (at[m] + column);           \
        COLUMNS(FINISH_REAL, m)                              \
    }

/* A run by fours, and what is left one by one. */
#define BY_4(PIXELS, COLUMNS)                              \
    for (const et_element *end = x0 + whole; x0 != end;) { \
        enum { step = 4 };                                 \
        ROW(0, PIXELS, COLUMNS)                            \
        ROW(1, PIXELS, COLUMNS)                            \
        ROW(2, PIXELS, COLUMNS)                            \
        ROW(3, PIXELS, COLUMNS)                            \
        PIXELS(NEXT_X, COLUMNS)                            \
    }                                                      \
    for (const et_element *end = x0 + rest; x0 != end;) {  \
        enum { step = 1 };                                 \
        ROW(0, PIXELS, COLUMNS)                            \
        PIXELS(NEXT_X, COLUMNS)                            \
    }

/* By fours, of which the first may be short: it is entered in its middle, as x begins `skip` values before the run. */
#define INTO_4(PIXELS, COLUMNS)                            \
    {                                                      \
        enum { step = 4 };                                 \
        const et_element *end = x0 + (skip + run);         \
        switch (skip) {                                    \
            do {                                           \
            case 0:                                        \
                ROW(0, PIXELS, COLUMNS)                    \
                ET_FALLTHROUGH                             \
            case 1:                                        \
                ROW(1, PIXELS, COLUMNS)                    \
                ET_FALLTHROUGH                             \
            case 2:                                        \
                ROW(2, PIXELS, COLUMNS)                    \
                ET_FALLTHROUGH                             \
            default:                                       \
                ROW(3, PIXELS, COLUMNS)                    \
                PIXELS(NEXT_X, COLUMNS)                    \
            } while (x0 != end);                           \
        }                                                  \
    }

/* How many values before a run x begins. */
#define BY_4_SKIP(run) 0
#define INTO_4_SKIP(run) (-(run) & 3)

/* `slices` times PIXELS x WIDTH sums, WIDTH being the number of COLUMNS. */
#define DEFINE_SUMS(NAME, PIXELS, COLUMNS, WIDTH, RUN, PITCH)                                                \
    static ET_NOINLINE void NAME(const product *of, const et_element *const *x, const ptrdiff_t *at,         \
                                 ptrdiff_t column, int32_t slices)                                           \
    {                                                                                                        \
        const ptrdiff_t run = of->run, pitch = PITCH, rest = run & 3, whole = run - rest;                    \
        const ptrdiff_t skip = RUN##_SKIP(run), x_tap_w = of->x_tap_w - run - skip;                          \
        const ptrdiff_t x_tap_h = of->x_tap_h - of->x_tap_w * of->taps_w;                                    \
        const ptrdiff_t w_tap_w = (of->w_tap_w - run) * pitch;                                               \
        const ptrdiff_t w_tap_h = (of->w_tap_h - of->w_tap_w * of->taps_w) * pitch;                          \
        (void)rest;                                                                                          \
        (void)whole;                                                                                         \
        for (; slices != 0; slices--, column += WIDTH) {                                                     \
            PIXELS(DECLARE, COLUMNS)                                                                         \
            if (of->bias != NULL) {                                                                          \
                PIXELS(START, COLUMNS)                                                                       \
            }                                                                                                \
            const et_element *w = of->w + column / 4 * of->slice + column % 4;                               \
            for (int32_t taps_h = of->taps_h;;) {                                                            \
                for (int32_t taps_w = of->taps_w;;) {                                                        \
                    RUN(PIXELS, COLUMNS)                                                                     \
                    if (--taps_w == 0)                                                                       \
                        break;                                                                               \
                    const ptrdiff_t step = x_tap_w;                                                          \
                    PIXELS(NEXT_X, COLUMNS)                                                                  \
                    w += w_tap_w;                                                                            \
                }                                                                                            \
                if (--taps_h == 0)                                                                           \
                    break;                                                                                   \
                const ptrdiff_t step = x_tap_h + x_tap_w;                                                    \
                PIXELS(NEXT_X, COLUMNS)                                                                      \
                w += w_tap_h + w_tap_w;                                                                      \
            }                                                                                                \
            if (of->halves != NULL) {                                                                        \
                et_element *const halves = of->halves;                                                       \
                PIXELS(FINISH_HALVES, COLUMNS)                                                               \
            } else {                                                                                         \
                float *const reals = of->reals;                                                              \
                const float unscale = of->unscale;                                                           \
                PIXELS(FINISH_REALS, COLUMNS)                                                                \
            }                                                                                                \
        }                                                                                                    \
    }

typedef void sum_function(const product *of, const et_element *const *x, const ptrdiff_t *at, ptrdiff_t column,
                          int32_t slices);

/* Registers for many sums pay where a multiply-add is an instruction. */
#if ET_HAS_ZFH
enum { TILE = 6 };
DEFINE_SUMS(sums_6x4, ET_PIXELS_6, ET_COLUMNS_4, 4, INTO_4, of->pitch)
DEFINE_SUMS(panel_6x4, ET_PIXELS_6, ET_COLUMNS_4, 4, INTO_4, 4) /* offsets of weights are in the instructions */
DEFINE_SUMS(sums_6x1, ET_PIXELS_6, ET_COLUMNS_1, 1, BY_4, of->pitch)
DEFINE_SUMS(sums_6x2, ET_PIXELS_6, ET_COLUMNS_2, 2, BY_4, of->pitch)
DEFINE_SUMS(sums_2x4, ET_PIXELS_2, ET_COLUMNS_4, 4, BY_4, of->pitch)
DEFINE_SUMS(sums_2x1, ET_PIXELS_2, ET_COLUMNS_1, 1, BY_4, of->pitch)
DEFINE_SUMS(sums_1x16, ET_PIXELS_1, ET_COLUMNS_16, 16, BY_4, of->pitch)
DEFINE_SUMS(sums_1x4, ET_PIXELS_1, ET_COLUMNS_4, 4, BY_4, of->pitch)
DEFINE_SUMS(sums_1x2, ET_PIXELS_1, ET_COLUMNS_2, 2, BY_4, of->pitch)
DEFINE_SUMS(sums_1x1, ET_PIXELS_1, ET_COLUMNS_1, 1, BY_4, of->pitch)

static void tile_sums(const product *of, int32_t pixels, const et_element *const *x, const ptrdiff_t *at)
{
    sum_function *const six = of->pitch == 4 ? panel_6x4 : sums_6x4;
    sum_function *const four = pixels == 6 ? six : pixels == 2 ? sums_2x4 : sums_1x4;
    sum_function *const one = pixels == 6 ? sums_6x1 : pixels == 2 ? sums_2x1 : sums_1x1;
    const int32_t full = pixels == 1 && of->slice == 4 ? of->columns & ~15 : 0;
    const int32_t rest = of->columns & 3, wide = of->columns - full - rest;
    if (full != 0)
        sums_1x16(of, x, at, 0, full / 16);
    if (wide != 0)
        four(of, x, at, full, wide / 4);
    int32_t done = full + wide;
    if (rest >= 2 && pixels != 2) {
        (pixels == 6 ? sums_6x2 : sums_1x2)(of, x, at, done, 1);
        done += 2;
    }
    if (done != of->columns)
        one(of, x, at, done, of->columns - done);
}

static int32_t tile_pixels(int32_t left)
{
    return left >= 6 ? 6 : left >= 2 ? 2 : 1;
}
#else
enum { TILE = 1 };
DEFINE_SUMS(sums_1x4, ET_PIXELS_1, ET_COLUMNS_4, 4, BY_4, of->pitch)
DEFINE_SUMS(sums_1x1, ET_PIXELS_1, ET_COLUMNS_1, 1, BY_4, of->pitch)

static void tile_sums(const product *of, int32_t pixels, const et_element *const *x, const ptrdiff_t *at)
{
    (void)pixels;
    const int32_t rest = of->columns & 3;
    if (of->columns != rest)
        sums_1x4(of, x, at, 0, of->columns / 4);
    if (rest != 0)
        sums_1x1(of, x, at, of->columns - rest, rest);
}

static int32_t tile_pixels(int32_t left)
{
    (void)left;
    return TILE;
}
#endif

#include "et_half_depth.inc"

/* One direction of a layer: where the sources and the results of an image lie. */
typedef struct {
    const et_segment *rows;
    const et_segment *columns;
    int32_t row_count;
    int32_t column_count;
    ptrdiff_t x_row;
    ptrdiff_t x_pixel;
    ptrdiff_t y_row;
    ptrdiff_t y_pixel;
    ptrdiff_t kernel_w;
    int32_t run; /* values that a tap meets */
} side;

/* Results of pixels that meet no tap. */
static void no_taps(const product *of, ptrdiff_t at)
{
    for (int32_t j = 0; j < of->columns; j++) {
        const et_number sum = of->bias != NULL ? et_number_of(of->bias[j]) : 0;
        if (of->halves != NULL)
            of->halves[at + j] = et_element_of(sum);
        else
            of->reals[at + j] = (float)sum * of->unscale;
    }
}

/* The pixels of a row and a column of segments, a tile at a time; tiles may wrap from one row to the next. */
static void region_sums(const side *over, const product *of, const et_segment *row, const et_segment *column,
                        const et_element *x, ptrdiff_t at)
{
    const et_element *sources[TILE];
    ptrdiff_t results[TILE];
    const ptrdiff_t x_pixel = column->source_step * over->x_pixel, y_pixel = column->step * over->y_pixel;
    const ptrdiff_t x_row = row->source_step * over->x_row - x_pixel * column->count;
    const ptrdiff_t y_row = row->step * over->y_row - y_pixel * column->count;
    int32_t in_row = column->count;
    for (int32_t left = row->count * column->count; left > 0;) {
        const int32_t pixels = tile_pixels(left);
        for (int32_t m = 0; m < pixels; m++) {
            sources[m] = x;
            results[m] = at;
            x += x_pixel;
            at += y_pixel;
            if (--in_row == 0) {
                in_row = column->count;
                x += x_row;
                at += y_row;
            }
        }
        if (of->taps_h != 0 && of->taps_w != 0)
            (of->depthwise ? depth_sums : tile_sums)(of, pixels, sources, results);
        else
            for (int32_t m = 0; m < pixels; m++)
                no_taps(of, results[m]);
        left -= pixels;
    }
}

/* All pixels of an image; w, pitch, columns and where results go are set. */
static void image_sums(const side *over, product *of, const et_element *x, ptrdiff_t at)
{
    const et_element *w = of->w;
    for (const et_segment *row = over->rows; row != over->rows + over->row_count; row++)
        for (const et_segment *column = over->columns; column != over->columns + over->column_count; column++) {
            of->taps_h = row->taps;
            of->taps_w = column->taps;
            of->run = over->run;
            of->x_tap_h = row->source_tap_step * over->x_row;
            of->x_tap_w = column->source_tap_step * over->x_pixel;
            of->w_tap_h = row->tap_step * over->kernel_w * over->run;
            of->w_tap_w = (ptrdiff_t)column->tap_step * over->run;
            if (of->taps_w != 0 && of->x_tap_w == of->run && of->w_tap_w == of->run) { /* then it is one run */
                of->run *= of->taps_w;
                of->taps_w = 1;
            }
            of->w = w + (row->tap * over->kernel_w + column->tap) * over->run * of->pitch;
            region_sums(over, of, row, column, x + row->source * over->x_row + column->source * over->x_pixel,
                        at + row->first * over->y_row + column->first * over->y_pixel);
        }
    of->w = w;
}

/* Depthwise, with weights that are read where they are. */
static bool is_depthwise(const et_conv_shape *shape, const et_half_form *form)
{
    return form->stored && shape->groups > 1 && shape->channels == shape->groups
           && shape->out_channels == shape->groups;
}

/* rows x columns weights, `row_step` and `column_step` apart from element `first` on, side by side. */
static void pack(const et_half_form *form, ptrdiff_t rows, ptrdiff_t row_step, ptrdiff_t columns,
                 ptrdiff_t column_step, const void *w, ptrdiff_t first, et_element *target)
{
    for (; rows != 0; rows--, first += row_step) {
        const et_element *end = target + columns;
        if (form->stored)
            for (const et_element *source = (const et_element *)w + first; target != end; source += column_step)
                *target++ = *source;
        else
            for (const float *source = (const float *)w + first; target != end; source += column_step)
                *target++ = et_element_of(et_number_of(*source));
    }
}

/* Four columns of stored weights whose rows follow each other: the gradient's. */
static void pack_4(ptrdiff_t rows, ptrdiff_t pitch, const et_element *w0, et_element *target)
{
    const et_element *w1 = w0 + pitch, *w2 = w1 + pitch, *w3 = w2 + pitch;
#define PACK_ROW(K)                  \
    target[4 * K] = w0[K];           \
    target[4 * K + 1] = w1[K];       \
    target[4 * K + 2] = w2[K];       \
    target[4 * K + 3] = w3[K];
#define PACK_ROWS(COUNT)  \
    w0 += COUNT;          \
    w1 += COUNT;          \
    w2 += COUNT;          \
    w3 += COUNT;          \
    target += 4 * COUNT;
    for (; rows >= 4; rows -= 4) {
        PACK_ROW(0)
        PACK_ROW(1)
        PACK_ROW(2)
        PACK_ROW(3)
        PACK_ROWS(4)
    }
    for (; rows != 0; rows--) {
        PACK_ROW(0)
        PACK_ROWS(1)
    }
}

#include "et_half_vector.inc"

et_status et_half_native(const et_conv_shape *shape, const et_half_form *form, const uint16_t *x, const void *w,
                         const float *bias, uint16_t *y, void *scratch)
{
    if (shape->rows == NULL || shape->columns == NULL)
        return ET_BAD_ARGUMENT;
    const ptrdiff_t inputs = shape->channels / shape->groups, outputs = shape->out_channels / shape->groups;
    if (!form->stored && is_vector(shape)) {
        ptrdiff_t column = 0;
        for (; outputs - column >= 16; column += 16)
            vector_16(inputs, outputs, (const et_element *)x, w, bias, column, (et_element *)y);
        for (; column < outputs; column++)
            vector_1(inputs, outputs, (const et_element *)x, w, bias, column, (et_element *)y);
        return ET_OK;
    }
    const side over = {
        shape->rows, shape->columns, shape->row_count, shape->column_count,
        (ptrdiff_t)shape->width * shape->channels, shape->channels,
        (ptrdiff_t)shape->out_width * shape->out_channels, shape->out_channels, shape->kernel_w, (int32_t)inputs,
    };
    if (is_depthwise(shape, form)) {
        product of = {.columns = shape->channels, .pitch = shape->channels, .slice = 4, .depthwise = true};
        of.w = (const et_element *)w;
        of.bias = bias;
        of.halves = (et_element *)y;
        for (ptrdiff_t n = 0; n < shape->batch; n++)
            image_sums(&over, &of, (const et_element *)x + n * shape->height * over.x_row,
                       n * shape->out_height * over.y_row);
        return ET_OK;
    }
    const ptrdiff_t rows = (ptrdiff_t)shape->kernel_h * shape->kernel_w * inputs;
    const ptrdiff_t block = form->stored ? outputs : form->block;
    for (ptrdiff_t group = 0; group < shape->groups; group++)
        for (ptrdiff_t done = 0; done < outputs; done += block) {
            const ptrdiff_t width = outputs - done < block ? outputs - done : block, first = group * outputs + done;
            product of = {.columns = (int32_t)width, .slice = 4, .halves = (et_element *)y};
            of.bias = bias != NULL ? bias + first : NULL;
            of.w = form->stored ? (const et_element *)w + first : (const et_element *)scratch;
            of.pitch = form->stored ? shape->out_channels : width;
            if (!form->stored)
                pack(form, rows, shape->out_channels, width, 1, w, first, scratch);
            for (ptrdiff_t n = 0; n < shape->batch; n++)
                image_sums(&over, &of, (const et_element *)x + n * shape->height * over.x_row + group * inputs,
                           n * shape->out_height * over.y_row + first);
        }
    return ET_OK;
}

/* One of reals and halves is NULL. */
static et_status grad_input(const et_conv_shape *shape, const et_half_form *form, const uint16_t *dy, const void *w,
                            float *reals, et_element *halves, void *scratch)
{
    if (shape->grad_rows == NULL || shape->grad_columns == NULL)
        return ET_BAD_ARGUMENT;
    if (is_vector(shape)) {
        vector_grad_input(shape, form, (const et_element *)dy, w, reals, halves);
        return ET_OK;
    }
    const ptrdiff_t inputs = shape->channels / shape->groups, outputs = shape->out_channels / shape->groups;
    const ptrdiff_t taps = (ptrdiff_t)shape->kernel_h * shape->kernel_w;
    const side over = {
        shape->grad_rows, shape->grad_columns, shape->grad_row_count, shape->grad_column_count,
        (ptrdiff_t)shape->out_width * shape->out_channels, shape->out_channels,
        (ptrdiff_t)shape->width * shape->channels, shape->channels, shape->kernel_w, (int32_t)outputs,
    };
    if (is_depthwise(shape, form)) {
        product of = {.columns = shape->channels, .pitch = shape->channels, .slice = 4, .depthwise = true};
        of.w = (const et_element *)w;
        of.reals = reals;
        of.halves = halves;
        of.unscale = form->unscale;
        for (ptrdiff_t n = 0; n < shape->batch; n++)
            image_sums(&over, &of, (const et_element *)dy + n * shape->out_height * over.x_row,
                       n * shape->height * over.y_row);
        return ET_OK;
    }
    for (ptrdiff_t group = 0; group < shape->groups; group++)
        for (ptrdiff_t done = 0; done < inputs; done += form->block) {
            const ptrdiff_t width = inputs - done < form->block ? inputs - done : form->block;
            product of = {.columns = (int32_t)width, .w = scratch, .reals = reals, .halves = halves};
            of.unscale = form->unscale;
            of.pitch = width % 4 == 0 ? 4 : width;
            of.slice = width % 4 == 0 ? taps * outputs * 4 : 4;
            et_element *packed = scratch;
            for (ptrdiff_t column = done; column < done + width; column += of.pitch)
                for (ptrdiff_t tap = 0; tap < taps; tap++, packed += outputs * of.pitch) {
                    const ptrdiff_t first = (tap * inputs + column) * shape->out_channels + group * outputs;
                    if (form->stored && of.pitch == 4)
                        pack_4(outputs, shape->out_channels, (const et_element *)w + first, packed);
                    else
                        pack(form, outputs, 1, of.pitch, shape->out_channels, w, first, packed);
                }
            for (ptrdiff_t n = 0; n < shape->batch; n++)
                image_sums(&over, &of, (const et_element *)dy + n * shape->out_height * over.x_row + group * outputs,
                           n * shape->height * over.y_row + group * inputs + done);
        }
    return ET_OK;
}

et_status et_half_native_grad_input(const et_conv_shape *shape, const et_half_form *form, const uint16_t *dy,
                                    const void *w, float *dx, void *scratch)
{
    return grad_input(shape, form, dy, w, dx, NULL, scratch);
}

et_status et_half_native_grad_halves(const et_conv_shape *shape, const et_half_form *form, const uint16_t *dy,
                                     const void *w, uint16_t *dx, void *scratch)
{
    return grad_input(shape, form, dy, w, NULL, (et_element *)dx, scratch);
}
