#include "et_conv_grad_input.h"

#include "et_share.h"
#include "et_tile.h"

/* The kernel taps of a reduction: taps_h x taps_w of them from (tap_h, tap_w) on, the whole kernel or a single one. */
typedef struct {
    int32_t tap_h;
    int32_t tap_w;
    int32_t taps_h;
    int32_t taps_w;
    int32_t w_row; /* rows of a panel of weights per kernel tap */
} kernel_part;

/* The taps of a segment that lie in [from, from + count): how many, and the number of the first in `skipped`. */
static int32_t taps_within(const et_segment *segment, int32_t from, int32_t count, int32_t *skipped)
{
    int32_t taps = 0;
    *skipped = 0;
    for (int32_t t = 0, tap = segment->tap; t < segment->taps; t++, tap += segment->tap_step) {
        if (tap < from)
            ++*skipped;
        else if (tap < from + count)
            taps++;
    }
    return taps;
}

#if ET_FORM_STILL && ET_LANES == 1 && !ET_SMALL_TILES
#include "et_conv_grad_input_still.inc"
#endif

/* Every region of dx of one image: tile->w, panel_rows, columns and run belong to the group and the part. */
static void grad_image(const et_conv_shape *shape, et_tile *tile, const kernel_part *part, const float *dy, float *dx,
                       et_tile_function *function)
{
    const ptrdiff_t channels = shape->channels, out_channels = shape->out_channels;
    const ptrdiff_t dx_row = shape->width * channels, dy_row = shape->out_width * out_channels;
    const et_segment *last_row = shape->grad_rows + shape->grad_row_count;
    const et_segment *last_column = shape->grad_columns + shape->grad_column_count;
    for (const et_segment *row = shape->grad_rows; row != last_row; row++)
        for (const et_segment *column = shape->grad_columns; column != last_column; column++) {
            int32_t skip_h, skip_w;
            tile->taps_h = taps_within(row, part->tap_h, part->taps_h, &skip_h);
            tile->taps_w = taps_within(column, part->tap_w, part->taps_w, &skip_w);
            tile->x_tap_h = row->source_tap_step * dy_row;
            tile->x_tap_w = column->source_tap_step * out_channels;
            tile->w_tap_h = row->tap_step * part->taps_w * part->w_row;
            tile->w_tap_w = column->tap_step * part->w_row;
            const ptrdiff_t first_h = row->tap + skip_h * row->tap_step - part->tap_h;
            const ptrdiff_t first_w = column->tap + skip_w * column->tap_step - part->tap_w;
            tile->w_first = (first_h * part->taps_w + first_w) * part->w_row;
            const et_region region = {
                .rows = row->count,
                .columns = column->count,
                .x = dy + row->source * dy_row + column->source * out_channels + skip_h * tile->x_tap_h
                     + skip_w * tile->x_tap_w,
                .y = dx + row->first * dx_row + column->first * channels,
                .x_row = row->source_step * dy_row,
                .x_column = column->source_step * out_channels,
                .y_row = row->step * dx_row,
                .y_column = column->step * channels,
            };
#if ET_FORM_STILL && ET_LANES == 1 && !ET_SMALL_TILES
            if (tile->taps_h != 0 && tile->taps_w != 0 && is_still(tile)) {
                still_region(tile, &region);
                continue;
            }
#endif
            if (tile->taps_h != 0 && tile->taps_w != 0)
                et_tile_region(tile, &region, function);
            else if (!tile->resume)
                et_fill_region(tile, &region);
        }
}

#if ET_LANES == 1

/* Scalar tiles read the weights as they are packed for the forward pass: a tile of pixels x input channels walks along
 * rows of a panel, one row per input channel. tile->run output channels; tile->columns input channels. */
#define ET_DECLARE_COLUMN(m, j) float c##m##_##j = 0.0f;
#define ET_DECLARE(m, COLUMNS)        \
    const float *x##m = ET_X_SLICE(m); \
    COLUMNS(ET_DECLARE_COLUMN, m)
