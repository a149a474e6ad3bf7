#include "et_depthwise.h"

#include "et_share.h"
#include "et_tile.h"

/* Tiles are a few pixels by a few channels: 4 floats, or 16 lanes where there are vectors. One weight, all pixels. */
#if ET_LANES == 1
#define ET_DECLARE_COLUMN(m, j) float c##m##_##j = 0.0f;
#define ET_START_COLUMN(m, j) c##m##_##j = bias[j];
#define ET_WEIGHT(m, j) const float b##j = w[j];
#define ET_ADD_COLUMN(m, j) c##m##_##j = et_madd(x##m[j], b##j, c##m##_##j);
#define ET_FINISH_COLUMN(m, j) y[m][channel + j] = c##m##_##j;
/* Sums wait for nothing: else their sources stay in registers that other sums need. */
#define ET_SETTLE_COLUMN(m, j) ET_SETTLED_FLOAT(c##m##_##j);
#define ET_AFTER_PIXEL(m, COLUMNS) COLUMNS(ET_SETTLE_COLUMN, m) ET_BARRIER();
#define ET_LAST_ARGUMENT
#else
#define ET_DECLARE_COLUMN(m, j) et_lanes c##m##_##j = et_lanes_set(0.0f, mask);
#define ET_START_COLUMN(m, j) c##m##_##j = et_lanes_load(bias, mask);
#define ET_WEIGHT(m, j) const et_lanes b##j = et_lanes_load(w, mask);
#define ET_ADD_COLUMN(m, j) c##m##_##j = et_lanes_madd(et_lanes_load(x##m, mask), b##j, c##m##_##j, mask);
#define ET_FINISH_COLUMN(m, j) et_lanes_store(y[m] + channel, mask, c##m##_##j);
#define ET_AFTER_PIXEL(m, COLUMNS)
#define ET_VECTOR et_lanes
#define ET_LAST_ARGUMENT , et_mask mask
#endif

#define ET_DECLARE(m, COLUMNS)          \
    const float *x##m = x[m] + channel; \
    COLUMNS(ET_DECLARE_COLUMN, m)
#define ET_START(m, COLUMNS) COLUMNS(ET_START_COLUMN, m)
#define ET_ADD(m, COLUMNS)    \
    COLUMNS(ET_ADD_COLUMN, m) \
    ET_AFTER_PIXEL(m, COLUMNS)
#define ET_NEXT_X(m, COLUMNS) x##m += step;
#define ET_FINISH(m, COLUMNS) COLUMNS(ET_FINISH_COLUMN, m)

/* Channels [channel, end), WIDTH at a time. */
#define ET_DEFINE_FILTER(NAME, PIXELS, COLUMNS, WIDTH)                                                           \
    static ET_NOINLINE void NAME(const et_tile *tile, const float *const *x, float *const *y, ptrdiff_t channel, \
                                 ptrdiff_t end ET_LAST_ARGUMENT)                                                 \
    {                                                                                                            \
        const ptrdiff_t x_tap_w = tile->x_tap_w, w_tap_w = tile->w_tap_w;                                        \
        const ptrdiff_t x_tap_h = tile->x_tap_h - x_tap_w * tile->taps_w;                                        \
        const ptrdiff_t w_tap_h = tile->w_tap_h - w_tap_w * tile->taps_w;                                        \
        for (; channel != end; channel += WIDTH) {                                                               \
            PIXELS(ET_DECLARE, COLUMNS)                                                                          \
            if (tile->bias != NULL) {                                                                            \
                const float *bias = tile->bias + channel;                                                        \
                PIXELS(ET_START, COLUMNS)                                                                        \
            }                                                                                                    \
            const float *w = tile->w + tile->w_first + channel;                                                  \
            for (int32_t taps_h = tile->taps_h;;) {                                                              \
                for (int32_t taps_w = tile->taps_w;;) {                                                          \
                    COLUMNS(ET_WEIGHT, 0)                                                                        \
                    PIXELS(ET_ADD, COLUMNS)                                                                      \
                    w += w_tap_w;                                                                                \
                    if (--taps_w == 0)                                                                           \
                        break;                                                                                   \
                    const ptrdiff_t step = x_tap_w;                                                              \
                    PIXELS(ET_NEXT_X, COLUMNS)                                                                   \
                }                                                                                                \
                if (--taps_h == 0)                                                                               \
                    break;                                                                                       \
                const ptrdiff_t step = x_tap_h + x_tap_w;                                                        \
                PIXELS(ET_NEXT_X, COLUMNS)                                                                       \
                w += w_tap_h;                                                                                    \
            }                                                                                                    \
            ET_RECTIFY(PIXELS, COLUMNS)                                                                          \
            ET_GATE(PIXELS, COLUMNS, channel)                                                                    \
            PIXELS(ET_FINISH, COLUMNS)                                                                           \
        }                                                                                                        \
    }

