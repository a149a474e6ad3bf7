#include "et_depthwise.h"

#include "et_tile.h"

/* Tiles are a few pixels by a few channels: 4 floats, or 16 lanes where there are vectors. A weight serves all pixels. */
#if ET_LANES == 1
#define ET_DECLARE_COLUMN(m, j) float c##m##_##j = 0.0f;
#define ET_START_COLUMN(m, j) c##m##_##j = bias[j];
#define ET_WEIGHT(m, j) const float b##j = w[j];
#define ET_ADD_COLUMN(m, j) c##m##_##j = et_madd(x##m[j], b##j, c##m##_##j);
#define ET_FINISH_COLUMN(m, j) y[m][channel + j] = c##m##_##j;
#define ET_TILE_BARRIER() ET_BARRIER();
#define ET_LAST_ARGUMENT
#else
#define ET_DECLARE_COLUMN(m, j) et_lanes c##m##_##j = et_lanes_set(0.0f);
#define ET_START_COLUMN(m, j) c##m##_##j = et_lanes_load(bias, mask);
#define ET_WEIGHT(m, j) const et_lanes b##j = et_lanes_load(w, mask);
#define ET_ADD_COLUMN(m, j) c##m##_##j = et_lanes_madd(et_lanes_load(x##m, mask), b##j, c##m##_##j);
#define ET_FINISH_COLUMN(m, j) et_lanes_store(y[m] + channel, mask, c##m##_##j);
#define ET_TILE_BARRIER()
#define ET_LAST_ARGUMENT , et_mask mask
#endif

#define ET_DECLARE(m, COLUMNS)          \
    const float *x##m = x[m] + channel; \
    COLUMNS(ET_DECLARE_COLUMN, m)
#define ET_START(m, COLUMNS) COLUMNS(ET_START_COLUMN, m)
#define ET_ADD(m, COLUMNS)    \
    COLUMNS(ET_ADD_COLUMN, m) \
    ET_TILE_BARRIER()
#define ET_NEXT_X(m, COLUMNS) x##m += step;
#define ET_FINISH(m, COLUMNS) COLUMNS(ET_FINISH_COLUMN, m)

#define ET_DEFINE_FILTER(NAME, PIXELS, COLUMNS)                                                                      \
    static ET_NOINLINE void NAME(const et_tile *tile, const float *const *x, float *const *y,                       \
                                 ptrdiff_t channel ET_LAST_ARGUMENT)                                                 \
    {                                                                                                                \
        PIXELS(ET_DECLARE, COLUMNS)                                                                                  \
        if (tile->bias != NULL) {                                                                                    \
            const float *bias = tile->bias + channel;                                                                \
            PIXELS(ET_START, COLUMNS)                                                                                \
        }                                                                                                            \
        const float *w = tile->w + tile->w_first + channel;                                                          \
        const ptrdiff_t x_tap_w = tile->x_tap_w, w_tap_w = tile->w_tap_w;                                            \
        const ptrdiff_t x_tap_h = tile->x_tap_h - x_tap_w * tile->taps_w;                                            \
        const ptrdiff_t w_tap_h = tile->w_tap_h - w_tap_w * tile->taps_w;                                            \
        for (int32_t taps_h = tile->taps_h; taps_h != 0; taps_h--) {                                                 \
            for (int32_t taps_w = tile->taps_w; taps_w != 0; taps_w--) {                                             \
                COLUMNS(ET_WEIGHT, 0)                                                                                \
                PIXELS(ET_ADD, COLUMNS)                                                                              \
                const ptrdiff_t step = x_tap_w;                                                                      \
                PIXELS(ET_NEXT_X, COLUMNS)                                                                           \
                w += w_tap_w;                                                                                        \
            }                                                                                                        \
            const ptrdiff_t step = x_tap_h;                                                                          \
            PIXELS(ET_NEXT_X, COLUMNS)                                                                               \
            w += w_tap_h;                                                                                            \
        }                                                                                                            \
        PIXELS(ET_FINISH, COLUMNS)                                                                                   \
    }

