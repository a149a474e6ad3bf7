#include "et_tile.h"

#include "et_tile_half.h"

#define ET_NEXT_X(m, COLUMNS) x##m += step;

#if ET_LANES == 1

/* Scalar tiles. Weights of a full panel sit at literal offsets, so one pointer step serves four rows; a narrow panel
 * takes one per row. Barriers are no instructions; they keep compilers from loading ahead into registers they lack. */
#define ET_DECLARE_COLUMN(m, j) float c##m##_##j = 0.0f;
#define ET_DECLARE(m, COLUMNS)       \
    const float *x##m = ET_X_SLICE(m); \
    COLUMNS(ET_DECLARE_COLUMN, m)
#define ET_START_COLUMN(m, j) c##m##_##j = bias[j];
#define ET_START(m, COLUMNS) COLUMNS(ET_START_COLUMN, m)
#define ET_WEIGHT_FULL(m, j) const float b##j = w[k * ET_PANEL + j];
#define ET_WEIGHT_NARROW(m, j) const float b##j = w[j];
#define ET_ADD_COLUMN(m, j) c##m##_##j = et_madd(a, b##j, c##m##_##j);
#define ET_ADD(m, COLUMNS)        \
    {                             \
        const float a = x##m[k];  \
        COLUMNS(ET_ADD_COLUMN, m) \
        ET_BARRIER();             \
    }
/* Of several pixels, each one's place is an address of its own; a lone pixel, or sums that are calls, have no register
 * for it. */
#define ET_FINISH_HERE_COLUMN(m, j) y[m][column + j] = c##m##_##j;
#define ET_FINISH_HERE(m, COLUMNS) COLUMNS(ET_FINISH_HERE_COLUMN, m)
#define ET_PIXELS_1_FINISH ET_FINISH_HERE
#if ET_SMALL_TILES
#define ET_PIXELS_2_FINISH ET_FINISH_HERE
#define ET_PIXELS_6_FINISH ET_FINISH_HERE
#else
#define ET_FINISH_COLUMN(m, j) to[j] = c##m##_##j;
#define ET_FINISH(m, COLUMNS)            \
    {                                    \
        float *const to = y[m] + column; \
        COLUMNS(ET_FINISH_COLUMN, m)     \
    }
#define ET_PIXELS_2_FINISH ET_FINISH
#define ET_PIXELS_4_FINISH ET_FINISH
#define ET_PIXELS_6_FINISH ET_FINISH
#endif

#define ET_ROW_FULL(K, PIXELS, COLUMNS) \
    {                                   \
        enum { k = K };                 \
        COLUMNS(ET_WEIGHT_FULL, 0)      \
        PIXELS(ET_ADD, COLUMNS)         \
    }
#define ET_ROWS_FULL(PIXELS, COLUMNS) w += ET_PANEL * step;
#define ET_ROW_NARROW(K, PIXELS, COLUMNS) \
    {                                     \
        enum { k = K };                   \
        COLUMNS(ET_WEIGHT_NARROW, 0)      \
        PIXELS(ET_ADD, COLUMNS)           \
        w += pitch;                       \
    }
#define ET_ROWS_NARROW(PIXELS, COLUMNS)

#define ET_ROWS_FULL_ADD_ON ET_ADD_ON
#if ET_FORM_ADDEND_NARROW || ET_SMALL_CODE || ET_SMALL_TILES
#define ET_ROWS_NARROW_ADD_ON ET_ADD_ON
#else
#define ET_ROWS_NARROW_ADD_ON(PIXELS, COLUMNS)
#endif

/* Slices of a tile lie side by side, or in one group after the other; a run may then be one of taps. */
#if ET_FORM_GROUPED && !ET_SMALL_TILES
#define ET_BETWEEN_SLICES(WIDTH)                                                             \
    const bool grouped = tile->groups > 1;                                                   \
    const ptrdiff_t panel_step = grouped ? tile->w_group : WIDTH;                            \
    const ptrdiff_t column_step = grouped ? tile->columns : WIDTH;                           \
    const ptrdiff_t x_slice = grouped ? tile->x_group : 0;                                   \
    ptrdiff_t x_at = -skip;
