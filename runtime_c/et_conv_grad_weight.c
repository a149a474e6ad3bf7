#include "et_conv_grad_weight.h"

#include "et_reach.h"
#include "et_share.h"
#include "et_sink.h"
#include "et_tile.h"

/* What all tiles of one tap share. */
typedef struct {
    et_reach reach;
    ptrdiff_t panel_step; /* from one panel of results to the next */
    et_sink *sink;
    const float *back; /* of the sink, if the target is the weight and not the gradient */
    bool direct;       /* tiles go straight to the target */
#if ET_THREADS || ET_WALK
    bool chained;         /* threads hand sums on, and each goes over its own images */
    const float *given;   /* sums to go on from, [panels][rows][pitch]; NULL: from 0 */
    ptrdiff_t given_step; /* from one panel of them to the next */
#endif
} tap_sum;

/* Goes on to the next tile unless this one is the thread's: they are dealt out by every 8th row of the panels, of all
 * taps one after the other. No instruction without threads, not even another choice of registers. */
#if ET_THREADS
#define ET_SKIP_UNLESS_OWN(panel_row)         \
    if (!over->chained && !et_share_has((panel_row) / 8)) { \
        row += set->rows;                     \
        continue;                             \
    }
#else
#define ET_SKIP_UNLESS_OWN(panel_row)
#endif

/* Tiles are a few input channels (x[m], broadcast) by a few output channels; the sums stay in registers over all pixels
 * and go to dw once, complete: stored, or, if all are finite, used to update a weight. A sink does the rest. */
#define ET_ADD_COLUMN(m, j) ET_SUM(c##m##_##j, a, b##j)

#if ET_LANES == 1
#define ET_FACTOR float
#define ET_FACTOR_OF(value) (value)
#define ET_DECLARE_COLUMN(m, j) float c##m##_##j = 0.0f;
#define ET_GRADIENT(m, j) const float b##j = dy[j];
#define ET_SUM(c, a, b) c = et_madd(a, b, c);
#define ET_ADD(m, COLUMNS)        \
    {                             \
        const float a = x[m];     \
        COLUMNS(ET_ADD_COLUMN, m) \
        ET_BARRIER();             \
    }
#define ET_STORE_COLUMN(m, j) dw[m * pitch + j] = c##m##_##j;
#define ET_UPDATE_COLUMN(m, j) dw[m * pitch + j] = et_madd(rate, c##m##_##j, dw[m * pitch + j]);
#define ET_LAST_ARGUMENT
#define ET_PIXEL_END ET_OPAQUE(dy);
#else
#define ET_FACTOR ET_V(_factor)
#define ET_FACTOR_OF(value) ET_V(_factor_of)(value, mask)
#define ET_DECLARE_COLUMN(m, j) ET_V() c##m##_##j = ET_V(_set)(0.0f, mask);
#define ET_GRADIENT(m, j) const ET_V() b##j = ET_V(_load)(dy + j * ET_PANEL, mask);
#define ET_SUM(c, a, b) c = ET_V(_scale)(a, b, c, mask);
#define ET_ADD(m, COLUMNS)                     \
    {                                          \
        const ET_FACTOR a = ET_FACTOR_OF(x[m]); \
        COLUMNS(ET_ADD_COLUMN, m)              \
    }
#define ET_DW(m, j) (dw + m * pitch + j * over->panel_step)
#define ET_STORE_COLUMN(m, j) ET_V(_store)(ET_DW(m, j), mask, c##m##_##j);
#define ET_MOVE_COLUMN(m, j) c##m##_##j = ET_V(_scale)(rate, c##m##_##j, ET_V(_load)(ET_DW(m, j), mask), mask);
#define ET_UPDATE_COLUMN(m, j) ET_MOVE_COLUMN(m, j) ET_STORE_COLUMN(m, j)
#define ET_LAST_ARGUMENT , ET_V(_mask) mask
#define ET_PIXEL_END
#endif