#if ET_LANES == 1

#if !ET_SMALL_TILES
ET_DEFINE_FILTER(filter_6x4, ET_PIXELS_6, ET_COLUMNS_4, 4)
ET_DEFINE_FILTER(filter_6x1, ET_PIXELS_6, ET_COLUMNS_1, 1)
ET_DEFINE_FILTER(filter_2x4, ET_PIXELS_2, ET_COLUMNS_4, 4)
ET_DEFINE_FILTER(filter_1x4, ET_PIXELS_1, ET_COLUMNS_4, 4)
#endif
ET_DEFINE_FILTER(filter_2x1, ET_PIXELS_2, ET_COLUMNS_1, 1)
ET_DEFINE_FILTER(filter_1x1, ET_PIXELS_1, ET_COLUMNS_1, 1)

#if ET_SMALL_TILES

static void filter_tile(const et_tile *tile, int32_t pixels, const float *const *x, float *const *y)
{
    (pixels == 2 ? filter_2x1 : filter_1x1)(tile, x, y, 0, tile->columns);
}

#else

/* Of 6, 2 or 1 pixels. */
static void filter_pixels(const et_tile *tile, int32_t pixels, const float *const *x, float *const *y)
{
    typedef void filter_function(const et_tile *, const float *const *, float *const *, ptrdiff_t, ptrdiff_t);
    filter_function *const four = pixels == 6 ? filter_6x4 : pixels == 2 ? filter_2x4 : filter_1x4;
    filter_function *const one = pixels == 6 ? filter_6x1 : pixels == 2 ? filter_2x1 : filter_1x1;
    const ptrdiff_t channels = tile->columns, fours = channels & ~(ptrdiff_t)3;
    if (fours != 0)
        four(tile, x, y, 0, fours);
    if (channels != fours)
        one(tile, x, y, fours, channels);
}

static void filter_tile(const et_tile *tile, int32_t pixels, const float *const *x, float *const *y)
{
    if (pixels == 4) {
        filter_pixels(tile, 2, x, y);
        filter_pixels(tile, 2, x + 2, y + 2);
    } else {
        filter_pixels(tile, pixels, x, y);
    }
}

#endif

#if !ET_SMALL_TILES

/* Kernels of 3 rows, the common case: one channel slides down a column of pixels with its weights and the last rows of
 * the source in registers, so that a source value is loaded once per column instead of three times.
 * Going up the column serves the gradient of the input, whose taps meet the source backwards. */
#define ET_SLIDE_WEIGHT(u, row) const float w##row##u = w[row * tile->w_tap_h + u * tile->w_tap_w];
#define ET_SLIDE_WEIGHTS(u, COLUMNS) ET_SLIDE_WEIGHT(u, 0) ET_SLIDE_WEIGHT(u, 1) ET_SLIDE_WEIGHT(u, 2)
#define ET_SLIDE_DECLARE(u, COLUMNS)                  \
    const float *x##u = x_column + u * tile->x_tap_w; \
    float r0##u = *x##u, r1##u = 0.0f, r2##u;         \
    x##u += tile->x_tap_h;
#define ET_SLIDE_LOAD(row, u) \
    r##row##u = *x##u;        \
    x##u += row_step;
#define ET_SLIDE_ADD(row, u, of) sum = et_madd(r##of##u, w##row##u, sum);

#define ET_SLIDE_LOAD_2(row) ET_SLIDE_LOAD(row, 0) ET_SLIDE_LOAD(row, 1)
#define ET_SLIDE_LOAD_3(row) ET_SLIDE_LOAD_2(row) ET_SLIDE_LOAD(row, 2)
#define ET_SLIDE_ADD_2(row, of) ET_SLIDE_ADD(row, 0, of) ET_SLIDE_ADD(row, 1, of)
#define ET_SLIDE_ADD_3(row, of) ET_SLIDE_ADD_2(row, of) ET_SLIDE_ADD(row, 2, of)