#define ET_NEXT_X(m, COLUMNS) x##m += step;
#define ET_WEIGHT_FULL(m, j) const float b##j = w[j * ET_PANEL + k];
#define ET_WEIGHT_NARROW(m, j) const float b##j = w[j * pitch + k];
#define ET_ADD_COLUMN(m, j) c##m##_##j = et_madd(a, b##j, c##m##_##j);
#define ET_ADD(m, COLUMNS)        \
    {                             \
        const float a = x##m[k];  \
        COLUMNS(ET_ADD_COLUMN, m) \
        ET_BARRIER();             \
    }
#define ET_STEP(K, WEIGHT, PIXELS, COLUMNS) \
    {                                       \
        enum { k = K };                     \
        COLUMNS(WEIGHT, 0)                  \
        PIXELS(ET_ADD, COLUMNS)             \
    }
#define ET_FINISH_COLUMN(m, j) y[m][column + j] = c##m##_##j;
#define ET_FINISH(m, COLUMNS) COLUMNS(ET_FINISH_COLUMN, m)

#if ET_SMALL_TILES
#define ET_STEPS_FULL(PIXELS, COLUMNS) \
    enum { step = 1 };                 \
    ET_STEP(0, ET_WEIGHT_FULL, PIXELS, COLUMNS)
#else
#define ET_STEPS_FULL(PIXELS, COLUMNS)          \
    enum { step = 4 };                          \
    ET_STEP(0, ET_WEIGHT_FULL, PIXELS, COLUMNS) \
    ET_STEP(1, ET_WEIGHT_FULL, PIXELS, COLUMNS) \
    ET_STEP(2, ET_WEIGHT_FULL, PIXELS, COLUMNS) \
    ET_STEP(3, ET_WEIGHT_FULL, PIXELS, COLUMNS)
#endif

/* The output channels of a narrow panel, by ones, or by fours and what is left; they leave x where the last `left` of them
 * begin, of which there are as many as _LEFT says. */
#define ET_STEPS_BY_1_LEFT(pitch) 0
#define ET_STEPS_BY_1(PIXELS, COLUMNS)                  \
    for (const float *end = x0 + pitch; x0 != end;) {   \
        enum { step = 1 };                              \
        ET_STEP(0, ET_WEIGHT_NARROW, PIXELS, COLUMNS)   \
        w += step;                                      \
        PIXELS(ET_NEXT_X, COLUMNS)                      \
    }
#if ET_FORM_NARROW_GRADIENT && !ET_SMALL_TILES
#define ET_STEPS_BY_4_LEFT(pitch) ((pitch) & 3)
#define ET_STEPS_BY_4(PIXELS, COLUMNS)                         \
    for (const float *end = x0 + (pitch - left); x0 != end;) { \
        enum { step = 4 };                                     \
        ET_STEP(0, ET_WEIGHT_NARROW, PIXELS, COLUMNS)          \
        ET_STEP(1, ET_WEIGHT_NARROW, PIXELS, COLUMNS)          \
        ET_STEP(2, ET_WEIGHT_NARROW, PIXELS, COLUMNS)          \
        ET_STEP(3, ET_WEIGHT_NARROW, PIXELS, COLUMNS)          \
        w += step;                                             \
        PIXELS(ET_NEXT_X, COLUMNS)                             \
    }                                                          \
    if (left != 0) {                                           \
        ET_STEP(0, ET_WEIGHT_NARROW, PIXELS, COLUMNS)          \
        if (left != 1) {                                       \
            ET_STEP(1, ET_WEIGHT_NARROW, PIXELS, COLUMNS)      \
            if (left != 2)                                     \
                ET_STEP(2, ET_WEIGHT_NARROW, PIXELS, COLUMNS)  \
        }                                                      \
    }