/* One pixel. The operands of the shorter side of a tile are loaded first and kept: 3 x 8 would not fit otherwise. */
#define ET_STEP_BY_ROW(ROWS, COLUMNS) \
    COLUMNS(ET_GRADIENT, 0)           \
    ROWS(ET_ADD, COLUMNS)
#define ET_STEP_BY_COLUMN_3(ROWS, COLUMNS)       \
    const float a0 = x[0], a1 = x[1], a2 = x[2]; \
    COLUMNS(ET_ADD_TO_3_ROWS, 0)
#define ET_ADD_TO_3_ROWS(m, j)   \
    {                            \
        ET_GRADIENT(m, j)        \
        ET_SUM(c0_##j, a0, b##j) \
        ET_SUM(c1_##j, a1, b##j) \
        ET_SUM(c2_##j, a2, b##j) \
        ET_BARRIER();            \
    }

#define ET_DECLARE(m, COLUMNS) COLUMNS(ET_DECLARE_COLUMN, m)
#define ET_STORE(m, COLUMNS) COLUMNS(ET_STORE_COLUMN, m)
#define ET_UPDATE(m, COLUMNS) COLUMNS(ET_UPDATE_COLUMN, m)
#if ET_LANES <= 4
#define ET_UPDATE_ALL(ROWS, COLUMNS) ROWS(ET_UPDATE, COLUMNS)
#else
/* On hosts, rows of narrow panels overlap as vectors do: one that is loaded after another was stored waits for it. */
#define ET_UPDATE_ALL(ROWS, COLUMNS) \
    ROWS(ET_MOVE, COLUMNS)           \
    ROWS(ET_STORE, COLUMNS)
#define ET_MOVE(m, COLUMNS) COLUMNS(ET_MOVE_COLUMN, m)
#endif
#define ET_WATCH_COLUMN(m, j) ET_WATCH(watch, c##m##_##j)
#define ET_WATCH_ROW(m, COLUMNS) COLUMNS(ET_WATCH_COLUMN, m)

/* Threads of a host hand sums on from samples to samples. */
#define ET_CHAINS (ET_THREADS && ET_LANES >= 8)

/* Sums that begin at others. */
#if ET_CHAINS || ET_WALK
#if ET_LANES == 1
#define ET_GIVEN_COLUMN(m, j) c##m##_##j = over->given[m * pitch + j];
#else
#define ET_GIVEN_COLUMN(m, j) c##m##_##j = ET_V(_load)(over->given + m * pitch + j * over->given_step, mask);
#endif
#define ET_GIVEN(m, COLUMNS) COLUMNS(ET_GIVEN_COLUMN, m)
#define ET_GO_ON(ROWS, COLUMNS)      \
    if (over->given != NULL) {       \
        ROWS(ET_GIVEN, COLUMNS)      \
    }
#else
#define ET_GO_ON(ROWS, COLUMNS)
#endif

/* `here`: the sum as it is for the tile at `target`, where a walk goes on with what the part before has left. */
#if ET_WALK
static tap_sum sum_at(const tap_sum *over, const float *target)
{
    tap_sum here = *over;
    if (over->sink->goes_on) {
        here.given = target;
        here.given_step = over->panel_step;
    }
    return here;
}
#define ET_HERE(target)                            \
    const tap_sum here_ = sum_at(over, target); \
    const tap_sum *const here = &here_;
#else
#define ET_HERE(target) const tap_sum *const here = over;
#endif

#define ET_FINISH_SUMS(ROWS, COLUMNS)                     \
    if (over->back == NULL) {                             \
        ROWS(ET_STORE, COLUMNS)                           \
    } else {                                              \
        et_watch watch = ET_WATCH_START;                  \
        ROWS(ET_WATCH_ROW, COLUMNS)                       \
        if (!ET_WATCH_IS_GOOD(watch))                     \
            return false;                                 \
        const ET_FACTOR rate = ET_FACTOR_OF(*over->back); \
        ET_UPDATE_ALL(ROWS, COLUMNS)                      \
    }                                                     \
    return true;

/* Gives false, and has changed nothing, if a weight was to be updated with a sum that is not finite. */
#define ET_DEFINE_WEIGHT(NAME, ROWS, COLUMNS, STEP)                                               \
    static ET_NOINLINE bool NAME(const tap_sum *over, const float *x, const float *dy, float *dw, \
                                 ptrdiff_t pitch ET_LAST_ARGUMENT)                                \
    {                                                                                             \
        ROWS(ET_DECLARE, COLUMNS)                                                                 \
        ET_GO_ON(ROWS, COLUMNS)                                                                   \
        const ptrdiff_t x_column = over->reach.x_column, dy_column = over->reach.dy_column;       \
        const ptrdiff_t width = over->reach.columns * dy_column;                                  \
        const ptrdiff_t x_row = over->reach.x_row, dy_row = over->reach.dy_row;                   \
        for (int32_t image = over->reach.images; image != 0; image--) {                           \
            for (int32_t row = over->reach.rows; row != 0; row--) {                               \
                const float *end = dy + width;                                                    \
                do {                                                                              \
                    STEP(ROWS, COLUMNS)                                                           \
                    x += x_column;                                                                \
                    dy += dy_column;                                                              \
                    ET_PIXEL_END                                                                  \
                } while (dy != end);                                                              \
                x += x_row;                                                                       \
                dy += dy_row;                                                                     \
            }                                                                                     \
            x += over->reach.x_image;                                                             \
            dy += over->reach.dy_image;                                                           \
        }                                                                                         \
        ET_FINISH_SUMS(ROWS, COLUMNS)                                                             \
    }

#if ET_LANES == 1

#if ET_SMALL_TILES
ET_DEFINE_WEIGHT(weight_2x2, ET_PIXELS_2, ET_COLUMNS_2, ET_STEP_BY_ROW)
ET_DEFINE_WEIGHT(weight_1x2, ET_PIXELS_1, ET_COLUMNS_2, ET_STEP_BY_ROW)
#elif ET_SMALL_CODE
ET_DEFINE_WEIGHT(weight_4x4, ET_PIXELS_4, ET_COLUMNS_4, ET_STEP_BY_ROW)
ET_DEFINE_WEIGHT(weight_4x1, ET_PIXELS_4, ET_COLUMNS_1, ET_STEP_BY_ROW)
ET_DEFINE_WEIGHT(weight_1x8, ET_PIXELS_1, ET_COLUMNS_8, ET_STEP_BY_ROW)
#else
ET_DEFINE_WEIGHT(weight_6x4, ET_PIXELS_6, ET_COLUMNS_4, ET_STEP_BY_ROW)
ET_DEFINE_WEIGHT(weight_6x1, ET_PIXELS_6, ET_COLUMNS_1, ET_STEP_BY_ROW)
ET_DEFINE_WEIGHT(weight_4x4, ET_PIXELS_4, ET_COLUMNS_4, ET_STEP_BY_ROW)
ET_DEFINE_WEIGHT(weight_4x1, ET_PIXELS_4, ET_COLUMNS_1, ET_STEP_BY_ROW)
ET_DEFINE_WEIGHT(weight_3x8, ET_PIXELS_3, ET_COLUMNS_8, ET_STEP_BY_COLUMN_3)
ET_DEFINE_WEIGHT(weight_3x1, ET_PIXELS_3, ET_COLUMNS_1, ET_STEP_BY_ROW)
ET_DEFINE_WEIGHT(weight_2x8, ET_PIXELS_2, ET_COLUMNS_8, ET_STEP_BY_ROW)
ET_DEFINE_WEIGHT(weight_1x16, ET_PIXELS_1, ET_COLUMNS_16, ET_STEP_BY_ROW)
ET_DEFINE_WEIGHT(weight_1x8, ET_PIXELS_1, ET_COLUMNS_8, ET_STEP_BY_ROW)
ET_DEFINE_WEIGHT(weight_1x4, ET_PIXELS_1, ET_COLUMNS_4, ET_STEP_BY_ROW)
#endif
#if ET_SMALL_TILES || !ET_SMALL_CODE
ET_DEFINE_WEIGHT(weight_2x1, ET_PIXELS_2, ET_COLUMNS_1, ET_STEP_BY_ROW)
#endif
ET_DEFINE_WEIGHT(weight_1x1, ET_PIXELS_1, ET_COLUMNS_1, ET_STEP_BY_ROW)

typedef bool weight_function(const tap_sum *over, const float *x, const float *dy, float *dw, ptrdiff_t pitch);

/* One tile shape per number of input channels: how many output channels at a time, most first. */
typedef struct {
    int8_t rows;
    int8_t wide;
    int8_t middle;
    int8_t few;
    weight_function *weight_wide;
    weight_function *weight_middle;
    weight_function *weight_few;
    weight_function *weight_one;
} weight_set;

static const weight_set *weights_for(int32_t rows, int32_t columns)
{
    (void)columns;
#if ET_SMALL_TILES
    static const weight_set two = {2, 2, 2, 2, weight_2x2, weight_2x2, weight_2x2, weight_2x1};
    static const weight_set one = {1, 2, 2, 2, weight_1x2, weight_1x2, weight_1x2, weight_1x1};
    return rows >= 2 ? &two : &one;
#elif ET_SMALL_CODE
    static const weight_set four = {4, 4, 4, 4, weight_4x4, weight_4x4, weight_4x4, weight_4x1};
    static const weight_set one = {1, 8, 8, 8, weight_1x8, weight_1x8, weight_1x8, weight_1x1};
    return rows >= 4 ? &four : &one;
#else
    static const weight_set six = {6, 4, 4, 4, weight_6x4, weight_6x4, weight_6x4, weight_6x1};
    static const weight_set four = {4, 4, 4, 4, weight_4x4, weight_4x4, weight_4x4, weight_4x1};
    static const weight_set three = {3, 8, 8, 8, weight_3x8, weight_3x8, weight_3x8, weight_3x1};
    static const weight_set two = {2, 8, 8, 8, weight_2x8, weight_2x8, weight_2x8, weight_2x1};
    static const weight_set one = {1, 16, 8, 4, weight_1x16, weight_1x8, weight_1x4, weight_1x1};
    if (rows >= 6 && (rows != 8 || columns % 8 == 0)) /* 8 is twice 4, or 6 and 2 by eights */
        return &six;
    return rows >= 4 ? &four : rows == 3 ? &three : rows == 2 ? &two : &one;
#endif
}

#define ET_MOST_SUMS 24 /* of one tile */

/* One tile, `rows` input channels by `columns` output channels, through memory. */
static ET_NOINLINE void weight_by_sink(const tap_sum *over, weight_function *weight, int32_t rows, int32_t columns,
                                       const float *x, const float *dy, float *target, int32_t pitch)
{
    float sums[ET_MOST_SUMS];
    tap_sum into_sums = *over;
    into_sums.back = NULL;
    if (weight(&into_sums, x, dy, sums, columns))
        et_sink_take(over->sink, rows, columns, sums, columns, target, pitch);
}

/* One tap: rows `first_row` ... of the panels, `rows` input channels by `columns` output channels. */
static void weight_panels(const tap_sum *over, int32_t rows, int32_t columns, const float *x,
                          const float *dy, float *dw, ptrdiff_t first_row)
{
    for (int32_t row = 0; row < rows;) {
        const weight_set *set = weights_for(rows - row, columns);
        ET_SKIP_UNLESS_OWN(first_row + row)
        for (int32_t panel = 0; panel < columns; panel += ET_PANEL) {
            const int32_t pitch = columns - panel < ET_PANEL ? columns - panel : ET_PANEL;
            float *target = dw + panel / ET_PANEL * over->panel_step + (first_row + row) * pitch;
            int32_t wide = set->wide;
            weight_function *weight = set->weight_wide;
            for (int32_t column = 0; column < pitch; column += wide) {
                const int32_t left = pitch - column;
                if (left < wide) {
                    wide = left >= set->middle ? set->middle : left >= set->few ? set->few : 1;
                    weight = left >= set->middle ? set->weight_middle
                             : left >= set->few  ? set->weight_few
                                                 : set->weight_one;
                }
                const float *gradient = dy + panel + column;
                ET_HERE(target + column)
                if (!over->direct || !weight(here, x + row, gradient, target + column, pitch))
                    weight_by_sink(over, weight, set->rows, wide, x + row, gradient, target + column, pitch);
            }
        }
        row += set->rows;
    }
}

#else

#define ET_VECTOR et_lanes
#if ET_LANES == 16
ET_DEFINE_WEIGHT(weight_8x2, ET_PIXELS_8, ET_COLUMNS_2, ET_STEP_BY_ROW)
ET_DEFINE_WEIGHT(weight_8x1, ET_PIXELS_8, ET_COLUMNS_1, ET_STEP_BY_ROW)
ET_DEFINE_WEIGHT(weight_4x2, ET_PIXELS_4, ET_COLUMNS_2, ET_STEP_BY_ROW)
#else
ET_DEFINE_WEIGHT(weight_6x1, ET_PIXELS_6, ET_COLUMNS_1, ET_STEP_BY_ROW)
#endif
ET_DEFINE_WEIGHT(weight_4x1, ET_PIXELS_4, ET_COLUMNS_1, ET_STEP_BY_ROW)
ET_DEFINE_WEIGHT(weight_2x2, ET_PIXELS_2, ET_COLUMNS_2, ET_STEP_BY_ROW)
ET_DEFINE_WEIGHT(weight_2x1, ET_PIXELS_2, ET_COLUMNS_1, ET_STEP_BY_ROW)
ET_DEFINE_WEIGHT(weight_1x4, ET_PIXELS_1, ET_COLUMNS_4, ET_STEP_BY_ROW)
ET_DEFINE_WEIGHT(weight_1x1, ET_PIXELS_1, ET_COLUMNS_1, ET_STEP_BY_ROW)
#undef ET_VECTOR

typedef bool weight_function(const tap_sum *over, const float *x, const float *dy, float *dw, ptrdiff_t pitch,
                             et_mask mask);

/* One tile shape per number of input channels: several full panels at a time, and one, full or narrow. */
typedef struct {
    int32_t rows;
    int32_t panels;
    weight_function *weight_wide;
    weight_function *weight_one;
} weight_set;

static const weight_set *weights_for(int32_t rows)
{
#if ET_LANES == 16
    static const weight_set most = {8, 2, weight_8x2, weight_8x1}, four = {4, 2, weight_4x2, weight_4x1};
#else
    static const weight_set most = {6, 1, weight_6x1, weight_6x1}, four = {4, 1, weight_4x1, weight_4x1};
#endif
    static const weight_set two = {2, 2, weight_2x2, weight_2x1}, one = {1, 4, weight_1x4, weight_1x1};
    return rows >= most.rows ? &most : rows >= 4 ? &four : rows >= 2 ? &two : &one;
}

#define ET_MOST_SUMS (16 * ET_PANEL) /* of one tile */

/* One tile, `rows` input channels by `panels` panels, all of them `pitch` columns wide, through memory. */
static ET_NOINLINE void weight_by_sink(const tap_sum *over, weight_function *weight, int32_t rows, int32_t panels,
                                       const float *x, const float *dy, float *target, int32_t pitch)
{
    float sums[ET_MOST_SUMS];
    tap_sum into_sums = *over;
    into_sums.back = NULL;
    into_sums.panel_step = (ptrdiff_t)rows * pitch;
    if (weight(&into_sums, x, dy, sums, pitch, et_mask_first(pitch)))
        for (int32_t panel = 0; panel < panels; panel++)
            et_sink_take(over->sink, rows, pitch, sums + panel * into_sums.panel_step, pitch,
                         target + panel * over->panel_step, pitch);
}

#if ET_CHAINS
/* One tile in a chain of threads: `over` has this thread's images. */
static void weight_in_chain(const tap_sum *over, weight_function *weight, int32_t rows, int32_t panels, const float *x,
                            const float *dy, float *target, int32_t pitch)
{
    tap_sum own = *over;
    const float *const given = et_threads_given();
    if (given != NULL || own.given == NULL) {
        own.given = given;
        own.given_step = (ptrdiff_t)rows * pitch;
    }
    float *const next = et_threads_next();
    if (next != NULL) {
        own.back = NULL;
        own.panel_step = (ptrdiff_t)rows * pitch;
        (void)weight(&own, x, dy, next, pitch, et_mask_first(pitch));
    } else if (!own.direct || !weight(&own, x, dy, target, pitch, et_mask_first(pitch))) {
        weight_by_sink(&own, weight, rows, panels, x, dy, target, pitch);
    }
    et_threads_tile_done();
}
#endif

static void weight_panels(const tap_sum *over, int32_t rows, int32_t columns, const float *x,
                          const float *dy, float *dw, ptrdiff_t first_row)
{
    for (int32_t row = 0; row < rows;) {
        const weight_set *set = weights_for(rows - row);
        float *panel = dw;
        ET_SKIP_UNLESS_OWN(first_row + row)
        for (int32_t column = 0; column < columns;) {
            const int32_t left = columns - column, pitch = left < ET_PANEL ? left : ET_PANEL;
            const bool wide = left >= set->panels * ET_PANEL;
            const int32_t panels = wide ? set->panels : 1;
            weight_function *weight = wide ? set->weight_wide : set->weight_one;
            float *target = panel + (first_row + row) * pitch;
            ET_HERE(target)
#if ET_CHAINS
            if (over->chained) {
                weight_in_chain(here, weight, set->rows, panels, x + row, dy + column, target, pitch);
            } else
#endif
            if (!over->direct || !weight(here, x + row, dy + column, target, pitch, et_mask_first(pitch)))
                weight_by_sink(over, weight, set->rows, panels, x + row, dy + column, target, pitch);
            column += panels * ET_PANEL;
            panel += panels * over->panel_step;
        }
        row += set->rows;
    }
}

#endif

#if ET_CHAINS
/* Where there are images for every thread, each goes over its own, the same as in other kernels: a cache line that two
 * threads read is slow to write for either. */
static bool is_chained(const et_conv_shape *shape)
{
    const int32_t threads = et_threads_count();
    return threads > 1 && shape->batch >= threads;
}

static tap_sum chained_sum(const et_conv_shape *shape, int32_t kh, int32_t kw, ptrdiff_t panel_step, et_sink *sink,
                           const float *back, bool direct)
{
    tap_sum over = {et_reach_of(shape, kh, kw), panel_step, sink, back, direct, false, NULL, 0};
    over.chained = is_chained(shape);
    if (over.chained && over.reach.images != 0) {
        const et_share own = et_share_of(shape->batch);
        over.reach.images = (int32_t)(own.end - own.first);
        over.reach.x_first += own.first * shape->height * shape->width * shape->channels;
        over.reach.dy_first += own.first * shape->out_height * shape->out_width * shape->out_channels;
    }
    return over;
}
#endif

#if ET_HAS_HALF
#include "et_nonzero.h"

#include "et_conv_grad_weight_sparse.inc"
#include "et_conv_grad_weight_taps.inc"
#endif

#if ET_FORM_TAPS && ET_LANES == 1 && !ET_SMALL_TILES
#include "et_conv_grad_weight_rows.inc"
#endif

static void weight_taps(const et_conv_shape *shape, et_sink *sink, const float *x, const float *dy, float *dw)
{
    const bool direct = et_sink_is_direct(sink);
    const float *back = direct && sink->mode == ET_SINK_UPDATE ? &sink->back : NULL;
    const int32_t groups = shape->groups;
    const int32_t group_channels = shape->channels / groups, group_outputs = shape->out_channels / groups;
    const ptrdiff_t panel_rows = (ptrdiff_t)shape->kernel_h * shape->kernel_w * group_channels;
#if ET_FORM_TAPS && ET_LANES == 1 && !ET_SMALL_TILES
    if (group_channels <= 2 && shape->kernel_w > 1 && group_outputs % 8 != 0) {
        weight_by_row_taps(shape, sink, x, dy, dw);
        return;
    }
#endif
#if ET_HAS_HALF
    if (weight_is_sparse(shape, sink, x, dy, dw))
        return;
    if (has_few_channels(shape)) {
        weight_by_taps(shape, sink, back, x, dy, dw);
        return;
    }
#endif
    for (int32_t kh = 0; kh < shape->kernel_h; kh++)
        for (int32_t kw = 0; kw < shape->kernel_w; kw++) {
#if ET_CHAINS
            const tap_sum over = chained_sum(shape, kh, kw, panel_rows * ET_PANEL, sink, back, direct);
#elif ET_THREADS || ET_WALK
            const tap_sum over = {et_reach_of(shape, kh, kw), panel_rows * ET_PANEL, sink, back, direct, false, NULL, 0};
#else
            const tap_sum over = {et_reach_of(shape, kh, kw), panel_rows * ET_PANEL, sink, back, direct};
#endif
            const float *x_first = x + over.reach.x_first, *dy_first = dy + over.reach.dy_first;
            const ptrdiff_t first_row = (ptrdiff_t)(kh * shape->kernel_w + kw) * group_channels;
            for (ptrdiff_t group = 0; group < groups; group++)
                weight_panels(&over, group_channels, group_outputs, x_first + group * group_channels,
                              dy_first + group * group_outputs, dw + group * panel_rows * group_outputs, first_row);
        }
}

et_status et_conv_grad_weight_f32(const et_conv_shape *shape, const float *x, const float *dy, float *dw,
                                  int32_t accumulate)
{
    et_sink sink = et_sink_gradient(accumulate);
    weight_taps(shape, &sink, x, dy, dw);
    return ET_OK;
}

et_status et_conv_update_f32(const et_conv_shape *shape, float learning_rate, float weight_decay, const float *x,
                             const float *dy, float *w)
{
    et_sink sink = et_sink_update(learning_rate, weight_decay);
    weight_taps(shape, &sink, x, dy, w);
    return et_sink_status(&sink);
}

et_status et_conv_momentum_f32(const et_conv_shape *shape, float learning_rate, float weight_decay, float momentum,
                              bool nesterov, const float *x, const float *dy, float *w, float *velocity)
{
    et_sink sink = et_sink_momentum(learning_rate, weight_decay, momentum, nesterov, w, velocity);
    weight_taps(shape, &sink, x, dy, w);
    return et_sink_status(&sink);
}

et_status et_conv_adam_f32(const et_conv_shape *shape, float learning_rate, const et_adam *options, const float *powers,
                          const float *x, const float *dy, float *w, float *m, float *v)
{
    et_sink sink = et_sink_adam(learning_rate, options, powers, w, m, v);
    weight_taps(shape, &sink, x, dy, w);
    return et_sink_status(&sink);
}