#if ET_FORM_RECTIFY
#define ET_SLIDE_BOUNDS const et_bounds bounds = et_bounds_of(tile->end);
#define ET_SLIDE_END(sum) et_bounded(sum, bounds)
#else
#define ET_SLIDE_BOUNDS
#define ET_SLIDE_END(sum) sum
#endif

/* One result from source rows in r<first>, r<second>, r<third>; leaves when it was the last of the column. */
#define ET_SLIDE_RESULT(ADD, first, second, third) \
    {                                              \
        float sum = bias;                          \
        ADD(0, first)                              \
        ADD(1, second)                             \
        ADD(2, third)                              \
        *y = ET_SLIDE_END(sum);                                  \
        if (--left == 0)                           \
            break;                                 \
        y += y_step;                               \
    }

/* Results that lie one source row apart: three roles, taken in turn. */
#define ET_SLIDE_BY_1(LOAD, ADD)      \
    LOAD(1)                           \
    for (;;) {                        \
        LOAD(2)                       \
        ET_SLIDE_RESULT(ADD, 0, 1, 2) \
        LOAD(0)                       \
        ET_SLIDE_RESULT(ADD, 1, 2, 0) \
        LOAD(1)                       \
        ET_SLIDE_RESULT(ADD, 2, 0, 1) \
    }

/* Two source rows apart: the last row becomes the first. */
#define ET_SLIDE_BY_2(LOAD, ADD)      \
    for (;;) {                        \
        LOAD(1)                       \
        LOAD(2)                       \
        ET_SLIDE_RESULT(ADD, 0, 1, 2) \
        LOAD(1)                       \
        LOAD(0)                       \
        ET_SLIDE_RESULT(ADD, 2, 1, 0) \
    }

#define ET_DEFINE_SLIDE(NAME, TAPS, BY, LOAD, ADD)                              \
    static ET_NOINLINE void NAME(const et_tile *tile, const et_region *region)  \
    {                                                                           \
        const ptrdiff_t row_step = tile->x_tap_h, y_step = region->y_row;       \
        ET_SLIDE_BOUNDS                                                         \
        for (int32_t channel = 0; channel < tile->columns; channel++) {         \
            const float *w = tile->w + tile->w_first + channel;                 \
            TAPS(ET_SLIDE_WEIGHTS, 0)                                           \
            const float bias = tile->bias != NULL ? tile->bias[channel] : 0.0f; \
            const float *x_column = region->x + channel;                        \
            float *y_column = region->y + channel;                              \
            for (int32_t column = region->columns; column != 0; column--) {     \
                TAPS(ET_SLIDE_DECLARE, 0)                                       \
                float *y = y_column;                                            \
                int32_t left = region->rows;                                    \
                BY(LOAD, ADD)                                                   \
                x_column += region->x_column;                                   \
                y_column += region->y_column;                                   \
            }                                                                   \
        }                                                                       \
    }

ET_DEFINE_SLIDE(slide_3x3, ET_PIXELS_3, ET_SLIDE_BY_1, ET_SLIDE_LOAD_3, ET_SLIDE_ADD_3)
ET_DEFINE_SLIDE(slide_3x2, ET_PIXELS_2, ET_SLIDE_BY_1, ET_SLIDE_LOAD_2, ET_SLIDE_ADD_2)
ET_DEFINE_SLIDE(stride_3x3, ET_PIXELS_3, ET_SLIDE_BY_2, ET_SLIDE_LOAD_3, ET_SLIDE_ADD_3)
ET_DEFINE_SLIDE(stride_3x2, ET_PIXELS_2, ET_SLIDE_BY_2, ET_SLIDE_LOAD_2, ET_SLIDE_ADD_2)

#if ET_FORM_DEPTHWISE
#include "et_depthwise_walk.inc"