#else
#define ET_STEPS_BY_4_LEFT ET_STEPS_BY_1_LEFT
#define ET_STEPS_BY_4 ET_STEPS_BY_1
#endif
#if ET_FORM_GROUPED && !ET_SMALL_TILES /* whose panels are all narrow */
#define ET_STEPS_OF_FEW ET_STEPS_BY_4
#define ET_STEPS_OF_FEW_LEFT ET_STEPS_BY_4_LEFT
#else
#define ET_STEPS_OF_FEW ET_STEPS_BY_1
#define ET_STEPS_OF_FEW_LEFT ET_STEPS_BY_1_LEFT
#endif

/* Slices of a tile lie side by side, or in one group after the other. */
#if ET_FORM_GROUPED && !ET_SMALL_TILES
#define ET_BETWEEN_SLICES(WIDTH)                                                                         \
    const bool grouped = tile->groups > 1;                                                               \
    const ptrdiff_t column_step = grouped ? tile->columns : WIDTH, row_step = grouped ? 0 : WIDTH;       \
    const ptrdiff_t x_step = grouped ? tile->x_group : 0, w_step = grouped ? tile->w_group : 0;          \
    ptrdiff_t first_row = tile->w_first + column, x_at = 0;
#define ET_NEXT_SLICE(WIDTH) \
    column += column_step, first_row += row_step, x_at += x_step, w_narrow += w_step
#define ET_X_SLICE(m) x[m] + x_at
#define ET_FIRST_ROW first_row
#else
#define ET_BETWEEN_SLICES(WIDTH)
#define ET_NEXT_SLICE(WIDTH) column += WIDTH
#define ET_X_SLICE(m) x[m]
#define ET_FIRST_ROW tile->w_first + column
#endif

/* `slices` times PIXELS x WIDTH sums, WIDTH being the number of COLUMNS, STEPS one of the above. */
#define ET_DEFINE_GRAD(NAME, PIXELS, COLUMNS, WIDTH, STEPS)                                                     \
    static ET_NOINLINE void NAME(const et_tile *tile, const float *const *x, float *const *y, ptrdiff_t column, \
                                 int32_t slices)                                                                \
    {                                                                                                           \
        const ptrdiff_t pitch = tile->run & (ET_PANEL - 1), full = tile->run - pitch;                           \
        const ptrdiff_t panel_step = (tile->panel_rows - 1) * ET_PANEL;                                         \
        const ptrdiff_t left = STEPS##_LEFT(pitch), x_tap_w = tile->x_tap_w - tile->run + left;                 \
        const ptrdiff_t x_tap_h = tile->x_tap_h - tile->x_tap_w * tile->taps_w;                                 \
        const ptrdiff_t w_tap_h = tile->w_tap_h - tile->w_tap_w * tile->taps_w;                                 \
        const float *w_narrow = tile->w + tile->panel_rows * full;                                              \
        ET_BETWEEN_SLICES(WIDTH)                                                                                \
        for (; slices != 0; slices--, ET_NEXT_SLICE(WIDTH)) {                                                   \
            PIXELS(ET_DECLARE, COLUMNS)                                                                         \
            ptrdiff_t w_row = ET_FIRST_ROW;                                                                     \
            int32_t taps_h = tile->taps_h;                                                                      \
            for (;;) {                                                                                          \
                int32_t taps_w = tile->taps_w;                                                                  \
                do {                                                                                            \
                    const float *w = tile->w + w_row * ET_PANEL;                                                \
                    for (const float *last = x0 + full; x0 != last; w += panel_step) {                          \
                        const float *end = x0 + ET_PANEL;                                                       \
                        do {                                                                                    \
                            ET_STEPS_FULL(PIXELS, COLUMNS)                                                      \
                            w += step;                                                                          \
                            PIXELS(ET_NEXT_X, COLUMNS)                                                          \
                        } while (x0 != end);                                                                    \
                    }                                                                                           \
                    w = w_narrow + w_row * pitch;                                                               \
                    STEPS(PIXELS, COLUMNS)                                                                      \
                    const ptrdiff_t step = x_tap_w;                                                             \
                    PIXELS(ET_NEXT_X, COLUMNS)                                                                  \
                    w_row += tile->w_tap_w;                                                                     \
                } while (--taps_w != 0);                                                                        \
                if (--taps_h == 0)                                                                              \
                    break;                                                                                      \
                const ptrdiff_t step = x_tap_h;                                                                 \
                PIXELS(ET_NEXT_X, COLUMNS)                                                                      \
                w_row += w_tap_h;                                                                               \
            }                                                                                                   \
            PIXELS(ET_FINISH, COLUMNS)                                                                          \
        }                                                                                                       \
    }