#define ET_NEXT_SLICE(WIDTH) panel += panel_step, column += column_step, x_at += x_slice
#define ET_X_SLICE(m) x[m] + x_at
#define ET_RUN_STEP const ptrdiff_t run_step = grouped ? tile->run_step : 1, run_length = run * run_step;
#define ET_STEP_OF_1 const ptrdiff_t step = run_step;
#else
#define ET_BETWEEN_SLICES(WIDTH)
#define ET_NEXT_SLICE(WIDTH) panel += WIDTH, column += WIDTH
#define ET_X_SLICE(m) x[m] - skip
#define ET_RUN_STEP const ptrdiff_t run_length = run;
#define ET_STEP_OF_1 enum { step = 1 };
#endif

/* A run: ROW is one step of the reduction, ROWS what follows `step` of them. */
#define ET_RUN_BY_1(PIXELS, COLUMNS, ROW, ROWS)            \
    for (const float *end = x0 + run_length; x0 != end;) { \
        ET_STEP_OF_1                                       \
        ROW(0, PIXELS, COLUMNS)                     \
        ROWS(PIXELS, COLUMNS)                       \
        PIXELS(ET_NEXT_X, COLUMNS)                  \
    }
#define ET_RUN_BY_4(PIXELS, COLUMNS, ROW, ROWS)           \
    for (const float *end = x0 + runs_of_4; x0 != end;) { \
        enum { step = 4 };                                \
        ROW(0, PIXELS, COLUMNS)                           \
        ROW(1, PIXELS, COLUMNS)                           \
        ROW(2, PIXELS, COLUMNS)                           \
        ROW(3, PIXELS, COLUMNS)                           \
        ROWS(PIXELS, COLUMNS)                             \
        PIXELS(ET_NEXT_X, COLUMNS)                        \
    }                                                     \
    for (const float *end = x0 + (run & 3); x0 != end;) { \
        enum { step = 1 };                                \
        ROW(0, PIXELS, COLUMNS)                           \
        ROWS(PIXELS, COLUMNS)                             \
        PIXELS(ET_NEXT_X, COLUMNS)                        \
    }

/* By fours, of which the first may be short: it is entered in its middle, as x and w begin `skip` rows before the run. */
#define ET_RUN_INTO_4(PIXELS, COLUMNS, ROW, ROWS)         \
    {                                                     \
        enum { step = 4 };                                \
        const float *end = x0 + (skip + run);             \
        switch (skip) {                                   \
            do {                                          \
            case 0:                                       \
                ROW(0, PIXELS, COLUMNS)                   \
                ET_FALLTHROUGH                            \
            case 1:                                       \
                ROW(1, PIXELS, COLUMNS)                   \
                ET_FALLTHROUGH                            \
            case 2:                                       \
                ROW(2, PIXELS, COLUMNS)                   \
                ET_FALLTHROUGH                            \
            default:                                      \
                ROW(3, PIXELS, COLUMNS)                   \
                ROWS(PIXELS, COLUMNS)                     \
                PIXELS(ET_NEXT_X, COLUMNS)                \
            } while (x0 != end);                          \
        }                                                 \
    }

/* How many rows before a run x begins, and by how many floats a row the weights then do. */
#define ET_RUN_BY_1_SKIP(run) 0
#define ET_RUN_BY_4_SKIP(run) 0
#define ET_RUN_OF_FEW_SKIP(run) 0
#define ET_RUN_INTO_4_SKIP(run) (-(run) & 3)
#define ET_ROWS_FULL_SKIP ET_PANEL
#define ET_ROWS_NARROW_SKIP 0