/* Where there are few taps and a few pixels they are walked over; what is left are the last few channels. */
static void filter_pixels_of(const et_tile *tile, const et_region *region)
{
    const bool walks = tile->taps_h * tile->taps_w <= 2 * ET_WALK_TAPS && region->rows * region->columns >= 4;
    const int32_t done = walks ? walk_region(tile, region) : 0;
    if (done == tile->columns)
        return;
    et_tile rest_tile = *tile;
    et_region rest = *region;
    rest_tile.columns -= done;
    rest_tile.w += done;
    if (tile->bias != NULL)
        rest_tile.bias += done;
    rest.x += done;
    rest.y += done;
    et_tile_region(&rest_tile, &rest, filter_tile);
}
#else
static void filter_pixels_of(const et_tile *tile, const et_region *region)
{
    et_tile_region(tile, region, filter_tile);
}
#endif

static void filter_region(const et_tile *tile, const et_region *region)
{
    const ptrdiff_t tap = tile->x_tap_h, step = region->x_row;
    const bool columns_fit = tile->taps_w == 3 || tile->taps_w == 2, three = tile->taps_w == 3;
    if (tile->taps_h == 3 && columns_fit && step == tap)
        (three ? slide_3x3 : slide_3x2)(tile, region);
    else if (tile->taps_h == 3 && columns_fit && step == 2 * tap)
        (three ? stride_3x3 : stride_3x2)(tile, region);
    else if (tile->taps_h == 3 && columns_fit && step == -tap) {
        et_region upwards = *region;
        upwards.x += (region->rows - 1) * region->x_row;
        upwards.y += (region->rows - 1) * region->y_row;
        upwards.y_row = -region->y_row;
        (three ? slide_3x3 : slide_3x2)(tile, &upwards);
    } else
        filter_pixels_of(tile, region);
}

#endif

#else

#if ET_TILE_PIXELS == 12
ET_DEFINE_FILTER(filter_12, ET_PIXELS_12, ET_COLUMNS_1, ET_PANEL)
#endif
ET_DEFINE_FILTER(filter_6, ET_PIXELS_6, ET_COLUMNS_1, ET_PANEL)
ET_DEFINE_FILTER(filter_4, ET_PIXELS_4, ET_COLUMNS_1, ET_PANEL)
ET_DEFINE_FILTER(filter_2, ET_PIXELS_2, ET_COLUMNS_1, ET_PANEL)
ET_DEFINE_FILTER(filter_1, ET_PIXELS_1, ET_COLUMNS_1, ET_PANEL)

static void filter_tile(const et_tile *tile, int32_t pixels, const float *const *x, float *const *y)
{
    typedef void filter_function(const et_tile *, const float *const *, float *const *, ptrdiff_t, ptrdiff_t, et_mask);
    filter_function *filter = pixels == 6 ? filter_6 : pixels == 4 ? filter_4 : pixels == 2 ? filter_2 : filter_1;
#if ET_TILE_PIXELS == 12
    if (pixels == 12)
        filter = filter_12;
#endif
    const int32_t rest = tile->columns & (ET_PANEL - 1), full = tile->columns - rest;
    if (full != 0)
        filter(tile, x, y, 0, full, et_mask_first(ET_PANEL));
    if (rest != 0)
        filter(tile, x, y, full, full + ET_PANEL, et_mask_first(rest));
}

#endif

#if ET_LANES > 1 || ET_SMALL_TILES

static void filter_region(const et_tile *tile, const et_region *region)
{
    et_tile_region(tile, region, filter_tile);
}

#endif

/* One direction: forward from x to y, or from dy to dx. */
typedef struct {
    int32_t row_count;
    int32_t column_count;
    const et_segment *rows;
    const et_segment *columns;
    ptrdiff_t source_row; /* elements */
    ptrdiff_t source_image;
    ptrdiff_t result_row;
    ptrdiff_t result_image;
} direction;

/* How results end. */
typedef struct {
    et_end forward;
#if ET_FORM_GATE
    et_gate backward;
#endif
} ends;