#if !ET_SMALL_TILES
ET_DEFINE_GRAD(grad_6x4, ET_PIXELS_6, ET_COLUMNS_4, 4, ET_STEPS_BY_4)
ET_DEFINE_GRAD(grad_6x1, ET_PIXELS_6, ET_COLUMNS_1, 1, ET_STEPS_BY_4)
ET_DEFINE_GRAD(grad_2x4, ET_PIXELS_2, ET_COLUMNS_4, 4, ET_STEPS_OF_FEW)
ET_DEFINE_GRAD(grad_1x4, ET_PIXELS_1, ET_COLUMNS_4, 4, ET_STEPS_OF_FEW)
#if !ET_SMALL_CODE
ET_DEFINE_GRAD(grad_4x4, ET_PIXELS_4, ET_COLUMNS_4, 4, ET_STEPS_OF_FEW)
ET_DEFINE_GRAD(grad_4x1, ET_PIXELS_4, ET_COLUMNS_1, 1, ET_STEPS_OF_FEW)
#endif
#if ET_FORM_NARROW_GRADIENT
ET_DEFINE_GRAD(grad_6x3, ET_PIXELS_6, ET_COLUMNS_3, 3, ET_STEPS_BY_4)
ET_DEFINE_GRAD(grad_6x2, ET_PIXELS_6, ET_COLUMNS_2, 2, ET_STEPS_BY_4)
#endif
#endif
ET_DEFINE_GRAD(grad_2x1, ET_PIXELS_2, ET_COLUMNS_1, 1, ET_STEPS_OF_FEW)
ET_DEFINE_GRAD(grad_1x1, ET_PIXELS_1, ET_COLUMNS_1, 1, ET_STEPS_OF_FEW)

static void grad_tile(const et_tile *tile, int32_t pixels, const float *const *x, float *const *y)
{
#if ET_SMALL_TILES
    (pixels == 2 ? grad_2x1 : grad_1x1)(tile, x, y, 0, tile->columns);
#else
    typedef void grad_function(const et_tile *, const float *const *, float *const *, ptrdiff_t, int32_t);
#if ET_SMALL_CODE
    grad_function *const four = pixels == 6 ? grad_6x4 : pixels == 2 ? grad_2x4 : grad_1x4;
    grad_function *const one = pixels == 6 ? grad_6x1 : pixels == 2 ? grad_2x1 : grad_1x1;
#else
    grad_function *const four = pixels == 6 ? grad_6x4 : pixels == 4 ? grad_4x4 : pixels == 2 ? grad_2x4 : grad_1x4;
    grad_function *const one = pixels == 6 ? grad_6x1 : pixels == 4 ? grad_4x1 : pixels == 2 ? grad_2x1 : grad_1x1;
#endif
    const int32_t rest = tile->columns & 3;
#if ET_FORM_NARROW_GRADIENT
    grad_function *const most = pixels != 6 || rest < 2 ? one : rest == 3 ? grad_6x3 : grad_6x2;
    const int32_t width = most == one ? 1 : rest;
#else
    grad_function *const most = one;
    const int32_t width = 1;
#endif
#if ET_FORM_GROUPED
    if (tile->groups > 1) {
        for (int32_t column = 0; column < tile->columns - rest; column += 4)
            four(tile, x, y, column, tile->groups);
        for (int32_t column = tile->columns - rest; column < tile->columns; column += width)
            most(tile, x, y, column, tile->groups);
        return;
    }
#endif
    if (tile->columns != rest)
        four(tile, x, y, 0, tile->columns / 4);
    if (rest != 0)
        most(tile, x, y, tile->columns - rest, rest / width);
#endif
}