#if ET_SMALL_TILES || ET_FORM_GROUPED
#define ET_RUN_OF_FEW ET_RUN_BY_1
#define ET_RUN_OF_REST ET_RUN_BY_1
#define ET_RUN_OF_REST_SKIP ET_RUN_BY_1_SKIP
#else
#define ET_RUN_OF_FEW ET_RUN_BY_4
#define ET_RUN_OF_REST ET_RUN_INTO_4
#define ET_RUN_OF_REST_SKIP ET_RUN_INTO_4_SKIP
#endif

/* `slices` times PIXELS x WIDTH sums, WIDTH being the number of COLUMNS; slices lie side by side in the panel. */
#define ET_DEFINE_SUM(NAME, PIXELS, COLUMNS, WIDTH, RUN, ROW, ROWS)                                             \
    static ET_NOINLINE void NAME(const et_tile *tile, const float *const *x, float *const *y, ptrdiff_t column, \
                                 const float *panel, ptrdiff_t pitch, int32_t slices)                           \
    {                                                                                                           \
        const ptrdiff_t run = tile->run, runs_of_4 = run & ~(ptrdiff_t)3, skip = RUN##_SKIP(run);               \
        (void)runs_of_4;                                                                                        \
        ET_BETWEEN_SLICES(WIDTH)                                                                                \
        ET_RUN_STEP                                                                                             \
        const ptrdiff_t w_skip = skip * ROWS##_SKIP, x_tap_w = tile->x_tap_w - run_length - skip;                      \
        const ptrdiff_t w_tap_w = (tile->w_tap_w - run) * pitch - w_skip;                                       \
        const ptrdiff_t x_tap_h = tile->x_tap_h - tile->x_tap_w * tile->taps_w;                                 \
        const ptrdiff_t w_tap_h = (tile->w_tap_h - tile->w_tap_w * tile->taps_w) * pitch;                       \
        panel -= w_skip;                                                                                        \
        for (; slices != 0; slices--, ET_NEXT_SLICE(WIDTH)) {                                                   \
            const float *w = panel;                                                                             \
            PIXELS(ET_DECLARE, COLUMNS)                                                                         \
            if (tile->bias != NULL) {                                                                           \
                const float *bias = tile->bias + column;                                                        \
                PIXELS(ET_START, COLUMNS)                                                                       \
            }                                                                                                   \
            int32_t taps_h = tile->taps_h;                                                                      \
            for (;;) {                                                                                          \
                int32_t taps_w = tile->taps_w;                                                                  \
                for (;;) {                                                                                      \
                    RUN(PIXELS, COLUMNS, ROW, ROWS)                                                             \
                    if (--taps_w == 0)                                                                          \
                        break;                                                                                  \
                    const ptrdiff_t step = x_tap_w;                                                             \
                    PIXELS(ET_NEXT_X, COLUMNS)                                                                  \
                    w += w_tap_w;                                                                               \
                }                                                                                               \
                if (--taps_h == 0)                                                                              \
                    break;                                                                                      \
                const ptrdiff_t step = x_tap_h + x_tap_w;                                                       \
                PIXELS(ET_NEXT_X, COLUMNS)                                                                      \
                w += w_tap_h + w_tap_w;                                                                         \
            }                                                                                                   \
            ROWS##_ADD_ON(PIXELS, COLUMNS)                                                                      \
            ET_RECTIFY(PIXELS, COLUMNS)                                                                         \
            PIXELS(PIXELS##_FINISH, COLUMNS)                                                                    \
        }                                                                                                       \
    }

#if ET_SMALL_CODE && !ET_SMALL_TILES

/* A full panel is then as a narrow one of 16 columns. */
ET_DEFINE_SUM(narrow_6x4, ET_PIXELS_6, ET_COLUMNS_4, 4, ET_RUN_INTO_4, ET_ROW_NARROW, ET_ROWS_NARROW)
ET_DEFINE_SUM(narrow_6x1, ET_PIXELS_6, ET_COLUMNS_1, 1, ET_RUN_BY_1, ET_ROW_NARROW, ET_ROWS_NARROW)
ET_DEFINE_SUM(narrow_2x4, ET_PIXELS_2, ET_COLUMNS_4, 4, ET_RUN_BY_4, ET_ROW_NARROW, ET_ROWS_NARROW)
ET_DEFINE_SUM(narrow_2x1, ET_PIXELS_2, ET_COLUMNS_1, 1, ET_RUN_BY_1, ET_ROW_NARROW, ET_ROWS_NARROW)
ET_DEFINE_SUM(narrow_1x4, ET_PIXELS_1, ET_COLUMNS_4, 4, ET_RUN_BY_4, ET_ROW_NARROW, ET_ROWS_NARROW)
ET_DEFINE_SUM(narrow_1x1, ET_PIXELS_1, ET_COLUMNS_1, 1, ET_RUN_BY_1, ET_ROW_NARROW, ET_ROWS_NARROW)

#else

#if !ET_SMALL_TILES
ET_DEFINE_SUM(sum_6x4, ET_PIXELS_6, ET_COLUMNS_4, 4, ET_RUN_INTO_4, ET_ROW_FULL, ET_ROWS_FULL)
ET_DEFINE_SUM(sum_4x4, ET_PIXELS_4, ET_COLUMNS_4, 4, ET_RUN_BY_4, ET_ROW_FULL, ET_ROWS_FULL)
ET_DEFINE_SUM(sum_2x8, ET_PIXELS_2, ET_COLUMNS_8, 8, ET_RUN_BY_4, ET_ROW_FULL, ET_ROWS_FULL)
ET_DEFINE_SUM(sum_1x16, ET_PIXELS_1, ET_COLUMNS_16, 16, ET_RUN_BY_4, ET_ROW_FULL, ET_ROWS_FULL)
ET_DEFINE_SUM(narrow_6x4, ET_PIXELS_6, ET_COLUMNS_4, 4, ET_RUN_INTO_4, ET_ROW_NARROW, ET_ROWS_NARROW)
ET_DEFINE_SUM(narrow_6x1, ET_PIXELS_6, ET_COLUMNS_1, 1, ET_RUN_BY_1, ET_ROW_NARROW, ET_ROWS_NARROW)
ET_DEFINE_SUM(narrow_4x4, ET_PIXELS_4, ET_COLUMNS_4, 4, ET_RUN_BY_1, ET_ROW_NARROW, ET_ROWS_NARROW)
ET_DEFINE_SUM(narrow_4x1, ET_PIXELS_4, ET_COLUMNS_1, 1, ET_RUN_BY_1, ET_ROW_NARROW, ET_ROWS_NARROW)
ET_DEFINE_SUM(narrow_2x8, ET_PIXELS_2, ET_COLUMNS_8, 8, ET_RUN_BY_1, ET_ROW_NARROW, ET_ROWS_NARROW)
ET_DEFINE_SUM(narrow_1x8, ET_PIXELS_1, ET_COLUMNS_8, 8, ET_RUN_BY_4, ET_ROW_NARROW, ET_ROWS_NARROW)
#if ET_FORM_NARROW
ET_DEFINE_SUM(narrow_6x3, ET_PIXELS_6, ET_COLUMNS_3, 3, ET_RUN_OF_REST, ET_ROW_NARROW, ET_ROWS_NARROW)
ET_DEFINE_SUM(narrow_6x2, ET_PIXELS_6, ET_COLUMNS_2, 2, ET_RUN_OF_REST, ET_ROW_NARROW, ET_ROWS_NARROW)
#endif
#endif
ET_DEFINE_SUM(narrow_2x2, ET_PIXELS_2, ET_COLUMNS_2, 2, ET_RUN_BY_1, ET_ROW_NARROW, ET_ROWS_NARROW)
ET_DEFINE_SUM(narrow_2x1, ET_PIXELS_2, ET_COLUMNS_1, 1, ET_RUN_BY_1, ET_ROW_NARROW, ET_ROWS_NARROW)
ET_DEFINE_SUM(narrow_1x2, ET_PIXELS_1, ET_COLUMNS_2, 2, ET_RUN_OF_FEW, ET_ROW_NARROW, ET_ROWS_NARROW)
ET_DEFINE_SUM(narrow_1x1, ET_PIXELS_1, ET_COLUMNS_1, 1, ET_RUN_BY_1, ET_ROW_NARROW, ET_ROWS_NARROW)

#endif

typedef void sum_function(const et_tile *tile, const float *const *x, float *const *y, ptrdiff_t column,
                          const float *panel, ptrdiff_t pitch, int32_t slices);

/* One tile shape per number of pixels: how many columns at a time in full panels, in narrow ones, and at their end. */
typedef struct {
    int8_t full;
    int8_t wide;
    int8_t rest;
    sum_function *sum_full;
    sum_function *sum_wide;
    sum_function *sum_rest;
    sum_function *sum_last;
} sum_set;

static const sum_set *sums_for(int32_t pixels)
{
#if ET_SMALL_TILES
    static const sum_set two = {2, 2, 2, narrow_2x2, narrow_2x2, narrow_2x2, narrow_2x1};
    static const sum_set one = {2, 2, 2, narrow_1x2, narrow_1x2, narrow_1x2, narrow_1x1};
    return pixels == 2 ? &two : &one;
#elif ET_SMALL_CODE
    static const sum_set six = {4, 4, 1, narrow_6x4, narrow_6x4, narrow_6x1, narrow_6x1};
    static const sum_set two = {4, 4, 1, narrow_2x4, narrow_2x4, narrow_2x1, narrow_2x1};
    static const sum_set one = {4, 4, 1, narrow_1x4, narrow_1x4, narrow_1x1, narrow_1x1};
    return pixels == 6 ? &six : pixels == 2 ? &two : &one;
#else
    static const sum_set six = {4, 4, 1, sum_6x4, narrow_6x4, narrow_6x1, narrow_6x1};
    static const sum_set four = {4, 4, 1, sum_4x4, narrow_4x4, narrow_4x1, narrow_4x1};
    static const sum_set two = {8, 8, 2, sum_2x8, narrow_2x8, narrow_2x2, narrow_2x1};
    static const sum_set one = {16, 8, 2, sum_1x16, narrow_1x8, narrow_1x2, narrow_1x1};
    return pixels == 6 ? &six : pixels == 4 ? &four : pixels == 2 ? &two : &one;
#endif
}

#if ET_FORM_NARROW && !ET_SMALL_TILES
/* The last one to three columns. */
static sum_function *sum_of_rest(const sum_set *sums, int32_t pixels, int32_t rest)
{
    return pixels != 6 ? sums->sum_last : rest == 3 ? narrow_6x3 : rest == 2 ? narrow_6x2 : narrow_6x1;
}
#endif

#if ET_FORM_GROUPED && !ET_SMALL_TILES
/* Columns from `column` on of all groups. */
static void sum_groups(const et_tile *tile, int32_t pixels, const float *const *x, float *const *y)
{
    const sum_set *sums = sums_for(pixels);
    const float *w = tile->w + tile->w_first * tile->columns;
    for (int32_t column = 0, width; column < tile->columns; column += width) {
        const int32_t left = tile->columns - column;
        sum_function *sum = sums->sum_wide;
        width = sums->wide;
        if (left < width && pixels == 6) {
            width = left;
            sum = sum_of_rest(sums, pixels, left);
        } else if (left < width) {
            width = left >= sums->rest ? sums->rest : 1;
            sum = left >= sums->rest ? sums->sum_rest : sums->sum_last;
        }
        sum(tile, x, y, column, w + column, tile->columns, tile->groups);
    }
}
#endif

void et_tile_sum(const et_tile *tile, int32_t pixels, const float *const *x, float *const *y)
{
#if ET_FORM_GROUPED && !ET_SMALL_TILES
    if (tile->groups > 1) {
        sum_groups(tile, pixels, x, y);
        return;
    }
#endif
    const sum_set *sums = sums_for(pixels);
    const int32_t columns = tile->columns, pitch = columns & (ET_PANEL - 1);
    const float *w = tile->w + tile->w_first * ET_PANEL;
    int32_t column = 0;
    for (; column < columns - pitch; column += ET_PANEL, w += tile->panel_rows * ET_PANEL)
        sums->sum_full(tile, x, y, column, w, ET_PANEL, ET_PANEL / sums->full);
    w = tile->w + (columns - pitch) * tile->panel_rows + tile->w_first * pitch;
    const int32_t wide = pitch & ~(sums->wide - 1), rest = (pitch - wide) & ~(sums->rest - 1);
    if (wide != 0)
        sums->sum_wide(tile, x, y, column, w, pitch, wide / sums->wide);
#if ET_FORM_NARROW && !ET_SMALL_TILES
    if (rest > 1 && pixels == 6) {
        sum_of_rest(sums, pixels, rest)(tile, x, y, column + wide, w + wide, pitch, 1);
        return;
    }
#endif
    if (rest != 0)
        sums->sum_rest(tile, x, y, column + wide, w + wide, pitch, rest / sums->rest);
    if (pitch != wide + rest)
        sums->sum_last(tile, x, y, column + wide + rest, w + wide + rest, pitch, pitch - wide - rest);
}

#else
#include "et_tile_vector.inc"
#endif

/* The largest tile that `left` pixels fill, of those that there are. */
static int32_t tile_pixels(int32_t left)
{
    if (left >= ET_TILE_PIXELS)
        return ET_TILE_PIXELS;
    if (ET_SMALL_CODE && ET_LANES == 1)
        return left >= 2 ? 2 : 1;
    return left >= 6 ? 6 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

void et_tile_region(const et_tile *tile, const et_region *region, et_tile_function *function)
{
    const float *x[ET_TILE_PIXELS], *x_row = region->x, *x_next = x_row;
    float *y[ET_TILE_PIXELS], *y_row = region->y, *y_next = y_row;
    int32_t column = 0;
    for (int32_t left = region->rows * region->columns; left > 0;) {
        const int32_t pixels = tile_pixels(left);
#if ET_LANES >= 8
        /* Pixels of one row: compilers find them all at once. */
        if (column + pixels < region->columns) {
            for (int32_t m = 0; m < pixels; m++) {
                x[m] = x_next + m * region->x_column;
                y[m] = y_next + m * region->y_column;
            }
            x_next += pixels * region->x_column;
            y_next += pixels * region->y_column;
            column += pixels;
            function(tile, pixels, x, y);
            left -= pixels;
            continue;
        }
#endif
        for (int32_t m = 0; m < pixels; m++) {
            x[m] = x_next;
            y[m] = y_next;
            x_next += region->x_column;
            y_next += region->y_column;
            if (++column == region->columns) {
                column = 0;
                x_next = x_row += region->x_row;
                y_next = y_row += region->y_row;
            }
        }
        function(tile, pixels, x, y);
        left -= pixels;
    }
}

void et_fill_region(const et_tile *tile, const et_region *region)
{
    const int32_t columns = et_tile_columns(tile);
    for (int32_t row = 0; row < region->rows; row++)
        for (int32_t column = 0; column < region->columns; column++) {
            float *y = region->y + row * region->y_row + column * region->y_column;
#if ET_FORM_ADDEND
            if (tile->end.addend != NULL) {
                for (int32_t j = 0; j < columns; j++)
                    y[j] = et_ended(tile->bias != NULL ? tile->bias[j] : 0.0f, tile->end, y + j);
                continue;
            }
#endif
            for (int32_t j = 0; j < columns; j++) {
                y[j] = tile->bias != NULL ? tile->bias[j] : 0.0f;
#if ET_FORM_RECTIFY
                y[j] = et_rectified(y[j], tile->end);
#endif
            }
        }
}