static et_status run(const et_conv_shape *shape, const direction *way, ends end, const float *source, const float *w,
                     const float *bias, float *result)
{
    (void)end;
    if (way->rows == NULL || way->columns == NULL)
        return ET_BAD_ARGUMENT;
    const ptrdiff_t channels = shape->channels;
    for (int32_t image = 0; image < shape->batch; image++) {
        const et_segment *const last = et_share_holds(image, shape->batch) ? way->rows + way->row_count : way->rows;
        for (const et_segment *row = way->rows; row != last; row++)
            for (const et_segment *column = way->columns; column != way->columns + way->column_count; column++) {
                const et_region region = {
                    .rows = row->count,
                    .columns = column->count,
                    .x = source + row->source * way->source_row + column->source * channels,
                    .y = result + row->first * way->result_row + column->first * channels,
                    .x_row = row->source_step * way->source_row,
                    .x_column = column->source_step * channels,
                    .y_row = row->step * way->result_row,
                    .y_column = column->step * channels,
                };
                const et_tile tile = {
                    .taps_h = row->taps,
                    .taps_w = column->taps,
                    .columns = shape->channels,
                    .x_tap_h = row->source_tap_step * way->source_row,
                    .x_tap_w = column->source_tap_step * channels,
                    .w_tap_h = row->tap_step * shape->kernel_w * channels,
                    .w_tap_w = column->tap_step * channels,
                    .w_first = (row->tap * shape->kernel_w + column->tap) * channels,
                    .w = w,
                    .bias = bias,
#if ET_HAS_ENDS
                    .end = end.forward,
#endif
#if ET_FORM_GATE
                    .gate = end.backward,
#endif
                };
                if (tile.taps_h == 0 || tile.taps_w == 0)
                    et_fill_region(&tile, &region);
                else
                    filter_region(&tile, &region);
            }
        source += way->source_image;
        result += way->result_image;
    }
    return ET_OK;
}

static et_status run_forward(const et_conv_shape *shape, et_end end, const float *x, const float *w, const float *bias,
                             float *y)
{
    const ptrdiff_t x_row = (ptrdiff_t)shape->width * shape->channels;
    const ptrdiff_t y_row = (ptrdiff_t)shape->out_width * shape->channels;
    const direction forward = {
        .row_count = shape->row_count,
        .column_count = shape->column_count,
        .rows = shape->rows,
        .columns = shape->columns,
        .source_row = x_row,
        .source_image = x_row * shape->height,
        .result_row = y_row,
        .result_image = y_row * shape->out_height,
    };
    const ends all = {.forward = end};
    return run(shape, &forward, all, x, w, bias, y);
}

et_status et_depthwise_f32(const et_conv_shape *shape, const float *x, const float *w, const float *bias, float *y)
{
    return run_forward(shape, et_end_linear(), x, w, bias, y);
}

#if ET_FORM_RECTIFY
et_status et_depthwise_relu_f32(const et_conv_shape *shape, float ceiling, const float *x, const float *w,
                                const float *bias, float *y)
{
    return run_forward(shape, et_end_relu(ceiling), x, w, bias, y);
}
#endif

static et_status run_backward(const et_conv_shape *shape, ends all, const float *dy, const float *w, float *dx)
{
    const ptrdiff_t dx_row = (ptrdiff_t)shape->width * shape->channels;
    const ptrdiff_t dy_row = (ptrdiff_t)shape->out_width * shape->channels;
    const direction backward = {
        .row_count = shape->grad_row_count,
        .column_count = shape->grad_column_count,
        .rows = shape->grad_rows,
        .columns = shape->grad_columns,
        .source_row = dy_row,
        .source_image = dy_row * shape->out_height,
        .result_row = dx_row,
        .result_image = dx_row * shape->height,
    };
    return run(shape, &backward, all, dy, w, NULL, dx);
}

et_status et_depthwise_grad_input_f32(const et_conv_shape *shape, const float *dy, const float *w, float *dx)
{
    const ends all = {.forward = et_end_linear()};
    return run_backward(shape, all, dy, w, dx);
}

#if ET_FORM_GATE
et_status et_depthwise_grad_input_gated_f32(const et_conv_shape *shape, float least, float most, const float *dy,
                                            const float *w, const float *y, float *dx)
{
    if (!et_gate_has_bounds(least, most))
        return ET_BAD_ARGUMENT;
    const et_gate gate = et_gate_of(least, most, y, dx);
#if ET_LANES > 1
    const ends all = {et_end_linear(), gate};
    return run_backward(shape, all, dy, w, dx);
#else
    const et_status status = et_depthwise_grad_input_f32(shape, dy, w, dx);
    if (status == ET_OK)
        et_gate_close_images(gate, shape->batch, (size_t)shape->height * (size_t)shape->width * (size_t)shape->channels, dx);
    return status;
#endif
}
#endif