#elif ET_LANES == 4

/* Vector tiles that read the weights as they are packed for the forward pass: a lane is an input channel, whose weights
 * lie one row of a panel after those of the one before. tile->run output channels; tile->columns input channels. */
#define ET_VECTOR et_lanes
#define ET_DECLARE(m, COLUMNS) \
    const float *x##m = x[m];  \
    et_lanes c##m##_0 = et_lanes_set(0.0f, mask);
#define ET_ADD(m, COLUMNS) c##m##_0 = et_lanes_scale(et_factor_of(x##m[k], mask), b, c##m##_0, mask);
#define ET_NEXT_X(m, COLUMNS) x##m += step;
#define ET_FINISH(m, COLUMNS) et_lanes_store(y[m] + column, mask, c##m##_0);

/* The sums of some pixels for one panel of input channels, from `column` on. */
#define ET_DEFINE_GRAD(NAME, PIXELS)                                                                            \
    static ET_NOINLINE void NAME(const et_tile *tile, const float *const *x, float *const *y, ptrdiff_t column, \
                                 et_mask mask)                                                                  \
    {                                                                                                           \
        const ptrdiff_t x_tap_w = tile->x_tap_w - tile->run;                                                    \
        const ptrdiff_t x_tap_h = tile->x_tap_h - tile->x_tap_w * tile->taps_w;                                 \
        const ptrdiff_t w_tap_h = tile->w_tap_h - tile->w_tap_w * tile->taps_w;                                 \
        ptrdiff_t w_row = tile->w_first + column;                                                               \
        PIXELS(ET_DECLARE, 0)                                                                                   \
        for (int32_t taps_h = tile->taps_h; taps_h != 0; taps_h--) {                                            \
            for (int32_t taps_w = tile->taps_w; taps_w != 0; taps_w--) {                                        \
                const float *panel = tile->w;                                                                   \
                for (ptrdiff_t left = tile->run; left > 0; left -= ET_PANEL) {                                  \
                    const ptrdiff_t step = left < ET_PANEL ? left : ET_PANEL;                                   \
                    const float *w = panel + w_row * step;                                                      \
                    ET_UNROLL_STEPS                                                                             \
                    for (ptrdiff_t k = 0; k < step; k++) {                                                      \
                        const et_lanes b = et_lanes_gather(w + k, step, mask);                                  \
                        PIXELS(ET_ADD, 0)                                                                       \
                    }                                                                                           \
                    PIXELS(ET_NEXT_X, 0)                                                                        \
                    panel += tile->panel_rows * ET_PANEL;                                                       \
                }                                                                                               \
                const ptrdiff_t step = x_tap_w;                                                                 \
                PIXELS(ET_NEXT_X, 0)                                                                            \
                w_row += tile->w_tap_w;                                                                         \
            }                                                                                                   \
            const ptrdiff_t step = x_tap_h;                                                                     \
            PIXELS(ET_NEXT_X, 0)                                                                                \
            w_row += w_tap_h;                                                                                   \
        }                                                                                                       \
        ET_GATE(PIXELS, ET_COLUMNS_1, column)                                                                   \
        PIXELS(ET_FINISH, 0)                                                                                    \
    }

ET_DEFINE_GRAD(grad_6, ET_PIXELS_6)
ET_DEFINE_GRAD(grad_4, ET_PIXELS_4)
ET_DEFINE_GRAD(grad_2, ET_PIXELS_2)
ET_DEFINE_GRAD(grad_1, ET_PIXELS_1)