#if ET_LANES == 1

ET_DEFINE_FILTER(filter_6x4, ET_PIXELS_6, ET_COLUMNS_4)
ET_DEFINE_FILTER(filter_6x1, ET_PIXELS_6, ET_COLUMNS_1)
ET_DEFINE_FILTER(filter_2x4, ET_PIXELS_2, ET_COLUMNS_4)
ET_DEFINE_FILTER(filter_2x1, ET_PIXELS_2, ET_COLUMNS_1)
ET_DEFINE_FILTER(filter_1x4, ET_PIXELS_1, ET_COLUMNS_4)
ET_DEFINE_FILTER(filter_1x1, ET_PIXELS_1, ET_COLUMNS_1)

static void filter_tile(const et_tile *tile, int32_t pixels, const float *const *x, float *const *y)
{
    typedef void filter_function(const et_tile *, const float *const *, float *const *, ptrdiff_t);
    if (pixels == 4) {
        filter_tile(tile, 2, x, y);
        filter_tile(tile, 2, x + 2, y + 2);
        return;
    }
    filter_function *const four = pixels == 6 ? filter_6x4 : pixels == 2 ? filter_2x4 : filter_1x4;
    filter_function *const one = pixels == 6 ? filter_6x1 : pixels == 2 ? filter_2x1 : filter_1x1;
    ptrdiff_t channel = 0;
    for (; tile->columns - channel >= 4; channel += 4)
        four(tile, x, y, channel);
    for (; channel < tile->columns; channel++)
        one(tile, x, y, channel);
}

#else

#if ET_TILE_PIXELS == 12
ET_DEFINE_FILTER(filter_12, ET_PIXELS_12, ET_COLUMNS_1)
#endif
ET_DEFINE_FILTER(filter_6, ET_PIXELS_6, ET_COLUMNS_1)
ET_DEFINE_FILTER(filter_4, ET_PIXELS_4, ET_COLUMNS_1)
ET_DEFINE_FILTER(filter_2, ET_PIXELS_2, ET_COLUMNS_1)
ET_DEFINE_FILTER(filter_1, ET_PIXELS_1, ET_COLUMNS_1)

static void filter_tile(const et_tile *tile, int32_t pixels, const float *const *x, float *const *y)
{
    typedef void filter_function(const et_tile *, const float *const *, float *const *, ptrdiff_t, et_mask);
    filter_function *filter = pixels == 6 ? filter_6 : pixels == 4 ? filter_4 : pixels == 2 ? filter_2 : filter_1;
#if ET_TILE_PIXELS == 12
    if (pixels == 12)
        filter = filter_12;
#endif
    for (int32_t channel = 0; channel < tile->columns; channel += ET_PANEL) {
        const int32_t left = tile->columns - channel;
        filter(tile, x, y, channel, et_mask_first(left < ET_PANEL ? left : ET_PANEL));
    }
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

static et_status run(const et_conv_shape *shape, const direction *way, const float *source, const float *w,
                     const float *bias, float *result)
{
    if (way->rows == NULL || way->columns == NULL)
        return ET_BAD_ARGUMENT;
    const ptrdiff_t channels = shape->channels;
    for (int32_t image = 0; image < shape->batch; image++) {
        for (const et_segment *row = way->rows; row != way->rows + way->row_count; row++)
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
                };
                if (tile.taps_h == 0 || tile.taps_w == 0)
                    et_fill_region(&region, shape->channels, bias);
                else
                    et_tile_region(&tile, &region, filter_tile);
            }
        source += way->source_image;
        result += way->result_image;
    }
    return ET_OK;
}

et_status et_depthwise_f32(const et_conv_shape *shape, const float *x, const float *w, const float *bias, float *y)
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
    return run(shape, &forward, x, w, bias, y);
}

et_status et_depthwise_grad_input_f32(const et_conv_shape *shape, const float *dy, const float *w, float *dx)
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
    return run(shape, &backward, dy, w, NULL, dx);
}