static void grad_tile(const et_tile *tile, int32_t pixels, const float *const *x, float *const *y)
{
    typedef void grad_function(const et_tile *, const float *const *, float *const *, ptrdiff_t, et_mask);
    grad_function *const grad = pixels == 6 ? grad_6 : pixels == 4 ? grad_4 : pixels == 2 ? grad_2 : grad_1;
    for (int32_t column = 0; column < tile->columns; column += ET_PANEL) {
        const int32_t left = tile->columns - column;
        grad(tile, x, y, column, et_mask_first(left < ET_PANEL ? left : ET_PANEL));
    }
}

#endif

#if ET_LANES == 1 || ET_LANES == 4

static void grad_group(const et_conv_shape *shape, et_gate gate, const float *dy, const float *w, float *dx)
{
    const int32_t group_channels = shape->channels / shape->groups;
    const kernel_part all = {0, 0, shape->kernel_h, shape->kernel_w, group_channels};
    const ptrdiff_t dx_image = (ptrdiff_t)shape->height * shape->width * shape->channels;
    const ptrdiff_t dy_image = (ptrdiff_t)shape->out_height * shape->out_width * shape->out_channels;
    et_tile tile = {
#if ET_FORM_GROUPED
        .groups = et_groups_together(shape, shape->out_channels / shape->groups),
        .x_group = shape->out_channels / shape->groups,
        .w_group = (ptrdiff_t)shape->kernel_h * shape->kernel_w * group_channels * (shape->out_channels / shape->groups),
#endif
        .columns = group_channels,
        .run = shape->out_channels / shape->groups,
        .panel_rows = (ptrdiff_t)shape->kernel_h * shape->kernel_w * group_channels,
        .w = w,
#if ET_FORM_GATE
        .gate = gate,
#endif
    };
    (void)gate;
    for (ptrdiff_t image = 0; image < shape->batch; image++)
        if (et_share_holds(image, shape->batch))
            grad_image(shape, &tile, &all, dy + image * dy_image, dx + image * dx_image, grad_tile);
}

#else

/* Hosts want input channels side by side: the weights are transposed, as much at a time as this holds, into panels
 * [kernel_h][kernel_w][output channels][16 input channels], and dx collects the parts in the order of the reduction. */
#define ET_TURNED_ROWS 1024

/* Rows of panel `turned`: for `outputs` output channels of one tap, from `first` on, `width` input channels. */
static void turn_tap(const float *w, ptrdiff_t panel_rows, ptrdiff_t row, int32_t group_outputs, int32_t first,
                     int32_t outputs, int32_t width, float *restrict turned)
{
    for (int32_t done = 0; done < outputs;) {
        const int32_t panel_first = (first + done) & ~(ET_PANEL - 1), lane = (first + done) - panel_first;
        const int32_t left = group_outputs - panel_first, pitch = left < ET_PANEL ? left : ET_PANEL;
        const int32_t lanes = outputs - done < pitch - lane ? outputs - done : pitch - lane;
        et_turn_f32(w + panel_first * panel_rows + row * pitch + lane, pitch, width, lanes, turned + done * width, width);
        done += lanes;
    }
}

/* Whether the weights of one group fit at least once. */
static bool is_whole(const et_conv_shape *shape)
{
    return shape->kernel_h * shape->kernel_w * (shape->out_channels / shape->groups) <= ET_TURNED_ROWS;
}

#if ET_HAS_HALF
#include "et_nonzero.h"

#include "et_conv_grad_input_sparse.inc"
#endif

/* One group. The reduction is done whole if it fits, else tap by tap, each in runs of output channels. */
static void grad_group(const et_conv_shape *shape, et_gate gate, const float *dy, const float *w, float *dx)
{
    float turned[ET_TURNED_ROWS * ET_PANEL];
    const int32_t channels = shape->channels / shape->groups, outputs = shape->out_channels / shape->groups;
    const int32_t kernel_h = shape->kernel_h, kernel_w = shape->kernel_w, taps = kernel_h * kernel_w;
    const bool whole = is_whole(shape);
    const int32_t most = whole ? ET_TURNED_ROWS / (taps * outputs) * ET_PANEL : ET_PANEL;
    const ptrdiff_t panel_rows = (ptrdiff_t)taps * channels;
    const ptrdiff_t dx_image = (ptrdiff_t)shape->height * shape->width * shape->channels;
    const ptrdiff_t dy_image = (ptrdiff_t)shape->out_height * shape->out_width * shape->out_channels;
    const et_share images = et_share_of(shape->batch);

    for (int32_t channel = 0; channel < channels; channel += most) {
        const int32_t columns = channels - channel < most ? channels - channel : most;
        for (int32_t tap = 0; tap < (whole ? 1 : taps); tap++)
            for (int32_t first = 0; first < outputs; first += ET_TURNED_ROWS) {
                const int32_t run = outputs - first < ET_TURNED_ROWS ? outputs - first : ET_TURNED_ROWS;
                const kernel_part part = whole ? (kernel_part){0, 0, kernel_h, kernel_w, run}
                                               : (kernel_part){tap / kernel_w, tap % kernel_w, 1, 1, run};
                const int32_t part_taps = whole ? taps : 1;
                for (int32_t i = 0; i < columns; i += ET_PANEL) {
                    const int32_t width = columns - i < ET_PANEL ? columns - i : ET_PANEL;
                    for (int32_t t = 0; t < part_taps; t++)
                        turn_tap(w, panel_rows, (ptrdiff_t)(tap + t) * channels + channel + i, outputs, first, run,
                                 width, turned + part_taps * run * i + t * run * width);
                }
                et_tile tile = {
                    .columns = columns,
                    .run = run,
                    .panel_rows = part_taps * run,
                    .w = turned,
                    .resume = tap != 0 || first != 0,
#if ET_FORM_GATE
                    .gate = whole ? gate : et_gate_open(),
#endif
                };
                (void)gate;
                for (ptrdiff_t image = images.first; image < images.end; image++)
                    grad_image(shape, &tile, &part, dy + image * dy_image + first, dx + image * dx_image + channel,
                               et_tile_sum);
            }
    }
}

#endif

static et_status grad_input(const et_conv_shape *shape, et_gate gate, const float *dy, const float *w, float *dx)
{
    if (shape->grad_rows == NULL || shape->grad_columns == NULL)
        return ET_BAD_ARGUMENT;
    const int32_t group_channels = shape->channels / shape->groups, group_outputs = shape->out_channels / shape->groups;
    const ptrdiff_t weights = (ptrdiff_t)shape->kernel_h * shape->kernel_w * group_channels * group_outputs;
    const int32_t together = et_groups_together(shape, group_outputs);
#if ET_HAS_HALF
    if (grad_is_sparse(shape, gate, dy, w, dx))
        return ET_OK;
#endif
    for (ptrdiff_t group = 0; group < shape->groups; group += together)
        grad_group(shape, gate, dy + group * group_outputs, w + group * weights, dx + group * group_channels);
    return ET_OK;
}

et_status et_conv_grad_input_f32(const et_conv_shape *shape, const float *dy, const float *w, float *dx)
{
    return grad_input(shape, et_gate_open(), dy, w, dx);
}

#if ET_FORM_GATE
et_status et_conv_grad_input_gated_f32(const et_conv_shape *shape, float least, float most, const float *dy,
                                       const float *w, const float *y, float *dx)
{
    if (!et_gate_has_bounds(least, most))
        return ET_BAD_ARGUMENT;
    const et_gate gate = et_gate_of(least, most, y, dx);
#if ET_LANES == 1 || ET_LANES == 4
    const bool in_tiles = ET_LANES == 4;
#else
    const bool in_tiles = is_whole(shape);
#endif
    const et_status status = grad_input(shape, in_tiles ? gate : et_gate_open(), dy, w, dx);
    if (status == ET_OK && !in_tiles)
        et_gate_close_images(gate, shape->batch, (size_t)shape->height * (size_t)shape->width * (size_t)shape->channels, dx);
    return status;
}
#endif
